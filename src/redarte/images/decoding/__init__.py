"""Image files. The only package that opens, decodes and encodes them.

In memory an image is always an upright sRGB array of shape (height, width, 3), uint8, 0 to 255. Ordinary JPEGs are
decoded by OpenCV, which can decode at a half, a quarter or an eighth of the size for a fraction of the cost. TIFFs of
other depths than 8 bits are decoded by tifffile, everything else (PNG, CMYK, alpha, animations) by Pillow. Orientation
and colour profiles are applied here, for all formats alike.
"""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from redarte.images.decoding import colours, orientation, png, tiff
from redarte.runtime.errors import UserError

HEIC = find_spec("pillow_heif") is not None
HEIC_BRANDS = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_REDUCED = {
    1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8,
}  # fmt: skip
_WHITE = (255, 255, 255)
_PILLOW = threading.Lock()  # its limit of pixels is a global variable

ImageArray = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


class Readable(Protocol):  # a pathlib.Path, or an image in a tar file
    def read_bytes(self) -> bytes: ...


def read_within(path: Readable, max_side: int) -> ImageArray:
    """Reads an image with its aspect ratio, shrunk if needed.

    Args:
        max_side: the maximum of width and height, in px.

    Returns:
        (height, width, 3), uint8.
    """

    return _read(path, lambda size: _within(size, max_side))


def read_resized(path: Readable, side: int) -> ImageArray:
    """Reads an image resized to a square as the study's models see it; the aspect ratio is not kept.

    Args:
        side: in px.

    Returns:
        (side, side, 3), uint8.
    """
    return _read(path, lambda _size: (side, side))


def shrink(pixels: ImageArray, max_side: int) -> ImageArray:
    """Returns an image with its aspect ratio, shrunk if needed.

    Args:
        pixels: (height, width, 3), uint8.
        max_side: the maximum of width and height, in px.
    """
    return scale(pixels, *_within((pixels.shape[1], pixels.shape[0]), max_side))


def size(path: Readable) -> tuple[int, int]:
    """Returns an image's width and height in px, from its header."""
    with opened(path.read_bytes()) as image:
        return image.size


def through_jpeg(pixels: ImageArray, quality: int | None) -> ImageArray:
    """Returns an image after compression: the pixels that are read back from a file in data/resized.

    Args:
        pixels: (height, width, 3), uint8.
        quality: 1 to 100; None returns the image itself.
    """
    return pixels if quality is None else decode(jpeg(pixels, quality), lambda size: size)


def jpeg(pixels: ImageArray, quality: int) -> bytes:
    """Encodes a baseline JPEG: equal images and qualities give equal bytes.

    Args:
        pixels: (height, width, 3), uint8.
        quality: 1 to 100.
    """
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise UserError(f"an image of shape {pixels.shape} cannot be written as JPEG.")
    return bytes(data.tobytes())


def write_jpeg(path: Path, pixels: ImageArray, quality: int) -> None:
    """Writes an image as `jpeg` encodes it.

    Args:
        pixels: (height, width, 3), uint8.
        quality: 1 to 100.
    """
    path.write_bytes(jpeg(pixels, quality))


def opened(data: bytes) -> Image.Image:
    """Opens a file's content with Pillow, which reads its header."""
    if HEIC and data[4:12] in HEIC_BRANDS:
        import pillow_heif

        heif: Image.Image = pillow_heif.HeifImageFile(io.BytesIO(data))  # not registered in the caller's Pillow
        return heif
    profile = None
    if data.startswith(png.SIGNATURE):
        data, profile = png.prepared(data)
    with _without_limit():
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if profile is not None:
        image.info["icc_profile"] = profile
    return image


