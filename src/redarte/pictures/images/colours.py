"""Pixels of any mode and colour profile -> sRGB, 8 bits a sample."""

import io
from contextlib import suppress
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_BROKEN = (OSError, TypeError, ValueError, ImageCms.PyCMSError)  # what Pillow raises for a profile
# The colour space of a profile -> the modes of pictures whose pixels it can be of.
_MODES = {"RGB": ("RGB", "L"), "GRAY": ("L",), "CMYK": ("CMYK",)}


def is_broken(profile: bytes, mode: str) -> bool:
    """Whether a colour profile cannot be used for pixels of a mode."""
    try:
        _transform(profile, mode)
    except _BROKEN:
        return True
    return False


def of_8_bits(image: Image.Image) -> Image.Image:
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


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Pixels in the mode RGB, L or CMYK as sRGB, by a colour profile where there is one that can be used."""
    transform = conversion(profile, image.mode)
    return image.convert("RGB") if transform is None else transform.apply(image.convert(transform.input_mode))


def conversion(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels into sRGB by a profile; None where there is none, or it changes nothing or is broken."""
    with suppress(*_BROKEN):
        return _transform(profile, mode) if profile else None
    return None


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
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
