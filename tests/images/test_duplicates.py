"""Near-duplicates are found, and different images are not."""

import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from redarte.evaluation import predictions
from redarte.images import decoding, duplicates, folders
from redarte.images.decoding import ImageArray
from redarte.images.duplicates import fingerprint, pairs
from redarte.ingestion.sources import sample
from redarte.params import Params, Sample
from tests.conftest import Workspace, new_workspace, painting

MakeSettings = Callable[..., Params]


def cropped(image: ImageArray, share: float) -> ImageArray:
    height, width = image.shape[:2]
    rows, columns = round(share * height), round(share * width)
    return np.ascontiguousarray(image[rows : height - rows, columns : width - columns])


def encoded(image: ImageArray, quality: int) -> ImageArray:
    data = np.frombuffer(decoding.jpeg(image, quality), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])


VERSIONS: dict[str, Callable[[ImageArray], ImageArray]] = {
    "encoded again": lambda image: encoded(image, 30),
    "half as large": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "squeezed": lambda image: cv2.resize(image, (300, 300), interpolation=cv2.INTER_AREA),
    "cropped": lambda image: cropped(image, 0.02),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "all of it": lambda image: encoded(np.ascontiguousarray(cropped(image, 0.02)[::2, ::-2]), 60),
    "grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[ImageArray]]:
    """Four images of each school of the sample."""
    settings = Sample(schools=8, images=4, seed=0)
    return {school: [sample.paint(school, number, settings) for number in range(1, 5)] for school in sample.SCHOOLS}


@pytest.mark.parametrize("version", list(VERSIONS))
def test_versions_of_an_image_are_near_duplicates(drawn: dict[str, list[ImageArray]], version: str) -> None:
    changed = VERSIONS[version]
    for school, images in drawn.items():
        for image in images:
            assert pairs([fingerprint(image), fingerprint(changed(image))]) == [(0, 1)], school


def test_different_images_are_not(drawn: dict[str, list[ImageArray]]) -> None:
    prints = [fingerprint(image) for school in drawn.values() for image in school]
    assert pairs(prints) == []


def test_plain_images_are_not_near_duplicates_of_each_other() -> None:
    plain = [np.full((40, 60, 3), grey, np.uint8) for grey in (0, 128, 255)]
    assert pairs([fingerprint(image) for image in plain]) == []


def test_smooth_images_are_not_near_duplicates_of_each_other() -> None:
    """Their only edges are those of blurring at the border, which are alike."""
    assert pairs([fingerprint(painting(seed=seed)) for seed in range(30)]) == []


def test_nothing_and_one_image_have_no_pairs(drawn: dict[str, list[ImageArray]]) -> None:
    assert pairs([]) == []
    assert pairs([fingerprint(next(iter(drawn.values()))[0])]) == []


def duplicate(raw: Path, one: str, other: str) -> None:
    """Replaces an image by a version of another."""
    image = decoding.read_within(raw / one, 4000)
    (raw / other).parent.mkdir(exist_ok=True)
    decoding.write_jpeg(raw / other, VERSIONS["all of it"](image), quality=90)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """data/raw with a group of three within an artist, and a group across two. Tests do not change it."""
    workspace = new_workspace(tmp_path_factory.mktemp("doubled") / "redarte", {"fetch.sample.images": 8})
    workspace.stage("fetch")
    raw = workspace.path / "data/raw"
    artists = folders.classes(raw)
    names = {artist: sorted(path.name for path in (raw / artist).iterdir()) for artist in artists}
    for copy in ("copy_1.jpg", "copy_2.jpg"):
        duplicate(raw, f"{artists[0]}/{names[artists[0]][0]}", f"{artists[0]}/{copy}")
    duplicate(raw, f"{artists[1]}/{names[artists[1]][0]}", f"{artists[2]}/copy_3.jpg")
    return workspace


def test_the_groups_are_found_within_and_across_artists(doubled: Workspace) -> None:
    raw = doubled.path / "data/raw"
    groups = duplicates.groups(raw, folders.list_images(raw))
    assert sorted(map(len, groups)) == [2, 3]
    assert sorted(len({path.partition("/")[0] for path in group}) for group in groups) == [1, 2]


def rows(workspace: Workspace) -> list[dict[str, str]]:
    """The near-duplicates, by group."""
    with (workspace.path / "data/images.csv").open(encoding="utf-8", newline="") as file:
        found = [row for row in csv.DictReader(file) if row["near_duplicates"]]
    return sorted(found, key=lambda row: int(row["near_duplicates"]))


def test_the_split_keeps_groups_together(doubled: Workspace) -> None:
    for seed in range(3):
        doubled.set({"seed": seed})
        doubled.stage("split")
        groups = itertools.groupby(rows(doubled), key=lambda row: row["near_duplicates"])
        for _, members in groups:
            listed = list(members)
            assert len({row["split"] for row in listed}) == 1
            if len({row["image"].partition("/")[0] for row in listed}) > 1:
                # The artist is unknown: the image is only used for training.
                assert listed[0]["split"] == "train"
        measured = doubled.metrics("split")["near_duplicates"]
        assert measured == {
            "groups": 2, "images": 5, "groups_across_artists": 1, "test_images_with_duplicate_in_train": 0,
        }  # fmt: skip
        for row in rows(doubled):
            assert row["image"] in folders.files_by_id(doubled.path / "data/split" / row["split"])


@pytest.mark.long
def test_leaks_are_counted_when_groups_are_split(doubled: Workspace) -> None:
    counted = set()
    for seed in range(3):
        doubled.set({"seed": seed, "split.keep_duplicates_together": False})
        doubled.stage("split")
        found = rows(doubled)
        trained = {row["near_duplicates"] for row in found if row["split"] == "train"}
        leaked = [row for row in found if row["split"] == "test" and row["near_duplicates"] in trained]
        assert doubled.metrics("split")["near_duplicates"]["test_images_with_duplicate_in_train"] == len(leaked)
        counted.add(len(leaked))
    assert max(counted) > 0


def test_images_with_a_duplicate_in_train_are_found() -> None:
    listing = "1,A/a,test\n1,A/b,train\n2,A/c,test\n2,A/d,test\n3,B/e,train\n3,B/f,\n,A/g,test\n,A/h,train".splitlines()
    listed = list(csv.DictReader(["near_duplicates,image,split", *listing]))
    assert predictions.leaked_images(listed) & {"A/a", "A/c", "A/d", "A/g"} == {"A/a"}


def test_the_similar_hashes_are_those_of_comparing_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among random hashes with variants of 13 to 15 other bits, in several blocks."""
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    hashes, mirrored = rng.integers(0, 2**64, (2, 300), dtype=np.uint64)
    for index in range(200):
        first = rng.integers(0, 50)
        near = rng.choice(64, 13 + index % 3, replace=False) if index % 2 else np.arange(first, first + 13 + index % 3)
        changed = np.bitwise_or.reduce(np.uint64(1) << near.astype(np.uint64))
        source, target = (hashes, mirrored)[index % 4 // 2], rng.integers(200, 300)
        source[index] = hashes[target] ^ changed
    expected = []
    for one in range(300):
        for other in range(one + 1, 300):
            versions = (hashes[other], mirrored[other])
            differ = [(int(hashes[one]) ^ int(version)).bit_count() for version in versions]
            expected += [(one, other)] if min(differ) <= 14 else []
    assert duplicates.near_hashes(hashes, mirrored).tolist() == [list(pair) for pair in expected]
    assert len(expected) > 20
