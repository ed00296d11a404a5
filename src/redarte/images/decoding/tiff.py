"""TIFFs that Pillow reads wrongly: samples of other depths than 8 bits; and the pages of a TIFF."""

import io
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
_WHITE_IS_ZERO, _RGB, _UNSIGNED, _FLOAT, _UNDEFINED, _SEPARATE_PLANES = 0, 2, 1, 3, 4, 2
_NOT_OF_PILLOW = (33003, 33004, 33005, 34712, 34887, 34927, 50001, 50002)  # JPEG 2000, LERC, WebP, JPEG XL
_BIG_ENDIAN_BIG_TIFF = b"MM\0+"
_PREMULTIPLIED, _ALPHA = 1, 2
_ORIENTATION, _PROFILE = 274, 34675
_SUB_IFDS, _DNG_VERSION = 330, 50706  # tags: a raw file's full image, and the raw format's version
_MAX_PAGES = 1000  # that are counted


class UnsupportedError(ValueError):
    """The TIFF is of a kind that is not supported."""


@dataclass(frozen=True)
class Header:
    """The header of a TIFF.

    Attributes:
        width: of the first page, in px.
        height: of the first page, in px.
        is_float: whether the samples are floating-point numbers.
        is_raw: whether it is a camera's raw file, whose first page is a preview.
        is_thumbnail: whether the first page is a smaller version of a further one.
        further_pages: the number of full pages behind the first.
    """

    width: int
    height: int
    is_float: bool
    is_raw: bool
    is_thumbnail: bool
    further_pages: int


def is_tiff(data: bytes) -> bool:
    """Returns whether the content, or its first four bytes, begins as a TIFF."""
    return data[:4] in _BEGINNINGS


def header(data: bytes) -> Header:
    """Reads the headers of all pages."""
    with _first_page(data) as (first, file):
        if not isinstance(first.imagewidth, int) or not isinstance(first.imagelength, int):
            raise ValueError("more than one width or height")
        full = 0
        with suppress(IndexError):
            for number in range(1, _MAX_PAGES):
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
    """Returns whether Pillow reads the samples correctly: it scales or truncates those of other depths."""
    with _first_page(data) as (first, _):
        channels, kind = first.samplesperpixel, int(first.photometric)
        return (
            first.bitspersample in _DEPTHS_OF_PILLOW
            and first.sampleformat in (_UNSIGNED, _UNDEFINED)
            and int(first.compression) not in _NOT_OF_PILLOW
            and channels <= _CHANNELS.get(kind, channels) + (kind == _RGB)
            and data[:4] != _BIG_ENDIAN_BIG_TIFF
        )


def palette_of_8_bits(data: bytes) -> bytes | None:
    """Returns the palette of a TIFF whose colour map has 8 bits, as libtiff reads it; None for the usual 16 bits."""
    with _first_page(data) as (first, _):
        table = np.asarray(first.colormap) if first.colormap is not None else np.array([])
    return table.T.astype(np.uint8).tobytes() if table.size and table.max() < 256 else None


def profile(data: bytes) -> tuple[bytes | None, str]:
    """Returns the colour profile of the first page, and the mode of its colours: L, RGB or CMYK; "" for others."""
    with _first_page(data) as (first, _):
        return _profile(first), _MODES.get(_CHANNELS.get(int(first.photometric), 0), "")


def check_sums(data: bytes) -> None:
    """Decodes a first page that is compressed by Deflate a second time: libtiff ignores the checksums."""
    with _first_page(data) as (first, _):
        if int(first.compression) in _DEFLATE:
            first.asarray(maxworkers=1)


def read(data: bytes) -> tuple[Image.Image, Image.Image | None, int, bytes | None]:
    """Reads the first page of a TIFF of any depth.

    Returns:
        The colours as stored, 8 bits in the mode L, RGB or CMYK; the opacity in the mode L, or None; the orientation, 1
        to 8, as in EXIF; and the colour profile, or None.

    Raises:
        UnsupportedError: the samples are signed, of different depths or of another colour space.
    """
    with _first_page(data) as (page, _):
        kind, bits, channels = int(page.photometric), page.bitspersample, page.samplesperpixel
        base = _CHANNELS.get(kind)
        if (
            page.sampleformat not in (_UNSIGNED, _UNDEFINED)
            or not isinstance(bits, int)
            or base is None
            or channels < base
        ):
            raise UnsupportedError(f"samples of {bits} bits, format {page.sampleformat}, photometric {kind}")
        if not page.imagewidth * page.imagelength:
            raise ValueError("no pixels")
        extras = [int(extra) for extra in page.extrasamples or ()]
        index = next((number for number, extra in enumerate(extras) if extra in (_PREMULTIPLIED, _ALPHA)), None)
        orientation, icc = page.tags.valueof(_ORIENTATION, 1), _profile(page)
        samples = _planes(page.asarray(maxworkers=1), page)
    # One channel at a time, because 64-bit samples take the most memory.
    scaled = [
        np.rint(plane.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)
        for plane in (*samples[:base], *(() if index is None else [samples[base + index]]))
    ]
    colours = np.stack(scaled[:base], axis=-1)
    image = Image.fromarray(
        (255 - colours if kind == _WHITE_IS_ZERO else colours).squeeze(-1) if base == 1 else colours
    )
    if base == 4:
        image = Image.frombytes("CMYK", image.size, colours.tobytes())
    alpha = None if index is None else Image.fromarray(scaled[base])
    if alpha is not None and index is not None and extras[index] == _PREMULTIPLIED and base == 3:
        image = Image.merge("RGBa", [*image.split(), alpha]).convert("RGBA").convert("RGB")
    return image, alpha, orientation, icc


@contextmanager
def _first_page(data: bytes) -> Iterator[tuple[Any, Any]]:
    """Opens a TIFF: its first page, and tifffile's view of the file."""
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
