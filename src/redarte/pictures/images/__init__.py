"""Files that hold pictures. The only module that lists, opens, decodes or encodes them.

In memory a picture is always an upright sRGB array of shape (height, width, 3), uint8, 0 to 255.
Ordinary JPEGs go through OpenCV, which decodes them at a half, a quarter or an eighth of their size for a
fraction of the cost. TIFFs of other depths than 8 bits go through tifffile, which knows all of them. Everything
else (PNG, CMYK, alpha, animations) goes through Pillow. Which way is up and which colours are meant is decided
here, for all alike.
"""

import io
import os
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from redarte.pictures.images import colours, png, tiff
from redarte.runtime.errors import UserError

COPY_MARK = "__"  # between the name of a picture and that of its copy
HEIC = find_spec("pillow_heif") is not None
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", *(("HEIF",) if HEIC else ()))
_REDUCED = {
    1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8,
}  # fmt: skip
_WHITE = (255, 255, 255)
_TOGETHER = 32  # pictures of 224 px
_ORIENTATION = 0x0112  # the tag of EXIF
_SHORT = 3  # the type of EXIF that it has to be of
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_SIDEWAYS = {
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
}  # fmt: skip
if HEIC:
    import pillow_heif

    pillow_heif.register_heif_opener()

# collection.checks sets its own bound on pixels, from params.yaml, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None
# What it remarks on odd tags is for those who write such files.
warnings.filterwarnings("ignore", module=r"PIL\.")
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


def through_jpeg(picture: Picture, quality: int | None) -> Picture:
    """A picture as it is read again after `write_jpeg`: the same as in data/resized. None: the picture itself."""
    return picture if quality is None else decode(jpeg(picture, quality), lambda size: size)


def jpeg(picture: Picture, quality: int) -> bytes:
    """A baseline JPEG: the same bytes for the same picture and quality."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise UserError(f"a picture of {picture.shape} cannot be written as JPEG.")
    return bytes(data.tobytes())


def write_jpeg(path: Path, picture: Picture, quality: int) -> None:
    """Writes a picture as `jpeg` encodes it."""
    path.write_bytes(jpeg(picture, quality))


def opened(data: bytes) -> Image.Image:
    """A file's content as Pillow's picture, of which the header has been read."""
    if data.startswith(png.SIGNATURE):
        data = png.without_texts(data)
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def decode(data: bytes, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> Picture:
    """Decodes a picture to the size that `fit` makes of its own upright (width, height)."""
    if tiff.is_tiff(data) and not tiff.is_read_by_pillow(data):
        picture = _decode_tiff(data)
        return _scale(picture, *fit((picture.shape[1], picture.shape[0])))
    with opened(data) as image:
        profile = image.info.get("icc_profile")
        # MPO is what Pillow calls a JPEG of a camera that appends a second picture.
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            turn = _turn(image)
            upright = image.size[::-1] if turn in _SIDEWAYS else image.size
            width, height = fit(upright)
            least = (height, width) if turn in _SIDEWAYS else (width, height)
            jpeg_pixels = _decode_jpeg(data, _reduction(image.size, least))
            if jpeg_pixels is not None:
                return _scale(_finished(jpeg_pixels, image.mode, turn, profile), width, height)
        # Also a JPEG that OpenCV cannot decode: Pillow knows more of them, and says whether it is whole.
        picture = _decode_other(image, data, profile)
    return _scale(picture, *fit((picture.shape[1], picture.shape[0])))


def has_broken_profile(data: bytes) -> bool:
    """Whether a whole picture has a colour profile that cannot be used: it is shown as if it had none."""
    if tiff.is_tiff(data) and not tiff.is_read_by_pillow(data):
        profile, mode = tiff.profile(data)
        return profile is not None and colours.is_broken(profile, mode)
    with opened(data) as image:
        profile = image.info.get("icc_profile")
        return colours.is_broken(profile, colours.of_8_bits(image).mode) if profile else False


def _read(path: Path, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> Picture:
    try:
        return decode(path.read_bytes(), fit)
    except Exception as error:
        raise UserError(
            f"{path} cannot be decoded ({error}); it was whole when `fetch` checked it: run `dvc checkout`."
        ) from None


def _reduction(size: tuple[int, int], least: tuple[int, int]) -> int:
    """By how much a JPEG's decoder may shrink it and still give at least `least` pixels each way."""
    fits = [n for n in (8, 4, 2) if size[0] // n >= least[0] and size[1] // n >= least[1]]
    return fits[0] if fits else 1


def _decode_jpeg(data: bytes, reduction: int) -> Picture | None:
    """The pixels as they are stored; None where OpenCV cannot decode them."""
    flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _finished(picture: Picture, mode: str, turn: Image.Transpose | None, profile: bytes | None) -> Picture:
    """Decoded pixels, upright and in sRGB. Most pictures are that as they are stored."""
    if turn is None and colours.conversion(profile, mode) is None:
        return picture
    image = Image.fromarray(picture if mode == "RGB" else picture[..., 0])
    return np.asarray(colours.to_srgb(image if turn is None else image.transpose(turn), profile))


def _decode_tiff(data: bytes) -> Picture:
    """The first page of a TIFF of any depth as upright sRGB, on white where it is transparent."""
    stored, alpha, orientation, profile = tiff.read(data)
    turn = _UPRIGHT.get(orientation)
    upright = _on_white(colours.to_srgb(stored, profile), alpha)
    return np.asarray(upright if turn is None else upright.transpose(turn))


def _decode_other(image: Image.Image, data: bytes, profile: bytes | None) -> Picture:
    """Anything that Pillow opens as upright sRGB: the first frame, on white where it is transparent."""
    # Pillow turns a TIFF as it loads it, and would believe its XMP.
    image.info.pop("xmp", None)
    image.load()  # a PNG may tell its orientation at its end
    turn = None if image.format == "TIFF" else _turn(image)
    upright = _on_white(colours.to_srgb(colours.of_8_bits(image), profile), png.alpha(image, data))
    return np.asarray(upright if turn is None else upright.transpose(turn))


def _on_white(opaque: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """Pixels in the mode RGB, on white where they are transparent."""
    if alpha is None:
        return opaque
    opaque.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", opaque.size, _WHITE), opaque).convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright, by its EXIF orientation; None where it is upright as it is stored.

    As in browsers, only a value of the standard's own type counts (Exif 2.32, 4.6.4: one SHORT, 1 to 8), and no XMP.
    """
    exif = (image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (tags,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * tags, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", exif, place)
            if tag == _ORIENTATION:
                return _UPRIGHT.get(value) if (kind, count) == (_SHORT, 1) else None
    return None


def _within(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _scale(picture: Picture, width: int, height: int) -> Picture:
    """Resizes: INTER_AREA along an axis that shrinks, and then INTER_CUBIC along one that grows.

    INTER_AREA of OpenCV interpolates linearly on both axes where one of them grows, which makes stripes of fine detail.
    """
    picture = _resize(picture, min(width, picture.shape[1]), min(height, picture.shape[0]), cv2.INTER_AREA)
    return _resize(picture, width, height, cv2.INTER_CUBIC)


def _resize(picture: Picture, width: int, height: int, interpolation: int) -> Picture:
    if picture.shape[:2] == (height, width):
        return picture
    resized: Picture = cv2.resize(picture, (width, height), interpolation=interpolation)
    return resized
