from collections.abc import Callable
from typing import Any

import albumentations as albu
import cv2
import numpy as np
import pytest

from redarte.images import transforms
from redarte.images.decoding import ImageArray
from redarte.params import CopyName, Params
from tests.conftest import painting

MakeSettings = Callable[..., Params]
PICTURE = painting(160, 120)


def copies(settings: MakeSettings, path: str = "Ana/1.jpg", seed: int = 0, **changes: object) -> dict[str, ImageArray]:
    chosen = settings({f"augment.{name}": value for name, value in changes.items()}).augment
    return dict(transforms.copies(PICTURE, path, chosen, seed))


def test_the_six_copies_of_the_study(settings: MakeSettings) -> None:
    made = copies(settings)
    assert list(made) == ["rotation", "vertical_mirror", "horizontal_mirror", "zoom", "shift_left", "shift_right"]
    for copy in made.values():
        assert copy.shape == PICTURE.shape
        assert copy.dtype == np.uint8
        assert (copy != PICTURE).any()


def test_only_the_named_copies_are_made(settings: MakeSettings) -> None:
    assert list(copies(settings, copies=["zoom", "rotation"])) == ["zoom", "rotation"]


def test_mirrors(settings: MakeSettings) -> None:
    made = copies(settings)
    assert (made["vertical_mirror"] == PICTURE[::-1]).all()
    assert (made["horizontal_mirror"] == PICTURE[:, ::-1]).all()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_shifts_move_by_the_share_and_reflect_the_border(settings: MakeSettings, share: float) -> None:
    made = copies(settings, shift=[share, share])
    pixels = round(share * 160)
    left, right = made["shift_left"], made["shift_right"]
    assert (left[:, : 160 - pixels] == PICTURE[:, pixels:]).all()
    assert (left[:, 160 - pixels :] == PICTURE[:, ::-1][:, 1 : pixels + 1]).all()
    assert (right[:, pixels:] == PICTURE[:, : 160 - pixels]).all()
    assert (right[:, :pixels] == PICTURE[:, 1 : pixels + 1][:, ::-1]).all()


def test_rotation_by_a_right_angle_is_exact_in_the_middle(settings: MakeSettings) -> None:
    turned = copies(settings, rotation=[180.0, 180.0])["rotation"]
    expected = PICTURE[::-1, ::-1]
    assert np.abs(turned[20:-20, 20:-20].astype(int) - expected[20:-20, 20:-20]).mean() < 3


def test_positive_rotation_is_counter_clockwise(settings: MakeSettings) -> None:
    mark = np.zeros((101, 101, 3), np.uint8)
    mark[45:56, 80:95] = 255  # to the right of the middle
    chosen = settings({"augment.rotation": [90.0, 90.0], "augment.copies": ["rotation"]}).augment
    turned = dict(transforms.copies(mark, "a", chosen, 0))["rotation"]
    rows, columns = np.nonzero(turned[..., 0] > 128)
    assert rows.mean() < 25  # now above it
    assert abs(columns.mean() - 50) < 3


def test_zoom_enlarges_about_the_middle(settings: MakeSettings) -> None:
    zoomed = copies(settings, zoom=[2.0, 2.0])["zoom"]
    middle = PICTURE[30:90, 40:120].repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(zoomed[10:-10, 10:-10].astype(int) - middle[10:-10, 10:-10]).mean() < 4


def test_no_border_is_black(settings: MakeSettings) -> None:
    bright = np.full((120, 160, 3), 200, np.uint8)
    for _, copy in transforms.copies(bright, "a", settings({"augment.rotation": [45.0, 45.0]}).augment, 0):
        assert copy.min() > 190


def test_random_numbers_depend_on_seed_path_and_name_only(settings: MakeSettings) -> None:
    made = copies(settings)
    alone = copies(settings, copies=["zoom"])
    assert (alone["zoom"] == made["zoom"]).all()
    assert (copies(settings, seed=1)["zoom"] != made["zoom"]).any()
    assert (copies(settings, path="Ana/2.jpg")["rotation"] != made["rotation"]).any()


def test_the_seeds_of_the_copies_do_not_change() -> None:
    """Another number would make every copy another, and every cache worthless."""
    assert transforms._seed(0, "Ana/1.jpg", "zoom") == 1003136762


def test_copies_of_an_image_have_different_random_numbers(settings: MakeSettings) -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (4, 200, 3)).copy()
    made = dict(transforms.copies(ramp, "Ana/1.jpg", settings().augment, 0))
    moved_left, moved_right = made["shift_left"][0, 0, 0], 199 - made["shift_right"][0, -1, 0]
    # From one number, the one would be as far from the least shift as the other from the most: 0.1 + 0.25 of the width.
    assert abs(int(moved_left) + int(moved_right) - 70) > 2


@pytest.mark.parametrize(("width", "columns"), [(1, [0]), (2, [1, 0]), (3, [2, 1, 0])])
def test_a_shift_of_a_narrow_image(settings: MakeSettings, width: int, columns: list[int]) -> None:
    image = painting(width, 9)
    chosen = settings({"augment.shift": [0.9, 0.9]}).augment
    made = dict(transforms.copies(image, "Ana/1.jpg", chosen, 0))
    assert (made["shift_left"] == image[:, columns]).all()
    assert (made["shift_right"] == image[:, columns]).all()


def test_ranges_are_respected(settings: MakeSettings) -> None:
    chosen = settings({"augment.copies": ["shift_left"], "augment.shift": [0.1, 0.25]}).augment
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (4, 200, 3)).copy()
    moved = [int(dict(transforms.copies(ramp, f"Ana/{n}.jpg", chosen, 0))["shift_left"][0, 0, 0]) for n in range(60)]
    assert 20 <= min(moved) < 26
    assert 44 < max(moved) <= 50


@pytest.mark.parametrize("size", [(160, 120), (121, 77), (40, 512), (1, 50), (1, 1)])
@pytest.mark.parametrize(("name", "drawn"), [("rotation", -30.0), ("rotation", 90.0), ("zoom", 1.3), ("zoom", 4.0)])
def test_rotation_and_zoom_equal_albumentations(
    settings: MakeSettings, size: tuple[int, int], name: CopyName, drawn: float
) -> None:
    image = painting(*size)
    chosen = settings({"augment.copies": [name], f"augment.{name}": [drawn, drawn]}).augment
    ours = dict(transforms.copies(image, "Ana/1.jpg", chosen, 0))[name]
    how: dict[str, Any] = {"interpolation": cv2.INTER_LINEAR, "border_mode": cv2.BORDER_REFLECT_101, "p": 1}
    theirs = (
        albu.Rotate(limit=(drawn, drawn), **how) if name == "rotation" else albu.Affine(scale=(drawn, drawn), **how)
    )
    assert np.abs(ours.astype(int) - albu.Compose([theirs])(image=image)["image"]).max() <= 1
