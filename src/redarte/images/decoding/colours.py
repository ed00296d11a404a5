"""Pixels of any mode and colour profile to sRGB, 8 bits a sample."""

import io
from contextlib import suppress
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_BROKEN = (OSError, TypeError, ValueError, ImageCms.PyCMSError)  # what Pillow raises for a profile
_MAX_HEADER = 2**16  # bytes of an AVIF or HEIC before its pixels
# The colour space of a profile -> the modes that it applies to.
_MODES = {"RGB": ("RGB", "L"), "GRAY": ("L",), "CMYK": ("CMYK",)}


def is_srgb_container(data: bytes) -> bool:
    """Returns whether an AVIF or HEIC declares sRGB or no colour space (nclx: ISO/IEC 23008-12, 6.5.5)."""
    at = data.find(b"colrnclx", 0, _MAX_HEADER)
    primaries, transfer = data[at + 8 : at + 10], data[at + 10 : at + 12]
    return at < 0 or (primaries in (b"\0\1", b"\0\2") and transfer in (b"\0\1", b"\0\2", b"\0\6", b"\0\x0d"))


def is_broken(profile: bytes, mode: str) -> bool:
    """Returns whether a colour profile cannot be used."""
    try:
        _transform(profile, mode)
    except _BROKEN:
        return True
    return False


def of_8_bits(image: Image.Image) -> Image.Image:
    """Returns an image with 8 bits a sample in the mode RGB, L or CMYK, without its transparency.

    Raises:
        ValueError: its samples are floating-point numbers.
    """
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


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts pixels to sRGB, by a colour profile if it can be used.

    Args:
        profile: an ICC profile, or None.
    """
    transform = conversion(profile, image.mode)
    return image.convert("RGB") if transform is None else transform.apply(image.convert(transform.input_mode))


def conversion(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Returns the transformation of pixels to sRGB; None where there is no usable profile, or it changes nothing.

    Args:
        profile: an ICC profile, or None.
    """
    with suppress(*_BROKEN):
        return _transform(profile, mode) if profile else None
    return None


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transformation of pixels to sRGB; None where they are sRGB already.

    Raises any of _BROKEN where the profile is broken, or of another kind of pixels.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if mode not in _MODES.get(space, ()):
        raise ValueError(f"a profile for {space} in an image in {mode}")
    mode = _MODES[space][0]
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return transform
    # Most profiles are sRGB itself, in one of a dozen variants.
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    colours = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)).convert(mode)
    changed = np.asarray(transform.apply(colours)).astype(int) - np.asarray(colours.convert("RGB"))
    return transform if np.abs(changed).max() > 1 else None
