"""The study's copies of a training picture (its figure 12). The only module that imports albumentations.

albumentations 2.0.8 is the last release under the MIT licence and is no longer developed, hence one module.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

# Without it, importing albumentations asks the network for a newer version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as albu
import cv2

from redarte.paintings import Picture
from redarte.params import Augment, CopyName


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
        transform = albu.Compose([_transform(name, settings)], seed=_seed(seed, path, name))
        yield name, transform(image=picture)["image"]


def _seed(*parts: object) -> int:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def _transform(name: CopyName, settings: Augment) -> albu.BasicTransform:
    """One of the study's transforms; borders are filled by reflection, so that no black wedge is learned."""
    match name:
        case "rotation":
            return albu.Rotate(
                limit=tuple(settings.rotation),
                interpolation=cv2.INTER_LINEAR,
                border_mode=cv2.BORDER_REFLECT_101,
                p=1,
            )
        case "vertical_mirror":
            return albu.VerticalFlip(p=1)
        case "horizontal_mirror":
            return albu.HorizontalFlip(p=1)
        case "zoom":
            return albu.Affine(
                scale=tuple(settings.zoom),
                interpolation=cv2.INTER_LINEAR,
                border_mode=cv2.BORDER_REFLECT_101,
                p=1,
            )
        case "shift_left":
            return _Shift((-settings.shift[1], -settings.shift[0]))
        case "shift_right":
            return _Shift((settings.shift[0], settings.shift[1]))


class _Shift(albu.ImageOnlyTransform):
    """Moves a picture sideways by a whole number of pixels, which costs a copy and blurs nothing.

    Args:
        shares: the least and the most that it moves, in shares of the width; negative is to the left.
    """

    def __init__(self, shares: tuple[float, float]):
        super().__init__(p=1)
        self.shares = shares

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"pixels": round(self.py_random.uniform(*self.shares) * params["shape"][1])}

    def apply(self, img: Picture, pixels: int, **_params: Any) -> Picture:
        width = img.shape[1]
        # Reflection needs fewer pixels than the picture is wide.
        pixels = max(-(width - 1), min(width - 1, pixels))
        padded = cv2.copyMakeBorder(img, 0, 0, max(pixels, 0), max(-pixels, 0), cv2.BORDER_REFLECT_101)
        start = max(-pixels, 0)
        shifted: Picture = padded[:, start : start + width]
        return shifted
