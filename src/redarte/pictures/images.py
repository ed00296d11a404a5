"""Files that hold pictures. The only module that lists, opens, decodes or encodes them.

In memory a picture is always an RGB array of shape (height, width, 3), uint8, 0 to 255.
Ordinary JPEGs go through OpenCV, which decodes them at a half, a quarter or an eighth of their size for a
fraction of the cost. Everything else (PNG, CMYK, 16 bits, alpha, animations) goes through Pillow, which
knows what to do with it.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from redarte.runtime.errors import UserError

COPY_MARK = "__"  # between the name of a picture and that of its copy
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_IN_WORDS = {
    "too_large_a_file": "is too large a file",
    "empty_file": "is empty",
    "not_a_picture": "is not a picture",
    "too_many_pixels": "has too many pixels",
    "truncated_or_corrupt": "is truncated or corrupt",
    "takes_too_much_memory": "takes too much memory",
}
_WHITE = (255, 255, 255)
_TOGETHER = 32  # pictures of 224 px
_MOST_BYTES_A_PIXEL = 8  # four channels of 16 bits, not compressed
# What decoding holds at its most: a file, and of 16 bits of grey the samples, as float64, and the scaled ones.
_MOST_MEMORY_A_PIXEL = _MOST_BYTES_A_PIXEL + 32
_MEMORY_AT_REST = 512 * 2**20  # of a process that decodes

# `problem` sets its own bound on pixels, from params.yaml, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# Workers are processes, one for each core; threads inside them would only get in each other's way.
cv2.setNumThreads(1)

Picture = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


def classes(folder: Path) -> list[str]:
    """The names of the folders in a class-per-folder tree, sorted by code point."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def display_name(artist: str) -> str:
    """A folder's name as a person's."""
    return artist.replace("_", " ")


def list_images(folder: Path) -> list[str]:
    """The pictures of a class-per-folder tree as sorted "<class>/<file>", whatever the disk's own order."""
    return sorted(f"{name}/{entry.name}" for name in classes(folder) for entry in os.scandir(folder / name))


def problem(path: Path, max_pixels: float) -> str | None:
    """Why a file cannot be used as a picture; None where it can.

    It is decoded whole, by the same code that the stages use later.

    Args:
        path: any regular file.
        max_pixels: a picture that declares more pixels is not decoded.
    """
    if path.stat().st_size > _MOST_BYTES_A_PIXEL * max_pixels:
        return "too_large_a_file"
    data = path.read_bytes()
    declared = _declared_problem(data, max_pixels)
    if declared:
        return declared
    try:
        _decode(data, lambda size: size)
    except Exception as error:
        return _undecodable(error)
    return None


def read_strange(source: Path | bytes, side: int, max_pixels: float) -> Picture:
    """A picture that nobody has checked, squeezed to side×side px: a person's own file, or an upload.

    Args:
        source: a file, or the content of one.
        max_pixels: a picture that declares more pixels is not decoded.

    Raises:
        UserError: why it cannot be used, in words that follow its name.
    """
    if isinstance(source, Path):
        source = _content(source, max_pixels)
    declared = _declared_problem(source, max_pixels)
    if declared:
        raise UserError(_IN_WORDS[declared])
    try:
        return _decode(source, lambda _size: (side, side))
    except Exception as error:
        raise UserError(_IN_WORDS[_undecodable(error)]) from None


def _content(path: Path, max_pixels: float) -> bytes:
    try:
        if not path.is_file():
            raise UserError("is not a file" if path.exists() else "is not there")
        if path.stat().st_size > _MOST_BYTES_A_PIXEL * max_pixels:
            raise UserError(_IN_WORDS["too_large_a_file"])
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from None


def most_memory(max_pixels: float) -> int:
    """The bytes that a process needs at most to decode a picture of up to `max_pixels`."""
    return _MEMORY_AT_REST + round(_MOST_MEMORY_A_PIXEL * max_pixels)


