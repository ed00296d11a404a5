"""The study's copies of a training picture (its figure 12). The only module that imports albumentations.

albumentations 2.0.8 is the last release under the MIT licence and is no longer developed, hence one module.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

# Without it, importing albumentations asks the network for a newer version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as albu
import cv2

from redarte.params import Augment, CopyName
from redarte.pictures.images import Picture


def copies(picture: Picture, path: str, settings: Augment, seed: int) -> Iterator[tuple[CopyName, Picture]]:
    """Makes the copies of one picture.

    Args:
        picture: RGB, (height, width, 3), uint8.
        path: the picture's "<artist>/<file>". Its random numbers come from this, the seed and the copy's
            name alone, so the order of the pictures and the number of workers change nothing.
        settings: which copies, and their ranges.
        seed: the seed of params.yaml.

    Yields:
        The copy's name and the copy, of the picture's own shape.
    """
    for name in settings.copies:
        # Making one takes as long as making a copy; a process makes each once.
        transform = _transform(name, *_range(name, settings))
        transform.set_random_seed(_seed(seed, path, name))
        yield name, transform(image=picture)["image"]


def _seed(*parts: object) -> int:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def _range(name: CopyName, settings: Augment) -> tuple[float, float]:
    """The least and the most of what a copy's transform draws: degrees, times, or shares of the width."""
    match name:
        case "rotation":
            low, high = settings.rotation
        case "zoom":
            low, high = settings.zoom
        case "shift_left":
            high, low = (-share for share in settings.shift)
        case "shift_right":
            low, high = settings.shift
        case _:
            low, high = 0, 0
    return low, high


@cache
def _transform(name: CopyName, low: float, high: float) -> albu.Compose:
    """One of the study's transforms; borders are filled by reflection, so that no black wedge is learned."""
    match name:
        case "rotation":
            one: albu.BasicTransform = _Rotation(low, high)
        case "vertical_mirror":
            one = albu.VerticalFlip(p=1)
        case "horizontal_mirror":
            one = albu.HorizontalFlip(p=1)
        case "zoom":
            one = _Zoom(low, high)
        case "shift_left" | "shift_right":
            one = _Shift(low, high)
    return albu.Compose([one])


class _Drawn(albu.ImageOnlyTransform):
    """A transform that draws one number from a range for each picture."""

    def __init__(self, low: float, high: float):
        super().__init__(p=1)
        self.low, self.high = low, high

    def get_params(self) -> dict[str, Any]:
        return {"drawn": self.py_random.uniform(self.low, self.high)}


class _Rotation(_Drawn):
    """Turns a picture about its middle, by degrees."""

    def apply(self, img: Picture, drawn: float, **_params: Any) -> Picture:
        height, width = img.shape[:2]
        # No pixel is turned in from farther away than half of the diagonal.
        reach = math.ceil(math.hypot(width, height) / 2) + 1
        border = (max(0, reach - height // 2), max(0, reach - width // 2))
        return _warped(img, drawn, 1, border)


class _Zoom(_Drawn):
    """Enlarges a picture about its middle, by so many times (1 or more)."""

    def apply(self, img: Picture, drawn: float, **_params: Any) -> Picture:
        return _warped(img, 0, drawn, (0, 0))


class _Shift(_Drawn):
    """Moves a picture sideways by a whole number of pixels, which costs a copy and blurs nothing.

    It moves by a share of the width; negative is to the left.
    """

    def apply(self, img: Picture, drawn: float, **_params: Any) -> Picture:
        width = img.shape[1]
        # Reflection needs fewer pixels than the picture is wide.
        pixels = max(-(width - 1), min(width - 1, round(drawn * width)))
        padded = cv2.copyMakeBorder(img, 0, 0, max(pixels, 0), max(-pixels, 0), cv2.BORDER_REFLECT_101)
        start = max(-pixels, 0)
        shifted: Picture = padded[:, start : start + width]
        return shifted


def _warped(picture: Picture, degrees: float, times: float, border: tuple[int, int]) -> Picture:
    """A picture turned and enlarged about its middle, as albumentations' Rotate and Affine do it in thrice the time.

    OpenCV is quick where a pixel has four channels and no border is to be filled: a fourth channel and the border are
    put on before, and taken off after.

    Args:
        border: how far above and below, and to the left and right, it is continued by reflection, in px.
    """
    height, width = picture.shape[:2]
    down, right = border
    wide = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
    wide = cv2.copyMakeBorder(wide, down, down, right, right, cv2.BORDER_REFLECT_101)
    # From a pixel of the outcome to where it was.
    back = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1 / times)
    back[:, 2] += (right, down)
    warped = cv2.warpAffine(wide, back, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    rgb: Picture = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)
    return rgb
