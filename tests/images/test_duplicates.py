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
from redarte.ingestion.sources import sample
from redarte.params import Sample
from tests.conftest import Workspace, new_workspace, painting


def cropped(image: ImageArray, share: float) -> ImageArray:
    height, width = image.shape[:2]
    rows, columns = round(share * height), round(share * width)
    return np.ascontiguousarray(image[rows : height - rows, columns : width - columns])


def encoded(image: ImageArray, quality: int) -> ImageArray:
    data = np.frombuffer(decoding.jpeg(image, quality), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])


def rotated(image: ImageArray, degrees: float, scale: float = 1.0) -> ImageArray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderValue=(40, 40, 40)))


def in_perspective(image: ImageArray) -> ImageArray:
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    moved = np.array([[0.05, 0.02], [0.97, 0.06], [1.0, 0.95], [0.03, 1.0]], np.float32)
    size = np.array([width, height], np.float32)
    matrix = cv2.getPerspectiveTransform(corners * size, moved * size)
    return np.asarray(cv2.warpPerspective(image, matrix, (width, height)))


def framed(image: ImageArray) -> ImageArray:
    """In a frame that is the same for all images."""
    border = min(image.shape[:2]) // 8
    texture = np.random.default_rng(1).integers(0, 256, (30, 30, 3)).astype(np.uint8)
    frame = cv2.resize(
        texture, (image.shape[1] + 2 * border, image.shape[0] + 2 * border), interpolation=cv2.INTER_AREA
    )
    frame[border:-border, border:-border] = image
    return np.asarray(frame)


# Versions with the same colours at the same places are found of every image, the others of images with keypoints.
SAME_COLOURS: dict[str, Callable[[ImageArray], ImageArray]] = {
    "encoded again": lambda image: encoded(image, 30),
    "half as large": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "aspect ratio not kept": lambda image: cv2.resize(image, (300, 300), interpolation=cv2.INTER_AREA),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}
VERSIONS = SAME_COLOURS | {
    "cropped": lambda image: cropped(image, 0.14),
    "cropped, mirrored, small, encoded": lambda image: encoded(
        np.ascontiguousarray(cropped(image, 0.02)[::2, ::-2]), 60
    ),
    "grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "other colours": lambda image: np.ascontiguousarray(image[..., [2, 0, 1]]),
    "half the contrast": lambda image: image // 2 + 64,
    "rotated by 5°": lambda image: rotated(image, 5),
    "a quarter turn": lambda image: np.ascontiguousarray(np.rot90(image)),
    "a photograph at an angle": in_perspective,
    "framed": framed,
}
WITH_KEYPOINTS = ("School_of_Points", "School_of_Rings", "School_of_Drips", "School_of_Facets")


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[ImageArray]]:
    """Two images of each school of the sample."""
    settings = Sample(schools=8, images=3, seed=0)
    return {school: [sample.paint(school, number, settings) for number in (1, 2)] for school in sample.SCHOOLS}


def written(folder: Path, images: dict[str, ImageArray]) -> list[str]:
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        decoding.write_jpeg(folder / name, image, quality=92)
    return folders.list_images(folder)


def paired(folder: Path, images: dict[str, ImageArray]) -> list[tuple[str, str]]:
    return duplicates.pairs(folder, written(folder, images))


@pytest.mark.parametrize("version", list(VERSIONS))
def test_versions_of_an_image_are_near_duplicates(
    drawn: dict[str, list[ImageArray]], tmp_path: Path, version: str
) -> None:
    """And no other images are."""
    schools = list(drawn) if version in SAME_COLOURS else WITH_KEYPOINTS
    chosen = {f"{school}_{number}.jpg": image for school in schools for number, image in enumerate(drawn[school])}
    images = {f"a/{name}": image for name, image in chosen.items()}
    found = paired(tmp_path, images | {f"b/{name}": VERSIONS[version](image) for name, image in chosen.items()})
    assert sorted(found) == sorted((f"a/{name}", f"b/{name}") for name in chosen)


