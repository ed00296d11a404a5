"""Near-duplicates: found where there are any, and none where there are none."""

import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from redarte.params import Params, Sample
from redarte.pictures import duplicates, images
from redarte.pictures.duplicates import fingerprint, pairs
from redarte.pictures.images import Picture
from redarte.pictures.sources import sample
from tests.conftest import Workspace, new_workspace, painting

MakeSettings = Callable[..., Params]


def cropped(picture: Picture, share: float) -> Picture:
    height, width = picture.shape[:2]
    rows, columns = round(share * height), round(share * width)
    return np.ascontiguousarray(picture[rows : height - rows, columns : width - columns])


def encoded(picture: Picture, quality: int) -> Picture:
    data = np.frombuffer(images.jpeg(picture, quality), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])


VERSIONS: dict[str, Callable[[Picture], Picture]] = {
    "encoded again": lambda picture: encoded(picture, 30),
    "half as large": lambda picture: cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "squeezed": lambda picture: cv2.resize(picture, (300, 300), interpolation=cv2.INTER_AREA),
    "cropped": lambda picture: cropped(picture, 0.02),
    "mirrored": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
    "all of it": lambda picture: encoded(np.ascontiguousarray(cropped(picture, 0.02)[::2, ::-2]), 60),
    "grey": lambda picture: cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Picture]]:
    """Four pictures of each school of the sample."""
    settings = Sample(schools=8, pictures=4, seed=0)
    return {school: [sample.paint(school, number, settings) for number in range(1, 5)] for school in sample.SCHOOLS}


@pytest.mark.parametrize("version", list(VERSIONS))
def test_versions_of_a_picture_are_near_duplicates(drawn: dict[str, list[Picture]], version: str) -> None:
    changed = VERSIONS[version]
    for school, pictures in drawn.items():
        for picture in pictures:
            assert pairs([fingerprint(picture), fingerprint(changed(picture))]) == [(0, 1)], school


def test_different_pictures_are_not(drawn: dict[str, list[Picture]]) -> None:
    prints = [fingerprint(picture) for school in drawn.values() for picture in school]
    assert pairs(prints) == []


def test_plain_pictures_are_not_near_duplicates_of_each_other() -> None:
    plain = [np.full((40, 60, 3), grey, np.uint8) for grey in (0, 128, 255)]
    assert pairs([fingerprint(picture) for picture in plain]) == []


def test_smooth_pictures_are_not_near_duplicates_of_each_other() -> None:
    """They have no edges but those that blurring makes at the border, which are alike: 125 pairs of these once."""
    assert pairs([fingerprint(painting(seed=seed)) for seed in range(30)]) == []


def test_nothing_and_one_picture_have_no_pairs(drawn: dict[str, list[Picture]]) -> None:
    assert pairs([]) == []
    assert pairs([fingerprint(next(iter(drawn.values()))[0])]) == []


def duplicate(raw: Path, one: str, other: str) -> None:
    """Puts a version of one picture in the place of another."""
    picture = images.read_within(raw / one, 4000)
    (raw / other).parent.mkdir(exist_ok=True)
    images.write_jpeg(raw / other, VERSIONS["all of it"](picture), quality=90)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """data/raw with a group of three within an artist, and a group across two. Tests do not change it."""
    workspace = new_workspace(tmp_path_factory.mktemp("doubled") / "redarte", {"fetch.sample.pictures": 8})
    workspace.stage("fetch")
    raw = workspace.path / "data/raw"
    artists = images.classes(raw)
    names = {artist: sorted(path.name for path in (raw / artist).iterdir()) for artist in artists}
    for copy in ("copy_1.jpg", "copy_2.jpg"):
        duplicate(raw, f"{artists[0]}/{names[artists[0]][0]}", f"{artists[0]}/{copy}")
    duplicate(raw, f"{artists[1]}/{names[artists[1]][0]}", f"{artists[2]}/copy_3.jpg")
    return workspace


def test_the_groups_are_found_within_and_across_artists(doubled: Workspace) -> None:
    raw = doubled.path / "data/raw"
    groups = duplicates.groups(raw, images.list_images(raw))
    assert sorted(map(len, groups)) == [2, 3]
    assert sorted(len({path.partition("/")[0] for path in group}) for group in groups) == [1, 2]


def rows(workspace: Workspace) -> list[dict[str, str]]:
    with (workspace.path / "data/near_duplicates.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_split_keeps_groups_together(doubled: Workspace) -> None:
    for seed in range(3):
        doubled.set({"seed": seed})
        doubled.stage("split")
        groups = itertools.groupby(rows(doubled), key=lambda row: row["group"])
        for _, members in groups:
            listed = list(members)
            assert len({row["split"] for row in listed}) == 1
            if len({row["path"].partition("/")[0] for row in listed}) > 1:
                # Whose it is is not known: it tests nobody.
                assert listed[0]["split"] == "train"
        measured = doubled.metrics("split")["near_duplicates"]
        assert measured == {
            "groups": 2, "pictures": 5, "groups_across_artists": 1, "test_pictures_with_one_in_train": 0,
        }  # fmt: skip
        for row in rows(doubled):
            assert (doubled.path / "data/split" / row["split"] / row["path"]).is_file()


@pytest.mark.long
def test_the_split_says_what_leaks_when_groups_are_parted(doubled: Workspace) -> None:
    counted = set()
    for seed in range(3):
        doubled.set({"seed": seed, "split.keep_duplicates_together": False})
        doubled.stage("split")
        found = rows(doubled)
        trained = {row["group"] for row in found if row["split"] == "train"}
        leaked = [row for row in found if row["split"] == "test" and row["group"] in trained]
        assert doubled.metrics("split")["near_duplicates"]["test_pictures_with_one_in_train"] == len(leaked)
        counted.add(len(leaked))
    assert max(counted) > 0


def test_evaluate_measures_with_and_without_leaks(finished: Workspace, tmp_path: Path) -> None:
    from redarte.stages.evaluate import leaked
    from redarte.training import dataset

    test = dataset.load(finished.path / "data/resized/test")
    listing = tmp_path / "data/near_duplicates.csv"
    listing.parent.mkdir()
    original = Path(test.paths[1]).with_suffix(".png").as_posix()
    listing.write_text(
        f"group,path,split\n1,{original},test\n1,A/b.jpg,train\n2,{test.paths[0]},test\n2,A/c.jpg,test\n"
    )
    import redarte.stages.evaluate as stage

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "DUPLICATES", listing)
        assert leaked(test).tolist() == [place == 1 for place in range(len(test))]
