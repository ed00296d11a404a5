"""Corrected images stay in the split that they have without the correction."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from redarte.images import decoding, folders, splitting
from redarte.images.splitting.corrections import RawImage
from redarte.params import Params
from redarte.runtime import outputs, tables
from redarte.runtime.errors import UserError
from redarte.stages import split as stage
from tests.conftest import write_params

pytestmark = pytest.mark.usefixtures("one_worker")
COUNTS = {"Ana": 20, "Ben": 20, "Cleo": 4}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with edges that no other image has."""
    folder = tmp_path_factory.mktemp("corrected") / "tree"
    rng = np.random.default_rng(0)
    for artist, count in COUNTS.items():
        (folder / artist).mkdir(parents=True)
        for number in range(count):
            noise = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            image = cv2.resize(noise, (96, 96), interpolation=cv2.INTER_CUBIC)
            decoding.write_jpeg(folder / artist / f"{artist}{number}.jpg", image, quality=90)
    return folder


class Split:
    """data/raw and data/split of a tree with corrections."""

    def __init__(self, tree: Path, root: Path, changes: dict[str, object], rows: list[str]):
        root.mkdir()
        (root / "corrections.csv").write_text("\n".join(["image,artist,action", *rows]), encoding="utf-8")
        write_params(root / "params.yaml", {f"split.{name}": value for name, value in changes.items()})
        shutil.copytree(tree, root / "data/raw")
        with contextlib.chdir(root):
            for name in splitting.SPLITS:
                Path("data/split", name).mkdir(parents=True)
            Path("metrics").mkdir()
            stage.main()
            self.metrics = outputs.read_json(Path("metrics/split.json"))
            self.rows = {row["source"]: row for row in tables.read(Path("data/images.csv"))}
        self.folder = root / "data/split"

    def split_of(self) -> dict[str, str]:
        return {source: row["split"] for source, row in self.rows.items()}

    def common(self) -> set[str]:
        return {source for source, row in self.rows.items() if row["common_test"] == "yes"}

    def images(self, split: str) -> set[str]:
        return set(folders.files_by_id(self.folder / split))


@pytest.fixture
def split(tree: Path, tmp_path: Path) -> Callable[..., Split]:
    made = iter(range(100))

    def make(*rows: str, is_applied: bool = True, source: Path = tree, **changes: object) -> Split:
        return Split(source, tmp_path / str(next(made)), {**changes, "apply_corrections": is_applied}, list(rows))

    return make


def test_corrections_change_no_other_image(split: Callable[..., Split]) -> None:
    before = split()
    tested = sorted(before.images("test"))
    assert [name.partition("/")[0] for name in tested] == ["Ana", "Ana", "Ben", "Ben", "Cleo"]
    trained = sorted(name for name in before.images("train") if name.startswith("Ben/"))
    rows = [f"{tested[0]},Ben,relabel", f"{trained[0]},Dora,relabel", f"{trained[1]},,exclude", f"{trained[2]},,keep"]
    after, ignored = (split(*rows, is_applied=applied, too_small="train_only") for applied in (True, False))
    expected = before.split_of() | {trained[1]: ""}
    assert after.split_of() == expected
    stem = tested[0].partition("/")[2]
    assert after.rows[tested[0]]["image"] == f"Ben/{stem}"
    assert after.images("test") == {f"Ben/{stem}", *tested[1:]}
    assert ignored.split_of() == before.split_of()
    assert after.common() == ignored.common() == set(tested[1:])
    assert before.common() == set(tested)


