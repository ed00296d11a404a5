"""Checks whether an unchecked file is a usable image, by its content and not by its name."""

import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from redarte.images import decoding
from redarte.images.decoding import ImageArray, colours, png, tiff
from redarte.runtime.errors import UserError

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif",
})  # fmt: skip
_MESSAGES = {
    "too_large_a_file": "is too large a file",
    "empty_file": "is empty",
    "not_an_image": "is not an image",
    "tiff_without_imagecodecs": "is a TIFF that needs another package: python -m pip install imagecodecs",
    "heic_without_pillow_heif": "is HEIC, which needs another package: python -m pip install pillow-heif",
    "raw_file_of_a_camera": "is a camera's raw file with a small preview: develop it, as JPEG or TIFF",
    "thumbnail_page_first": "begins with a thumbnail page: save its full page as a separate file",
    "jpeg_2000": "is JPEG 2000, which is not supported: save it as JPEG or PNG",
    "jpeg_xl": "is JPEG XL, which is not supported: save it as JPEG or PNG",
    "photoshop_document": "is a Photoshop document, which is not supported: save it as JPEG, PNG or TIFF",
    "unsupported_jpeg": "is a JPEG of 12 bits a sample, lossless or with arithmetic coding, which is not supported: "
    "save it as a baseline JPEG",
    "unsupported_tiff": "is a TIFF with signed samples or another colour space, which is not supported: save it with 8 "
    "or 16 bits in RGB or grey",
    "floating_point_samples": "has floating-point samples, which have no agreed range: save it with 8 or 16 bits",
    "unsupported_colour_space": "is in another colour space than sRGB, without a colour profile: save it as sRGB",
    "too_many_pixels": "has too many pixels",
    "truncated_or_corrupt": "is truncated or corrupt",
    "takes_too_much_memory": "takes too much memory",
}
# Signatures of the supported formats: offset and bytes.
_BEGINNINGS = (
    (0, b"\xff\xd8\xff"), (0, png.SIGNATURE), (0, b"GIF87a"), (0, b"GIF89a"), (8, b"WEBPVP8"), (4, b"ftypavif"),
    (4, b"ftypavis"),
)  # fmt: skip
# Signatures of unsupported formats: offset, bytes and reason.
_OTHER_FORMATS = (
    (0, b"\0\0\0\x0cjP  ", "jpeg_2000"), (0, b"\xff\x4f\xff\x51", "jpeg_2000"), (0, b"8BPS", "photoshop_document"),
    (0, b"\0\0\0\x0cJXL ", "jpeg_xl"), (0, b"\xff\x0a", "jpeg_xl"),
)  # fmt: skip
# Frames of JPEG that libjpeg reads: baseline, extended and progressive, by Huffman coding (ITU-T T.81, table B.1).
_FRAMES, _FRAMES_READ = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}, (0xC0, 0xC1, 0xC2)
# Warnings of libjpeg and libtiff where they have made up pixels. A few extraneous bytes are padding.
_MADE_UP = re.compile(
    rb"premature end|bad Huffman|instead of RST|Premature end|Inconsistent progression"
    rb"|TIFF_Error.*(Decod|Not enough data)"
)
_EXTRANEOUS = re.compile(rb"(\d+) extraneous bytes before marker")
_MAX_PADDING = 64  # bytes
_CMYK = 4  # channels
_MAX_HEADER = 2**12  # bytes of a PNG before its pixels, for a chunk that precedes them
_STDERR = 2
MAX_PIXELS = 100e6  # of a user's file
_MAX_BYTES_PER_PIXEL = 8  # four channels of 16 bits, not compressed
# The peak while decoding: the file and, for 16-bit greyscale, the samples as float64 before and after scaling.
_MEMORY_PER_PIXEL = _MAX_BYTES_PER_PIXEL + 32
_BASE_MEMORY = 512 * 2**20  # of a process that decodes nothing

Result = TypeVar("Result")

# stderr belongs to the whole process, and threads may decode at once.
_CAPTURING = threading.Lock()


def begins_as_image(path: Path) -> bool:
    """Returns whether a file begins with the signature of an image format, whatever its name.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
    is_bitmap = head.startswith(b"BM") and head[6:10] == bytes(4)  # two reserved numbers
    # Two bytes alone, as of a JPEG XL without a container, may begin any file.
    known = (*_BEGINNINGS, *((offset, start) for offset, start, _ in _OTHER_FORMATS if len(start) > 2))
    is_known = any(head.startswith(start, offset) for offset, start in known)
    return is_known or is_bitmap or tiff.is_tiff(head) or head[4:12] in decoding.HEIC_BRANDS


def problem(data: bytes, max_pixels: float) -> str | None:
    """Returns why a file's content cannot be used as an image; None where it can.

    The content is decoded completely, by the code that the stages use later.
    """
    declared = _declared_problem(data, max_pixels)
    if declared:
        return declared
    try:
        _checked(data, lambda: decoding.decode(data, lambda size: size))
    except Exception as error:
        return _undecodable(error, data)
    return None


def further_pages(data: bytes) -> int:
    """Returns the number of full pages behind an image's first page; these are not used."""
    return tiff.header(data).further_pages if tiff.is_tiff(data) else 0


def read_content(path: Path, max_pixels: float) -> bytes | None:
    """Reads a file; returns None where it has more bytes than any image of so many pixels.

    Returns:
        The content, or None.

    Raises:
        OSError: the file cannot be read.
    """
    return None if path.stat().st_size > _MAX_BYTES_PER_PIXEL * max_pixels else path.read_bytes()


