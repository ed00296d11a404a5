import itertools
from collections.abc import Callable

import pytest

from redarte.images.splitting.sizes import SplitSizes, fold, holdout, split_sizes
from redarte.params import Params
from redarte.runtime.errors import UserError
from tests.conftest import Workspace, tree_bytes, write_painting

MakeSettings = Callable[..., Params]


@pytest.mark.parametrize(
    ("count", "parts"),
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (12, (10, 1, 1)), (20, (16, 2, 2)), (877, (701, 88, 88))],
)
def test_ratios(settings: MakeSettings, count: int, parts: tuple[int, int, int]) -> None:
    assert holdout(count, settings().split)[:3] == parts


@pytest.mark.parametrize("ratio", [(0.8, 0.1, 0.1), (0.34, 0.33, 0.33), (0.02, 0.49, 0.49), (0.05, 0.9, 0.05)])
def test_every_split_gets_an_image_and_every_image_a_split(
    settings: MakeSettings, ratio: tuple[float, float, float]
) -> None:
    chosen = settings(dict(zip(("split.train", "split.val", "split.test"), ratio, strict=True))).split
    for count in range(3, 200):
        parts = holdout(count, chosen)
        assert sum(parts[:3]) == count
        assert min(parts[:3]) >= 1


@pytest.mark.parametrize("sizes", [holdout, lambda count, split: fold(count, 0, split)])
def test_two_images_cannot_be_split(settings: MakeSettings, sizes: Callable[..., SplitSizes]) -> None:
    with pytest.raises(ValueError, match="2 images cannot be split"):
        sizes(2, settings({"split.folds": 5}).split)


def test_a_too_small_artist_is_named(settings: MakeSettings) -> None:
    with pytest.raises(UserError, match=r"Ben \(2\), Cleo \(1\); an artist needs 3") as caught:
        split_sizes({"Ana": 9, "Ben": 2, "Cleo": 1, "Dora": 9}, settings().split)
    assert str(caught.value).endswith("add images, or set split.too_small to train_only or leave_out.")


def test_a_too_small_artist_can_be_train_only_or_left_out(settings: MakeSettings) -> None:
    counts = {"Ana": 10, "Ben": 2, "Cleo": 10}
    learned = split_sizes(counts, settings({"split.too_small": "train_only"}).split)
    assert learned == {"Ana": SplitSizes(8, 1, 1, 9), "Ben": SplitSizes(2, 0, 0, 2), "Cleo": SplitSizes(8, 1, 1, 9)}
    left = split_sizes(counts, settings({"split.too_small": "leave_out"}).split)
    assert list(left) == ["Ana", "Cleo"]


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_over_the_folds_every_image_is_tested_once(settings: MakeSettings, folds: int) -> None:
    chosen = [settings({"split.folds": folds, "split.fold": number}).split for number in range(folds)]
    for count in range(3, 60):
        for index in range(3):
            parts = [fold(count, index, one) for one in chosen]
            tested = [number for part in parts for number in range(part.before, part.before + part.test)]
            assert sorted(tested) == list(range(count))
            assert max(part.test for part in parts) - min(part.test for part in parts) <= 1
            assert all(sum(part[:3]) == count and part.train >= 1 for part in parts)
            assert all(part.val >= 1 for part in parts if count - part.test > 1)


def test_the_example_of_fold(settings: MakeSettings) -> None:
    of_five = [settings({"split.folds": 5, "split.fold": number}).split for number in range(5)]
    assert fold(12, 0, of_five[0]) == SplitSizes(8, 1, 3, before=0)
    assert fold(12, 0, of_five[4]) == SplitSizes(9, 1, 2, before=10)
    # The second artist's first fold is its second fifth.
    assert fold(12, 1, of_five[0]) == SplitSizes(8, 1, 3, before=3)
    assert fold(100, 0, of_five[0]) == SplitSizes(71, 9, 20, before=0)
    counts = {"Cleo": 100, "Ana": 12, "Ben": 12}
    assert split_sizes(counts, of_five[0]) == {
        "Ana": SplitSizes(8, 1, 3, before=0),
        "Ben": SplitSizes(8, 1, 3, before=3),
        "Cleo": SplitSizes(71, 9, 20, before=40),
    }


def test_the_smallest_valid_split(settings: MakeSettings) -> None:
    assert split_sizes({"Ana": 3, "Ben": 9}, settings().split)["Ana"] == SplitSizes(1, 1, 1, before=2)
    assert split_sizes({"Ana": 9, "Ben": 12}, settings({"split.folds": 12}).split)["Ben"].test == 1


def test_more_folds_than_images_is_an_error(settings: MakeSettings) -> None:
    with pytest.raises(UserError, match=r"split\.folds is 20, and no artist has so many"):
        split_sizes({"Ana": 9, "Ben": 12}, settings({"split.folds": 20}).split)


def test_fewer_than_two_artists_left_is_an_error(settings: MakeSettings) -> None:
    with pytest.raises(UserError, match="needs two artists"):
        split_sizes({"Ana": 10, "Ben": 2}, settings({"split.too_small": "leave_out"}).split)


def test_the_stage_assigns_every_image_once(workspace: Workspace) -> None:
    raw = workspace.path / "data/raw"
    seeds = itertools.count()
    for artist, count in {"Ana": 12, "Ben ü": 3, "Cleo": 2}.items():
        for number in range(count):
            write_painting(raw / artist / f"{number}.jpg", seed=next(seeds))
    refused = workspace.stage("split", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("redarte split: too few images to split: Cleo (2)")
    assert not (workspace.path / "data/split").exists()
    workspace.set({"split.too_small": "train_only"})
    workspace.stage("split")
    parted = tree_bytes(workspace.path / "data/split")
    assert {name.partition("/")[2] for name in parted} == set(tree_bytes(raw))
    assert len(parted) == 17
    counts = {split: sum(name.startswith(split) for name in parted) for split in ("train", "val", "test")}
    assert counts == {"train": 13, "val": 2, "test": 2}
