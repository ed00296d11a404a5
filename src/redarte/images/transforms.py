"""The study's augmented copies of a training image (its figure 12). The only module that imports albumentations.

albumentations 2.0.8 is the last release under the MIT licence and is no longer developed; one module is easy to
replace.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

# Otherwise importing albumentations looks for a newer version online.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as albu
import cv2

from redarte.images.decoding import ImageArray
from redarte.params import Augment, CopyName


def copies(image: ImageArray, path: str, settings: Augment, seed: int) -> Iterator[tuple[CopyName, ImageArray]]:
    """Makes the augmented copies of one image.

    Args:
        image: RGB, (height, width, 3), uint8.
        path: the image's "<artist>/<file>". The random numbers depend only on the path, the seed and the name of the
            copy, and not on the order of the images or the number of workers.
    """
    for name in settings.copies:
        # Creating a transform takes as long as applying it, so each is created once a process.
        transform = _transform(name, *_range(name, settings))
        transform.set_random_seed(_seed(seed, path, name))
        yield name, transform(image=image)["image"]


def _seed(*parts: object) -> int:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def _range(name: CopyName, settings: Augment) -> tuple[float, float]:
    """The range of a transform's random number: degrees, a zoom factor, or a share of the width."""
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
    """One of the study's transforms; borders are filled by reflection, so that no black corners are learned."""
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


class _RandomTransform(albu.ImageOnlyTransform):
    """A transform that draws one number from a range for each image."""

    def __init__(self, low: float, high: float):
        super().__init__(p=1)
        self.low, self.high = low, high

    def get_params(self) -> dict[str, Any]:
        return {"drawn": self.py_random.uniform(self.low, self.high)}


class _Rotation(_RandomTransform):
    """Rotates an image about its centre, in degrees."""

    def apply(self, img: ImageArray, drawn: float, **_params: Any) -> ImageArray:
        height, width = img.shape[:2]
        # No pixel comes from farther away than half of the diagonal.
        reach = math.ceil(math.hypot(width, height) / 2) + 1
        border = (max(0, reach - height // 2), max(0, reach - width // 2))
        return _warp(img, drawn, 1, border)


class _Zoom(_RandomTransform):
    """Enlarges an image about its centre, by a factor of 1 or more."""

    def apply(self, img: ImageArray, drawn: float, **_params: Any) -> ImageArray:
        return _warp(img, 0, drawn, (0, 0))


class _Shift(_RandomTransform):
    """Shifts an image horizontally by a share of its width; negative is to the left.

    The shift is a whole number of pixels, which needs no interpolation.
    """

    def apply(self, img: ImageArray, drawn: float, **_params: Any) -> ImageArray:
        width = img.shape[1]
        # Reflection is limited to the width of the image.
        pixels = max(-(width - 1), min(width - 1, round(drawn * width)))
        padded = cv2.copyMakeBorder(img, 0, 0, max(pixels, 0), max(-pixels, 0), cv2.BORDER_REFLECT_101)
        start = max(-pixels, 0)
        shifted: ImageArray = padded[:, start : start + width]
        return shifted


def _warp(image: ImageArray, degrees: float, times: float, border: tuple[int, int]) -> ImageArray:
    """Rotates and enlarges an image about its centre; albumentations' Rotate and Affine take three times as long.

    OpenCV is fast for pixels of four channels and without a border to fill: a fourth channel and the border are added
    before, and removed after. `border` is the reflected border above and below, and left and right, in px.
    """
    height, width = image.shape[:2]
    down, right = border
    wide = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    wide = cv2.copyMakeBorder(wide, down, down, right, right, cv2.BORDER_REFLECT_101)
    # Maps a pixel of the result to its source.
    back = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1 / times)
    back[:, 2] += (right, down)
    warped = cv2.warpAffine(wide, back, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    rgb: ImageArray = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)
    return rgb
