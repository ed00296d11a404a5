"""Whether a file that nobody has checked is a picture that can be used, by its content and not by its name."""

import io
from contextlib import suppress
from pathlib import Path

import cv2
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from redarte.pictures import images
from redarte.pictures.images import Picture
from redarte.runtime.errors import UserError

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif",
})  # fmt: skip
_IN_WORDS = {
    "too_large_a_file": "is too large a file",
    "empty_file": "is empty",
    "not_a_picture": "is not a picture",
    "heic_without_pillow_heif": "is HEIC, which needs a package here: python -m pip install pillow-heif",
    "raw_file_of_a_camera": "is a camera's raw file with a small preview: develop it, as JPEG or TIFF",
    "floating_point_samples": "has floating-point samples, which have no agreed range: save it with 8 or 16 bits",
    "too_many_pixels": "has too many pixels",
    "truncated_or_corrupt": "is truncated or corrupt",
    "takes_too_much_memory": "takes too much memory",
}
# How files of these formats begin: a place, and what stands there.
_BEGINNINGS = (
    (0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n\x1a\n"), (0, b"GIF87a"), (0, b"GIF89a"), (8, b"WEBPVP8"),
    (0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+"), (4, b"ftypavif"), (4, b"ftypavis"),
)  # fmt: skip
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
_SUBFILE_TYPE, _REDUCED = 254, 1  # TIFF 6.0, section 8: the first picture of NEF, DNG and ARW
_SAMPLE_FORMAT, _FLOATING = 339, 3  # TIFF 6.0, section 19
_MOST_BYTES_A_PIXEL = 8  # four channels of 16 bits, not compressed
# What decoding holds at its most: a file, and of 16 bits of grey the samples, as float64, and the scaled ones.
_MOST_MEMORY_A_PIXEL = _MOST_BYTES_A_PIXEL + 32
_MEMORY_AT_REST = 512 * 2**20  # of a process that decodes


def begins_as_picture(path: Path) -> bool:
    """Whether a file begins as pictures do, whatever its name.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
    is_bitmap = head.startswith(b"BM") and head[6:10] == bytes(4)  # two reserved numbers
    return is_bitmap or head[4:12] in _HEIC or any(head.startswith(start, place) for place, start in _BEGINNINGS)


def problem(data: bytes, max_pixels: float) -> str | None:
    """Why a file's content cannot be used as a picture; None where it can.

    It is decoded whole, by the same code that the stages use later.

    Args:
        data: the content.
        max_pixels: a picture that declares more pixels is not decoded.
    """
    declared = _declared_problem(data, max_pixels)
    if declared:
        return declared
    try:
        images.decode(data, lambda size: size)
    except Exception as error:
        return _undecodable(error)
    return None


def read_content(path: Path, max_pixels: float) -> bytes | None:
    """A file's content; None where it has more bytes than any picture of so many pixels, and is not read.

    Raises:
        OSError: it cannot be read.
    """
    return None if path.stat().st_size > _MOST_BYTES_A_PIXEL * max_pixels else path.read_bytes()


def read_square(source: Path | bytes, side: int, max_pixels: float, jpeg_quality: int | None = None) -> Picture:
    """A picture that nobody has checked, squeezed to side×side px: a person's own file, or an upload.

    Args:
        source: a file, or the content of one.
        max_pixels: a picture that declares more pixels is not decoded.
        jpeg_quality: see `images.through_jpeg`.

    Raises:
        UserError: why it cannot be used, in words that follow its name.
    """
    data = _content(source, max_pixels) if isinstance(source, Path) else source
    declared = _declared_problem(data, max_pixels)
    if declared:
        raise UserError(_IN_WORDS[declared])
    try:
        return images.through_jpeg(images.decode(data, lambda _size: (side, side)), jpeg_quality)
    except Exception as error:
        raise UserError(_IN_WORDS[_undecodable(error)]) from None


def _content(path: Path, max_pixels: float) -> bytes:
    try:
        if not path.is_file():
            raise UserError("is not a file" if path.exists() else "is not there")
        data = read_content(path, max_pixels)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from None
    if data is None:
        raise UserError(_IN_WORDS["too_large_a_file"])
    return data


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
        with images.opened(data) as image:
            (width, height), mode = image.size, image.mode
            is_preview = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE) == _REDUCED
    except Exception:
        # Pillow raises a dozen kinds of exception for a file that is none of its formats.
        return _unopened(data)
    if width * height > max_pixels:
        return "too_many_pixels"
    if is_preview:
        return "raw_file_of_a_camera"
    return "floating_point_samples" if mode == "F" else None


def _unopened(data: bytes) -> str:
    """Why Pillow takes a file for no picture."""
    if data[4:12] in _HEIC and not images.HEIC:
        return "heic_without_pillow_heif"
    # Of floating-point samples Pillow knows only those of one channel.
    if data[:4] in (b"II*\0", b"MM\0*"):
        with suppress(Exception):
            tags = ImageFileDirectory_v2(data[:8])
            stream = io.BytesIO(data)
            stream.seek(tags.next)
            tags.load(stream)
            samples = tags.get(_SAMPLE_FORMAT)
            if _FLOATING in (samples if isinstance(samples, tuple) else (samples,)):
                return "floating_point_samples"
    return "not_a_picture"