def test_a_split_that_loses_all_images_of_an_artist_gets_others(split: Callable[..., Split]) -> None:
    before = split()
    tested = next(name for name in before.images("test") if name.startswith("Cleo/"))
    after, ignored = (split(f"{tested},Ben,relabel", is_applied=applied) for applied in (True, False))
    own = [row["split"] for row in after.rows.values() if row["image"].startswith("Cleo/")]
    assert sorted(own) == ["test", "train", "val"]
    # None of Cleo's images is a test image with and without the correction.
    assert after.common() == ignored.common() == before.images("test") - {tested}
    # An artist that is not in the source, with training images only.
    trained = sorted(name for name in before.images("train") if name.startswith("Ben/"))[:3]
    dora = split(*(f"{name},Dora,relabel" for name in trained))
    assert {row["split"] for row in dora.rows.values() if row["image"].startswith("Dora/")} == {"train", "val", "test"}


@pytest.mark.parametrize("emptied", splitting.SPLITS)
def test_the_largest_split_gives_images_to_an_empty_one(
    settings: Callable[..., Params], tmp_path: Path, emptied: str
) -> None:
    """And keeps one: of 20 images, 16 are in train, 2 in val and 2 in test."""
    images = [f"{artist}/{number:02}.jpg" for artist in ("Ana", "Ben") for number in range(20)]

    def assigned(excluded: set[str]) -> dict[str, str]:
        raw = [RawImage(image, None if image in excluded else image) for image in images]
        return splitting.assign(tmp_path, raw, [], [], settings().split, 0)[0].splits

    before = assigned(set())
    excluded = {image for image, split in before.items() if split == emptied and image.startswith("Ana/")}
    after = assigned(excluded)
    assert set(after) == set(before) - excluded
    counts = Counter(split for image, split in after.items() if image.startswith("Ana/"))
    expected = {"train": 1, "val": 1, "test": 2} if emptied == "train" else {"train": 14, "val": 2, "test": 2}
    assert counts == expected
    moved = {image for image in after if after[image] != before[image]}
    assert all(after[image] == emptied and image.startswith("Ana/") for image in moved)


def test_too_small_after_a_correction(split: Callable[..., Split]) -> None:
    rows = [f"Cleo/Cleo{number},,exclude" for number in range(2)]
    with pytest.raises(UserError, match=r"too few images to split: Cleo \(2\)"):
        split(*rows)
    assert split(*rows, is_applied=False).split_of() == split().split_of()
    only_trained = split(*rows, too_small="train_only")
    assert [only_trained.split_of()[f"Cleo/Cleo{number}"] for number in range(4)] == ["", "", "train", "train"]
    assert only_trained.metrics["names_never_tested"] == ["Cleo"]


def test_an_excluded_near_duplicate_leaves_the_others_in_their_splits(
    split: Callable[..., Split], tree: Path, tmp_path: Path
) -> None:
    twins = tmp_path / "twins"
    shutil.copytree(tree, twins)
    # Encoded again, so that the bytes differ.
    decoding.write_jpeg(twins / "Ben/twin.jpg", decoding.read_within(twins / "Ana/Ana0.jpg", 200), quality=80)
    before = split(source=twins)
    assert before.rows["Ana/Ana0"]["near_duplicates"] == before.rows["Ben/twin"]["near_duplicates"] == "1"
    # Their artist is disputed.
    assert before.split_of()["Ana/Ana0"] == before.split_of()["Ben/twin"] == "train"
    after = split("Ben/twin,,exclude", source=twins)
    assert after.split_of() == before.split_of() | {"Ben/twin": ""}, "Ana0 stays in train, although it is alone now"
    assert after.metrics["near_duplicates"]["groups"] == 0