@contextmanager
def _without_limit() -> Iterator[None]:
    """Lifts Pillow's limit of pixels: ingestion.checks applies the one of params.yaml before anything is decoded."""
    with _PILLOW:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def decode(data: bytes, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> ImageArray:
    """Decodes an image.

    Args:
        fit: maps the upright (width, height) to the wanted (width, height), in px.

    Returns:
        (height, width, 3), uint8.
    """
    if tiff.is_tiff(data) and not tiff.is_read_by_pillow(data):
        pixels = _decode_tiff(data)
        return scale(pixels, *fit((pixels.shape[1], pixels.shape[0])))
    with opened(data) as image:
        profile = image.info.get("icc_profile")
        # MPO is Pillow's name for a camera's JPEG with a second image behind the first.
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            turn = orientation.transposition(image)
            upright = image.size[::-1] if turn in orientation.SIDEWAYS else image.size
            width, height = fit(upright)
            least = (height, width) if turn in orientation.SIDEWAYS else (width, height)
            jpeg_pixels = _decode_jpeg(data, _reduction(image.size, least))
            if jpeg_pixels is not None:
                return scale(_finished(jpeg_pixels, image.mode, turn, profile), width, height)
        # Also a JPEG that OpenCV cannot decode: Pillow supports more kinds.
        pixels = _decode_other(image, data, profile)
    return scale(pixels, *fit((pixels.shape[1], pixels.shape[0])))


def has_broken_profile(data: bytes) -> bool:
    """Returns whether a complete image has a colour profile that cannot be used; it is then decoded as if it had
    none.
    """
    if tiff.is_tiff(data) and not tiff.is_read_by_pillow(data):
        profile, mode = tiff.profile(data)
        return profile is not None and colours.is_broken(profile, mode)
    with opened(data) as image:
        profile = image.info.get("icc_profile")
        return colours.is_broken(profile, colours.of_8_bits(image).mode) if profile else False


def _read(path: Readable, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> ImageArray:
    try:
        return decode(path.read_bytes(), fit)
    except Exception as error:
        raise UserError(
            f"{path} cannot be decoded ({error}); it was complete when `fetch` checked it: run `dvc checkout`."
        ) from None


def _reduction(size: tuple[int, int], least: tuple[int, int]) -> int:
    """The largest factor by which a JPEG's decoder may shrink an image that needs at least `least` pixels each way."""
    fits = [n for n in (8, 4, 2) if size[0] // n >= least[0] and size[1] // n >= least[1]]
    return fits[0] if fits else 1


def _decode_jpeg(data: bytes, reduction: int) -> ImageArray | None:
    """The pixels as they are stored; None where OpenCV cannot decode them."""
    flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _finished(pixels: ImageArray, mode: str, turn: Image.Transpose | None, profile: bytes | None) -> ImageArray:
    """Decoded pixels, upright and in sRGB. Most images are stored that way."""
    if turn is None and colours.conversion(profile, mode) is None:
        return pixels
    image = Image.fromarray(pixels if mode == "RGB" else pixels[..., 0])
    return np.asarray(colours.to_srgb(image if turn is None else image.transpose(turn), profile))


def _decode_tiff(data: bytes) -> ImageArray:
    """The first page of a TIFF of any depth as upright sRGB, on white where it is transparent."""
    stored, alpha, value, profile = tiff.read(data)
    turn = orientation.UPRIGHT.get(value)
    upright = _on_white(colours.to_srgb(stored, profile), alpha)
    return np.asarray(upright if turn is None else upright.transpose(turn))


def _decode_other(image: Image.Image, data: bytes, profile: bytes | None) -> ImageArray:
    """Anything that Pillow opens as upright sRGB: the first frame, on white where it is transparent."""
    # Pillow rotates a TIFF as it loads it, and would use its XMP.
    image.info.pop("xmp", None)
    box = image.dispose_extent if isinstance(image, GifImageFile) else None  # of the first frame
    image.load()  # a PNG may store its orientation at its end
    if image.format == "TIFF" and image.mode == "P" and (palette := tiff.palette_of_8_bits(data)):
        image.putpalette(palette)
    turn = None if image.format == "TIFF" else orientation.transposition(image)
    alpha = png.alpha(image, data)
    if box is not None and box != (0, 0, *image.size):  # the rest of the screen is transparent
        frame = (alpha or Image.new("L", image.size, 255)).crop(box)
        alpha = Image.new("L", image.size)
        alpha.paste(frame, box)
    upright = _on_white(colours.to_srgb(colours.of_8_bits(image), profile), alpha)
    return np.asarray(upright if turn is None else upright.transpose(turn))


def _on_white(opaque: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Pixels in the mode RGB, on white where they are transparent."""
    if alpha is None:
        return opaque
    opaque.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", opaque.size, _WHITE), opaque).convert("RGB")


def _within(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def scale(pixels: ImageArray, width: int, height: int) -> ImageArray:
    """Resizes: INTER_AREA along an axis that shrinks, then INTER_CUBIC along an axis that grows.

    OpenCV's INTER_AREA interpolates linearly on both axes where one of them grows, which aliases fine detail.
    """
    pixels = _resize(pixels, min(width, pixels.shape[1]), min(height, pixels.shape[0]), cv2.INTER_AREA)
    return _resize(pixels, width, height, cv2.INTER_CUBIC)


def _resize(pixels: ImageArray, width: int, height: int, interpolation: int) -> ImageArray:
    if pixels.shape[:2] == (height, width):
        return pixels
    resized: ImageArray = cv2.resize(pixels, (width, height), interpolation=interpolation)
    return resized