def test_images_in_the_same_frame_and_with_the_same_heading_are_not(
    drawn: dict[str, list[ImageArray]], tmp_path: Path
) -> None:
    """Thirty images that have in common what surrounds them."""

    def headed(image: ImageArray) -> ImageArray:
        changed = image.copy()
        changed[: len(image) // 6] = 255
        for line in range(2):
            where = (10, len(image) // 6 - 20 - 40 * line)
            cv2.putText(
                changed, "Fifty-three stations of the Tokaido", where, cv2.FONT_HERSHEY_TRIPLEX, 1, (0, 0, 0), 2
            )
        return changed

    all_drawn = [image for images in drawn.values() for image in images]
    images = {f"framed/{number}.jpg": framed(image) for number, image in enumerate(all_drawn)}
    images |= {f"headed/{number}.jpg": headed(image) for number, image in enumerate(all_drawn)}
    found = paired(tmp_path, images)
    assert {(Path(one).name, Path(other).name) for one, other in found} <= {
        (f"{number}.jpg",) * 2 for number in range(len(all_drawn))
    }


def test_plain_images_are_not_near_duplicates_of_each_other(tmp_path: Path) -> None:
    plain = {f"a/{grey}.jpg": np.full((40, 60, 3), grey, np.uint8) for grey in (0, 128, 255)}
    assert paired(tmp_path, plain) == []


def test_colour_fields_are_compared_by_their_colours(tmp_path: Path) -> None:
    """Smooth images have no keypoints; once, such a copy was never found."""
    fields = {f"a/{seed:02}.jpg": painting(200, 150, seed) for seed in range(20)}
    copies = {f"b/{Path(name).name}": encoded(image[::2, ::2].copy(), 40) for name, image in fields.items()}
    assert paired(tmp_path, fields | copies) == [(name, f"b/{Path(name).name}") for name in fields]


def test_nothing_and_one_image_have_no_pairs(tmp_path: Path) -> None:
    assert duplicates.pairs(tmp_path, []) == []
    assert paired(tmp_path, {"a/1.jpg": painting()}) == []


@pytest.mark.parametrize("version", ["cropped", "mirrored", "a quarter turn"])
def test_matches_are_the_same_places_of_both_images(drawn: dict[str, list[ImageArray]], version: str) -> None:
    image = drawn["School_of_Facets"][0]
    one, other = duplicates.matches(image, VERSIONS[version](image))
    expected = {
        "cropped": (one - 0.14) / 0.72,
        "mirrored": one * [-1, 1] + [1, 0],
        "a quarter turn": one[:, ::-1] * [1, -1] + [0, 1],
    }[version]
    assert len(one) >= 20
    assert np.abs(other - expected).max() < 0.03
    assert duplicates.matches(image, drawn["School_of_Rings"][0]).shape == (2, 0, 2)


def test_pairs_are_kept_for_the_same_images(
    drawn: dict[str, list[ImageArray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second search reads one array; another image is compared with all."""
    monkeypatch.setenv("REDARTE_CACHE", str(tmp_path / "cache"))
    image = drawn["School_of_Rings"][0]
    images = {"a/1.jpg": image, "b/1.jpg": encoded(image, 50), "b/2.jpg": drawn["School_of_Drips"][0]}
    first = paired(tmp_path / "raw", images)
    assert first == [("a/1.jpg", "b/1.jpg")]
    assert paired(tmp_path / "raw", {}) == first
    found = paired(tmp_path / "raw", {"c/3.jpg": VERSIONS["cropped"](drawn["School_of_Drips"][0])})
    assert found == [*first, ("b/2.jpg", "c/3.jpg")]


def duplicate(raw: Path, one: str, other: str) -> None:
    """Replaces an image by a version of another."""
    image = decoding.read_within(raw / one, 4000)
    (raw / other).parent.mkdir(exist_ok=True)
    decoding.write_jpeg(raw / other, VERSIONS["cropped, mirrored, small, encoded"](image), quality=90)


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
    # The first image of artists[1] is a grid, whose keypoints are all alike.
    duplicate(raw, f"{artists[2]}/{names[artists[2]][0]}", f"{artists[1]}/copy_3.jpg")
    return workspace


def test_the_groups_are_found_within_and_across_artists(doubled: Workspace) -> None:
    raw = doubled.path / "data/raw"
    paths = folders.list_images(raw)
    groups = duplicates.groups(paths, duplicates.pairs(raw, paths))
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
