"""TIFFs as Pillow does not read them: samples of other depths than 8 bits, and what they say of their pages."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEPTHS_OF_PILLOW = (1, 2, 4, 8)  # bits a sample
# Values of TIFF 6.0: photometric interpretations, sample formats and extra samples; and two tags.
_CHANNELS = {0: 1, 1: 1, 2: 3, 5: 4}  # white is zero, black is zero, RGB, separated (CMYK)
_DEFLATE = (8, 32946)  # compressions
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_WHITE_IS_ZERO, _UNSIGNED, _FLOAT, _SEPARATE_PLANES = 0, 1, 3, 2
_PREMULTIPLIED, _ALPHA = 1, 2
_ORIENTATION, _PROFILE = 274, 34675
_SUB_IFDS, _DNG_VERSION = 330, 50706  # where a camera's raw file has its full picture; what says that it is one
_MOST_PAGES = 1000  # that are counted

# What it remarks on odd tags is for those who write such files.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class UnsupportedError(ValueError):
    """A TIFF of a kind that is not read here."""


@dataclass(frozen=True)
class Header:
    """What a TIFF says of itself.

    Attributes:
        width, height: of the first page, in px.
        is_float: whether its samples are floating-point numbers.
        is_raw: whether it is a camera's raw file, of which the first page is a preview.
        is_thumbnail: whether the first page is a smaller version of a further one.
        further_pages: how many full pages there are behind the first.
    """

    width: int
    height: int
    is_float: bool
    is_raw: bool
    is_thumbnail: bool
    further_pages: int


def is_tiff(data: bytes) -> bool:
    """Whether a file, or its first four bytes, begins as a TIFF."""
    return data[:4] in _BEGINNINGS


def header(data: bytes) -> Header:
    """What a TIFF says of itself, in all of its pages.

    Raises:
        Exception: of any kind, where it is corrupt.
    """
    with _first_page(data) as (first, file):
        if not isinstance(first.imagewidth, int) or not isinstance(first.imagelength, int):
            raise ValueError("more than one width or height")
        full = 0
        with suppress(IndexError):
            for number in range(1, _MOST_PAGES):
                full += not file.pages.get(number).is_reduced
        return Header(
            first.imagewidth,
            first.imagelength,
            first.sampleformat == _FLOAT,
            _DNG_VERSION in first.tags or (first.is_reduced and (_SUB_IFDS in first.tags or not full)),
            bool(first.is_reduced and full),
            full,
        )


def is_read_by_pillow(data: bytes) -> bool:
    """Whether Pillow reads the samples of a TIFF: it scales those of other depths wrongly, or cuts them off.

    Raises:
        Exception: of any kind, where it is corrupt.
    """
    with _first_page(data) as (first, _):
        return first.bitspersample in _DEPTHS_OF_PILLOW and first.sampleformat != _FLOAT


def profile(data: bytes) -> tuple[bytes | None, str]:
    """The colour profile of the first page, and the mode of its colours: L, RGB or CMYK; empty for others.

    Raises:
        Exception: of any kind, where it is corrupt.
    """
    with _first_page(data) as (first, _):
        return _profile(first), _MODES.get(_CHANNELS.get(int(first.photometric), 0), "")


def check_sums(data: bytes) -> None:
    """Decodes the first page of a TIFF that is compressed by Deflate once more: libtiff ignores its checksums.

    Raises:
        Exception: of any kind, where one is wrong.
    """
    with _first_page(data) as (first, _):
        if int(first.compression) in _DEFLATE:
            first.asarray(maxworkers=1)


def read(data: bytes) -> tuple[Image.Image, Image.Image | None, int, bytes | None]:
    """The first page of a TIFF of any depth.

    Returns:
        Its colours, of 8 bits in one of the modes L, RGB and CMYK, as they are stored; how opaque it is, in the mode L,
        or None; its orientation, 1 to 8, as in EXIF; and its colour profile.

    Raises:
        UnsupportedError: its samples are signed, of different depths or of another colour space.
        Exception: of any kind, where it is corrupt.
    """
    with _first_page(data) as (page, _):
        kind, bits, channels = int(page.photometric), page.bitspersample, page.samplesperpixel
        base = _CHANNELS.get(kind)
        if page.sampleformat != _UNSIGNED or not isinstance(bits, int) or base is None or channels < base:
            raise UnsupportedError(f"samples of {bits} bits, format {page.sampleformat}, photometric {kind}")
        if not page.imagewidth * page.imagelength:
            raise ValueError("no pixels")
        extra = int(page.extrasamples[0]) if page.extrasamples else 0
        orientation, icc = page.tags.valueof(_ORIENTATION, 1), _profile(page)
        samples = _planes(page.asarray(maxworkers=1), page)
    # One channel at a time: in 64 bits they take the most memory.
    scaled = [
        np.rint(plane.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8) for plane in samples[: base + 1]
    ]
    colours = np.stack(scaled[:base], axis=-1)
    image = Image.fromarray(
        (255 - colours if kind == _WHITE_IS_ZERO else colours).squeeze(-1) if base == 1 else colours
    )
    if base == 4:
        image = Image.frombytes("CMYK", image.size, colours.tobytes())
    alpha = Image.fromarray(scaled[base]) if extra in (_PREMULTIPLIED, _ALPHA) else None
    if alpha is not None and extra == _PREMULTIPLIED and base == 3:
        image = Image.merge("RGBa", [*image.split(), alpha]).convert("RGBA").convert("RGB")
    return image, alpha, orientation, icc


@contextmanager
def _first_page(data: bytes) -> Iterator[tuple[Any, Any]]:
    """The first page of a TIFF, and the file as tifffile has it."""
    from tifffile import TiffFile

    with TiffFile(io.BytesIO(data)) as file:
        yield file.pages.first, file


def _profile(page: Any) -> bytes | None:
    found = page.tags.valueof(_PROFILE)
    return found if isinstance(found, bytes) else None


def _planes(samples: Any, page: Any) -> np.ndarray:
    """The samples of a page as (channels, height, width)."""
    height, width, channels = page.imagelength, page.imagewidth, page.samplesperpixel
    if channels > 1 and page.planarconfig == _SEPARATE_PLANES:
        return np.asarray(samples.reshape(channels, height, width))
    return np.asarray(samples.reshape(height, width, channels).transpose(2, 0, 1))
