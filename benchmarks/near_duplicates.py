"""Near-duplicates that `split` finds: of images transformed in many ways, and among the originals.

    python -m benchmarks.near_duplicates --images data/raw --count 100 --sheet pairs.jpg

For each transformation, images of a class-per-folder set and their transformed versions are searched together. The
pairs among the originals, which may be right or wrong, are drawn on a sheet: look at them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from redarte.images import contact_sheet, decoding, duplicates, folders
from redarte.images.decoding import ImageArray

RNG = np.random.default_rng(0)


def crop(share: float) -> Callable[[ImageArray], ImageArray]:
    def cut(image: ImageArray) -> ImageArray:
        height, width = (round(share * side) for side in image.shape[:2])
        sides = zip(image.shape[:2], (height, width), strict=True)
        top, left = (int(RNG.integers(0, whole - part + 1)) for whole, part in sides)
        return image[top : top + height, left : left + width]

    return cut


def rotated(degrees: float) -> Callable[[ImageArray], ImageArray]:
    def rotate(image: ImageArray) -> ImageArray:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderValue=(40, 40, 40)))

    return rotate


def framed(share: float) -> Callable[[ImageArray], ImageArray]:
    """In one ornate frame, of a random texture that is the same for all images."""

    def frame(image: ImageArray) -> ImageArray:
        height, width = image.shape[:2]
        border = round(share * min(height, width))
        texture = np.random.default_rng(1).integers(0, 256, (48, 48, 3)).astype(np.uint8)
        whole = cv2.resize(texture, (width + 2 * border, height + 2 * border), interpolation=cv2.INTER_CUBIC)
        whole[border : border + height, border : border + width] = image
        return np.asarray(whole)

    return frame


def perspective(image: ImageArray) -> ImageArray:
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + (RNG.uniform(-0.06, 0.06, (4, 2)) * [width, height]).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    return np.asarray(cv2.warpPerspective(image, matrix, (width, height), borderValue=(200, 200, 200)))


def other_hue(image: ImageArray) -> ImageArray:
    changed = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    changed[..., 0] = (changed[..., 0].astype(int) + 60) % 180
    return clipped(cv2.cvtColor(changed, cv2.COLOR_HSV2RGB))


def clipped(values: np.ndarray) -> ImageArray:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def captioned(image: ImageArray) -> ImageArray:
    changed, height = image.copy(), image.shape[0]
    changed[round(0.9 * height) :] = 255
    cv2.putText(changed, "Museum of Fine Arts", (5, round(0.96 * height)), 0, height / 900, (0, 0, 0))
    return changed


TRANSFORMATIONS: dict[str, Callable[[ImageArray], ImageArray]] = {
    "JPEG of quality 30": lambda image: decoding.through_jpeg(image, 30),
    "a third of the size": lambda image: decoding.shrink(image, max(image.shape) // 3),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "tint": lambda image: clipped(image * np.array([1.15, 1, 0.75])),
    "other hue": other_hue,
    "half the contrast": lambda image: clipped(image * 0.5 + 64),
    "darker (gamma 1.8)": lambda image: clipped(255 * (image / 255) ** 1.8),
    "noise": lambda image: clipped(image + RNG.normal(0, 12, image.shape)),
    "blur": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), max(image.shape) / 300)),
    "aspect ratio 4:3": lambda image: decoding.scale(image, image.shape[1], round(0.75 * image.shape[0])),
    "mirror": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "crop of 95 %": crop(0.95),
    "crop of 85 %": crop(0.85),
    "crop of 70 %": crop(0.7),
    "mirror, crop of 85 %": lambda image: crop(0.85)(np.ascontiguousarray(image[:, ::-1])),
    "rotation by 2°": rotated(2),
    "rotation by 5°": rotated(5),
    "a quarter turn": lambda image: np.ascontiguousarray(np.rot90(image)),
    "frame of 10 %": framed(0.1),
    "frame of 20 %": framed(0.2),
    "perspective": perspective,
    "caption": captioned,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    listed = folders.list_images(options.images)
    chosen = [listed[index] for index in np.sort(RNG.permutation(len(listed))[: options.count])]
    print("| transformation | found | false pairs |\n| --- | --- | --- |")
    for name, transform in TRANSFORMATIONS.items():
        found, false = measure(options.images, chosen, transform)
        print(f"| {name} | {found / len(chosen):.2f} | {false} |", flush=True)
    started = time.perf_counter()
    pairs = duplicates.pairs(options.images, listed)
    seconds = time.perf_counter() - started
    across = sum(one.partition("/")[0] != other.partition("/")[0] for one, other in pairs)
    print(f"{len(pairs)} pairs among {len(listed)} images, {across} across artists, in {seconds:.0f} s")
    if options.sheet:
        images = [decoding.read_within(options.images / path, 200) for pair in pairs for path in pair]
        captions = [Path(path).stem[-20:] for pair in pairs for path in pair]
        Image.fromarray(contact_sheet.draw(images, captions, columns=8, side=200)).save(options.sheet)


def measure(root: Path, chosen: list[str], transform: Callable[[ImageArray], ImageArray]) -> tuple[int, int]:
    """How many images are paired with their transformed version, and how many pairs are of different images."""
    with tempfile.TemporaryDirectory() as scratch:
        for number, path in enumerate(chosen):
            image = decoding.read_within(root / path, 512)
            for kind, pixels in (("original", image), ("transformed", np.ascontiguousarray(transform(image)))):
                (Path(scratch) / kind).mkdir(exist_ok=True)
                decoding.write_jpeg(Path(scratch) / kind / f"{number:05}.jpg", pixels, quality=92)
        found = duplicates.pairs(Path(scratch), folders.list_images(Path(scratch)))
    is_right = [Path(one).name == Path(other).name for one, other in found]
    return sum(is_right), len(is_right) - sum(is_right)


if __name__ == "__main__":
    main()