def read_resized(source: Path | bytes, side: int, max_pixels: float, jpeg_quality: int | None = None) -> ImageArray:
    """Reads an unchecked image, such as a user's file or an upload, resized to a square.

    Args:
        side: in px.

    Returns:
        (side, side, 3), uint8.
    """
    data = _content(source, max_pixels) if isinstance(source, Path) else source
    declared = _declared_problem(data, max_pixels)
    if declared:
        raise UserError(_MESSAGES[declared])
    try:
        decoded = _checked(data, lambda: decoding.decode(data, lambda _size: (side, side)))
        return decoding.through_jpeg(decoded, jpeg_quality)
    except Exception as error:
        raise UserError(_MESSAGES[_undecodable(error, data)]) from None


def _content(path: Path, max_pixels: float) -> bytes:
    try:
        if not path.is_file():
            raise UserError("is not a file" if path.exists() else "does not exist")
        data = read_content(path, max_pixels)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from None
    if data is None:
        raise UserError(_MESSAGES["too_large_a_file"])
    return data


def max_memory(max_pixels: float) -> int:
    """Returns how many bytes a process needs at most to decode an image."""
    return _BASE_MEMORY + round(_MEMORY_PER_PIXEL * max_pixels)


def _checked(data: bytes, decode: Callable[[], Result]) -> Result:
    """Decodes, and raises ValueError where the decoder warns that it has made up pixels.

    libjpeg decodes a JPEG with missing data to grey or to wrong colours, and reports it only on stderr. Pillow
    suppresses these warnings, so OpenCV decodes a second time what Pillow has decoded with the same libraries: TIFF,
    and JPEG in CMYK.
    """
    with _CAPTURING, _captured_stderr() as captured:
        result = decode()
        frame = _frame(data)
        if tiff.is_tiff(data):
            tiff.check_sums(data)
        if tiff.is_tiff(data) or (frame is not None and frame.channels == _CMYK):
            with suppress(cv2.error):
                cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
        os.lseek(captured, 0, os.SEEK_SET)
        warnings = os.read(captured, 4096)
    padding = _EXTRANEOUS.search(warnings)
    if _MADE_UP.search(warnings) or (padding and int(padding[1]) > _MAX_PADDING):
        raise ValueError(warnings.decode(errors="replace"))
    return result


@contextmanager
def _captured_stderr() -> Iterator[int]:
    """Sends what native code writes to stderr to an empty file for the duration of the block."""
    captured, original = _stderr_file(), os.dup(_STDERR)
    os.ftruncate(captured, 0)
    os.lseek(captured, 0, os.SEEK_SET)
    os.dup2(captured, _STDERR)
    # libtiff's warnings come through OpenCV, which the user's OPENCV_LOG_LEVEL may silence.
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    try:
        yield captured
    finally:
        cv2.utils.logging.setLogLevel(level)
        os.dup2(original, _STDERR)
        os.close(original)


@cache
def _stderr_file() -> int:
    """A file that captures what decoders write to stderr, the same for the life of the process."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _undecodable(error: Exception, data: bytes) -> str:
    """The reason for a decoder's exception."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == cv2.Error.StsNoMem:
        return "takes_too_much_memory"
    if isinstance(error, tiff.UnsupportedError):
        return "unsupported_tiff"
    if tiff.is_tiff(data) and "imagecodecs" in str(error):  # tifffile's message where the package is missing
        return "tiff_without_imagecodecs"
    return "unsupported_jpeg" if _is_unsupported_jpeg(data) else "truncated_or_corrupt"


def _is_unsupported_jpeg(data: bytes) -> bool:
    """Whether a JPEG has a kind of frame that libjpeg does not support, or more than 8 bits a sample."""
    frame = _frame(data)
    return frame is not None and (frame.marker not in _FRAMES_READ or frame.bits != 8)


class _Frame(NamedTuple):
    """The frame header of a JPEG (ITU-T T.81, B.2.2)."""

    marker: int
    bits: int
    channels: int


def _frame(data: bytes) -> _Frame | None:
    """The frame header of a JPEG; None where there is none."""
    offset = 2
    while data.startswith(b"\xff\xd8") and offset + 10 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker in _FRAMES:
            return _Frame(marker, data[offset + 4], data[offset + 9])
        offset += 1 if marker == 0xFF else 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return None


def _declared_problem(data: bytes, max_pixels: float) -> str | None:
    """The problem that a file's header shows, before anything is decoded."""
    if not data:
        return "empty_file"
    other = next((reason for offset, start, reason in _OTHER_FORMATS if data.startswith(start, offset)), None)
    if other:
        return other
    if tiff.is_tiff(data):
        return _problem_of_tiff(data, max_pixels)
    try:
        with decoding.opened(data) as image:
            width, height = image.size
            is_profiled = bool(image.info.get("icc_profile"))
    except Exception:
        # Pillow raises a dozen kinds of exception for a file that is none of its formats.
        return _unopened(data)
    if width * height > max_pixels:
        return "too_many_pixels"
    is_srgb = png.is_srgb(data) if data.startswith(png.SIGNATURE) else colours.is_srgb_container(data)
    return None if is_srgb or (is_profiled and b"cICP" not in data[:_MAX_HEADER]) else "unsupported_colour_space"


def _problem_of_tiff(data: bytes, max_pixels: float) -> str | None:
    try:
        header = tiff.header(data)
    except Exception:
        return "not_an_image"
    if header.width * header.height > max_pixels:
        return "too_many_pixels"
    if header.is_raw:
        return "raw_file_of_a_camera"
    if header.is_thumbnail:
        return "thumbnail_page_first"
    return "floating_point_samples" if header.is_float else None


def _unopened(data: bytes) -> str:
    """Why Pillow does not recognise a file."""
    if data[4:12] in decoding.HEIC_BRANDS and not decoding.HEIC:
        return "heic_without_pillow_heif"
    return "unsupported_jpeg" if _is_unsupported_jpeg(data) else "not_an_image"