def _undecodable(error: Exception) -> str:
    """The reason that an exception of a decoder stands for."""
    of_memory = isinstance(error, MemoryError) or getattr(error, "code", None) == cv2.Error.StsNoMem
    return "takes_too_much_memory" if of_memory else "truncated_or_corrupt"


def _declared_problem(data: bytes, max_pixels: float) -> str | None:
    """What is wrong with a file by what it says of itself, before anything is decoded."""
    if not data:
        return "empty_file"
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
    except Exception:
        # Pillow raises a dozen kinds of exception for a file that is none of its formats.
        return "not_a_picture"
    return "too_many_pixels" if width * height > max_pixels else None


def read_within(path: Path, max_side: int) -> Picture:
    """A picture in its own proportions, shrunk where needed so that its longer side is at most max_side px.

    Raises:
        UserError: the file cannot be decoded.
    """

    return _read(path, lambda size: _within(size, max_side))


def read_square(path: Path, side: int) -> Picture:
    """A picture squeezed to side×side px, as the study's networks see it.

    Raises:
        UserError: the file cannot be decoded.
    """
    return _read(path, lambda _size: (side, side))


def at_a_time(side: int) -> int:
    """How many pictures of this side a network is asked about together: more gain nothing on a CPU, and take memory."""
    return max(1, min(_TOGETHER, _TOGETHER * 224**2 // side**2))


def shrink(picture: Picture, max_side: int) -> Picture:
    """A picture in its own proportions, with its longer side at most max_side px."""
    return _scale(picture, *_within((picture.shape[1], picture.shape[0]), max_side))


def size(path: Path) -> tuple[int, int]:
    """A picture's (width, height) in px, from its header."""
    with Image.open(path, formats=_FORMATS) as image:
        return image.size


def jpeg(picture: Picture, quality: int) -> bytes:
    """A baseline JPEG: the same bytes for the same picture and quality."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise UserError(f"a picture of {picture.shape} cannot be written as JPEG.")
    return bytes(data.tobytes())


def write_jpeg(path: Path, picture: Picture, quality: int) -> None:
    """Writes a picture as `jpeg` encodes it."""
    path.write_bytes(jpeg(picture, quality))


def _read(path: Path, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> Picture:
    try:
        return _decode(path.read_bytes(), fit)
    except Exception as error:
        raise UserError(
            f"{path} cannot be decoded ({error}); it was whole when `fetch` checked it: run `dvc checkout`."
        ) from None


def _decode(data: bytes, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> Picture:
    """Decodes a picture to the size that `fit` makes of its own (width, height), upright."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        # MPO is what Pillow calls a JPEG of a camera that appends a second picture.
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            turned = image.getexif().get(0x0112, 1) >= 5
            width, height = fit(image.size[::-1] if turned else image.size)
            least = (height, width) if turned else (width, height)
            picture = _decode_jpeg(data, _reduction(image.size, least))
        else:
            picture = _decode_other(image)
            width, height = fit((picture.shape[1], picture.shape[0]))
    return _scale(picture, width, height)


def _reduction(size: tuple[int, int], least: tuple[int, int]) -> int:
    """By how much a JPEG's decoder may shrink it and still give at least `least` pixels each way."""
    fits = [n for n in (8, 4, 2) if size[0] // n >= least[0] and size[1] // n >= least[1]]
    return fits[0] if fits else 1


def _decode_jpeg(data: bytes, reduction: int) -> Picture:
    # OpenCV turns the picture upright by its EXIF orientation here.
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED.get(reduction, cv2.IMREAD_COLOR))
    if picture is None:
        raise ValueError("truncated or corrupt")
    rgb: Picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return rgb


def _decode_other(image: Image.Image) -> Picture:
    """Anything that Pillow opens as upright 8-bit RGB: the first frame, on white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16 bits a sample; Pillow's own conversion would clip instead of scale.
        grey = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.clip(grey, 0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    if image.mode == "F":
        raise ValueError("floating-point samples have no agreed range")
    return np.asarray(image.convert("RGB"))


def _within(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _scale(picture: Picture, width: int, height: int) -> Picture:
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = width * height < picture.shape[0] * picture.shape[1]
    scaled: Picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return scaled