def test_near_duplicates_of_two_artists_that_are_kept_are_different_works(
    split: Callable[..., Split], tree: Path, tmp_path: Path
) -> None:
    """Images that are kept within one artist, whose label is right, stay together."""
    twins = tmp_path / "twins"
    shutil.copytree(tree, twins)
    for name, source in {"Ben/twin": "Ana/Ana0", "Ben/copy": "Ben/Ben0"}.items():
        decoding.write_jpeg(twins / f"{name}.jpg", decoding.read_within(twins / f"{source}.jpg", 200), quality=80)
    before = split(source=twins)
    rows = [f"{name},,keep" for name in ("Ana/Ana0", "Ben/twin", "Ben/Ben0", "Ben/copy")]
    one, after, ignored = (split(*kept, source=twins) for kept in (rows[:1], rows, ()))
    assert one.rows == before.rows == ignored.rows
    assert [after.rows[name]["near_duplicates"] for name in ("Ana/Ana0", "Ben/twin")] == ["", ""]
    assert after.rows["Ben/Ben0"]["near_duplicates"] == after.rows["Ben/copy"]["near_duplicates"] == "1"
    assert after.split_of() == before.split_of(), "corrections change the split of no other image"
    assert after.common() == split(*rows, source=twins, is_applied=False).common()
    counts = {"groups": 1, "images": 2, "groups_across_artists": 0, "test_images_with_duplicate_in_train": 0}
    assert after.metrics["near_duplicates"] == counts
    tested = [name for fold in range(4) for name in split(*rows, source=twins, folds=4, fold=fold).images("test")]
    assert {"Ana/Ana0", "Ben/twin"} < set(tested) and len(tested) == len(set(tested)) == 46


def test_names_with_line_ends_are_one_row(tree: Path, tmp_path: Path, split: Callable[..., Split]) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(tree, odd)
    for number, name in enumerate(("a\u2028b", "a\rb", 'a"b', "a,b")):
        (odd / f"Ana/Ana{number}.jpg").rename(odd / f"Ana/{name}.jpg")
    rows = split(source=odd).rows
    assert {"Ana/a\u2028b", "Ana/a\rb", 'Ana/a"b', "Ana/a,b"} <= set(rows) and len(rows) == 44


def test_system_files_are_no_images(tree: Path, tmp_path: Path, split: Callable[..., Split]) -> None:
    shutil.copytree(tree, tmp_path / "mac")
    for name in (".DS_Store", "Ana/.DS_Store", "Ben/Thumbs.db", "@eaDir/x"):
        (tmp_path / "mac" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "mac" / name).touch()
    assert split(source=tmp_path / "mac").split_of() == split().split_of()


def test_over_the_folds_every_image_is_tested_once(split: Callable[..., Split]) -> None:
    rows = ["Ana/Ana1,Ben,relabel", "Ben/Ben2,Cleo,relabel", "Ben/Ben3,,exclude"]
    tested = [name for fold in range(3) for name in split(*rows, folds=3, fold=fold).images("test")]
    assert len(tested) == len(set(tested)) == 43


@pytest.mark.parametrize("too_small", ["train_only", "leave_out"])
def test_over_the_folds_corrections_are_as_images_sorted_by_hand(
    split: Callable[..., Split], tree: Path, tmp_path: Path, too_small: str
) -> None:
    """Four of nineteen images were never tested: artists that only corrections make large enough, disputed images."""
    source, by_hand = tmp_path / "source", tmp_path / "by_hand"
    shutil.copytree(tree, source)
    for number in range(2):
        (source / f"Cleo/Cleo{number}.jpg").unlink()
    decoding.write_jpeg(source / "Ben/twin.jpg", decoding.read_within(source / "Ana/Ana0.jpg", 200), quality=80)
    shutil.copytree(source, by_hand)
    moved = {"Ben/twin": "Ana", "Ben/Ben0": "Cleo", "Ben/Ben1": "Cleo"}
    for name, artist in moved.items():
        (by_hand / f"{name}.jpg").rename(by_hand / artist / f"{name.partition('/')[2]}.jpg")
    rows = [f"{name},{artist},relabel" for name, artist in moved.items()]
    changes = {"folds": 4, "too_small": too_small}
    for fold in range(4):
        corrected = split(*rows, source=source, fold=fold, **changes)
        expected = split(source=by_hand, fold=fold, **changes)
        assert corrected.images("test") == expected.images("test")
    tested = [name for fold in range(4) for name in split(*rows, source=source, fold=fold, **changes).images("test")]
    assert len(tested) == len(set(tested)) == 43
