"""Files that hold pictures. The only module that lists, opens, decodes or encodes them.

In memory a picture is always an upright sRGB array of shape (height, width, 3), uint8, 0 to 255.
Ordinary JPEGs go through OpenCV, which decodes them at a half, a quarter or an eighth of their size for a
fraction of the cost. Everything else (PNG, CMYK, 16 bits, alpha, animations) goes through Pillow, which
knows what to do with it. Which way is up and which colours are meant is decided here, for both alike.
"""

import io
import os
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms

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
_BROKEN = (OSError, TypeError, ValueError, ImageCms.PyCMSError)  # what Pillow raises for a profile
# The colour space of a profile -> the modes of pictures whose pixels it can be of.
_MODES = {"RGB": ("RGB", "L"), "GRAY": ("L",), "CMYK": ("CMYK",)}

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
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def decode(data: bytes, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> Picture:
    """Decodes a picture to the size that `fit` makes of its own upright (width, height)."""
    with opened(data) as image:
        profile = image.info.get("icc_profile")
        # MPO is what Pillow calls a JPEG of a camera that appends a second picture.
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            turn = _turn(image)
            upright = image.size[::-1] if turn in _SIDEWAYS else image.size
            width, height = fit(upright)
            least = (height, width) if turn in _SIDEWAYS else (width, height)
            picture = _decode_jpeg(data, _reduction(image.size, least))
            if picture is not None:
                return _scale(_finished(picture, image.mode, turn, profile), width, height)
        # Also a JPEG that OpenCV cannot decode: Pillow knows more of them, and says whether it is whole.
        picture = _decode_other(image, profile)
    return _scale(picture, *fit((picture.shape[1], picture.shape[0])))


def has_broken_profile(data: bytes) -> bool:
    """Whether a whole picture has a colour profile that cannot be used: it is shown as if it had none."""
    with opened(data) as image:
        profile = image.info.get("icc_profile")
        if not profile:
            return False
        try:
            _to_srgb(profile, _colours(image).mode)
        except _BROKEN:
            return True
    return False


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
    if turn is None and _conversion(profile, mode) is None:
        return picture
    image = Image.fromarray(picture if mode == "RGB" else picture[..., 0])
    return np.asarray(_in_srgb(image if turn is None else image.transpose(turn), profile))


def _decode_other(image: Image.Image, profile: bytes | None) -> Picture:
    """Anything that Pillow opens as upright sRGB: the first frame, on white where it is transparent."""
    # Pillow turns a TIFF as it loads it, and would believe its XMP.
    image.info.pop("xmp", None)
    image.load()  # a PNG may tell its orientation at its end
    turn = None if image.format == "TIFF" else _turn(image)
    image = image if turn is None else image.transpose(turn)
    colours = _in_srgb(_colours(image), profile)
    if image.has_transparency_data and not image.mode.startswith("I"):
        colours.putalpha(image.convert("RGBA").getchannel("A"))
        colours = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), colours)
    return np.asarray(colours.convert("RGB"))


def _colours(image: Image.Image) -> Image.Image:
    """A picture of 8 bits a sample in one of the modes RGB, L and CMYK, without its transparency."""
    if image.mode == "F":
        raise ValueError("floating-point samples have no agreed range")
    if image.mode.startswith("I"):
        # 16 bits a sample; Pillow's own conversion would clip instead of scale.
        grey = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(np.clip(grey, 0, 255).round().astype(np.uint8))
    if image.mode in ("RGB", "L", "CMYK"):
        return image
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Pixels in the mode RGB, L or CMYK as sRGB, by a colour profile where there is one that can be used."""
    transform = _conversion(profile, image.mode)
    return image.convert("RGB") if transform is None else transform.apply(image.convert(transform.input_mode))


def _conversion(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels into sRGB by a profile; None where there is none, or it changes nothing or is broken."""
    with suppress(*_BROKEN):
        return _to_srgb(profile, mode) if profile else None
    return None


@lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels of a mode and a colour profile into sRGB; None where they are sRGB already.

    Raises:
        any of _BROKEN: the profile is broken, or of another kind of pixels.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if mode not in _MODES.get(space, ()):
        raise ValueError(f"a profile for {space} in a picture in {mode}")
    mode = _MODES[space][0]
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return transform
    # Most profiles are sRGB's own, in one of a dozen wordings.
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    colours = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)).convert(mode)
    changed = np.asarray(transform.apply(colours)).astype(int) - np.asarray(colours.convert("RGB"))
    return transform if np.abs(changed).max() > 1 else None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright, by its EXIF orientation; None where it is upright as it is stored.

    As in browsers, only a value of the standard's own type counts (Exif 2.32, 4.6.4: one SHORT, 1 to 8), and no XMP.
    """
    tiff = (image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (tags,) = struct.unpack_from(f"{order}H", tiff, start)
        for place in range(start + 2, start + 2 + 12 * tags, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, place)
            if tag == _ORIENTATION:
                return _UPRIGHT.get(value) if (kind, count) == (_SHORT, 1) else None
    return None


def _within(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _scale(picture: Picture, width: int, height: int) -> Picture:
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = width * height < picture.shape[0] * picture.shape[1]
    scaled: Picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return scaled
