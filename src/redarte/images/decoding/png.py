"""PNGs that Pillow reads wrongly: a single transparent colour in other depths than 8 bits, and long or corrupt
texts.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

import cv2
import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")  # Pillow refuses a file with a long text
_MAX_OF_PILLOW, _MAX_PROFILE = 2**20, 2**25  # bytes of a colour profile
# sRGB's gamma and chromaticities of white, red, green and blue, times 100,000 (PNG, 11.3.2.1 and 11.3.2.2).
_GAMMA, _NEAR = 45455, 0.02
_CHROMATICITIES = np.array([31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000])
_PRIMARIES, _TRANSFERS = (b"\x01", b"\x02"), (b"\x01", b"\x02", b"\x06", b"\x0d")  # BT.709, unspecified, BT.601, sRGB
_DECISIVE = (b"tRNS", b"acTL", b"fcTL", b"fdAT")  # ancillary chunks that decide pixels


def prepared(data: bytes) -> tuple[bytes, bytes | None]:
    """Removes the chunks that Pillow refuses and that do not affect pixels: texts, chunks with a wrong checksum, and a
    long colour profile.

    A chunk is ancillary where its name begins with a small letter (PNG, 5.4).

    Returns:
        The content, unchanged for most files; and the profile that was removed from it, or None.
    """
    kept, profile = [data[: len(SIGNATURE)]], None
    for name, chunk in _chunks(data):
        is_ancillary = name[:1].islower() and name not in _DECISIVE
        if name in _TEXTS or (is_ancillary and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big")):
            continue
        if name == b"iCCP" and profile is None:
            # A name, a zero, the method, and the profile, compressed (PNG, 11.3.2.3).
            with suppress(zlib.error):
                unpacked = zlib.decompressobj().decompress(chunk[8:-4].partition(b"\0")[2][1:], _MAX_PROFILE)
                if len(unpacked) > _MAX_OF_PILLOW:
                    profile = unpacked
                    continue
        kept.append(chunk)
    content = b"".join(kept)
    return (content if len(content) < len(data) else data), profile


def is_srgb(data: bytes) -> bool:
    """Returns whether a PNG declares sRGB, a space of about its colours, a colour profile, or nothing."""
    found = {name: chunk[8:-4] for name, chunk in _chunks(data)}
    if b"cICP" in found:  # primaries and transfer function (ITU-T H.273)
        return found[b"cICP"][:1] in _PRIMARIES and found[b"cICP"][1:2] in _TRANSFERS
    if b"iCCP" in found or b"sRGB" in found:
        return True
    gamma = int.from_bytes(found.get(b"gAMA", b""), "big") or _GAMMA
    points = np.frombuffer(found.get(b"cHRM", b""), ">u4").astype(np.int64)
    is_near = points.shape != (8,) or np.abs(points - _CHROMATICITIES).max() <= _NEAR * 100_000
    return bool(is_near and abs(gamma - _GAMMA) <= _NEAR * _GAMMA)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name and all bytes of each chunk."""
    offset = len(SIGNATURE)
    while offset + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        yield name, data[offset : offset + 12 + size]
        offset += 12 + size


def alpha(image: Image.Image, data: bytes) -> Image.Image | None:
    """Returns the opacity of an image in the mode L; None where the image is opaque."""
    if not image.has_transparency_data:
        return None
    transparent = image.info.get("transparency")
    if image.format == "PNG" and not isinstance(transparent, bytes | None):
        depth = data[24]  # of the samples, in the header (PNG, 11.2.2)
        if isinstance(transparent, tuple) and depth == 16:
            # One colour of 16 bits, of which Pillow keeps eight.
            return _alpha_of_16_bits(data)
        if isinstance(transparent, int) and image.mode in ("1", "L", "I;16"):
            # One grey, as it is stored: Pillow scales samples of 1, 2 and 4 bits, and not this one.
            samples = np.asarray(image).astype(np.int64) * (255 if image.mode == "1" else 1)
            grey = transparent * {1: 255, 2: 85, 4: 17}.get(depth, 1)
            return Image.fromarray(np.where(samples == grey, 0, 255).astype(np.uint8))
    return image.convert("RGBA").getchannel("A")


def _alpha_of_16_bits(data: bytes) -> Image.Image | None:
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.ndim < 3 or samples.shape[2] < 4 or samples.dtype != np.uint16:
        return None
    return Image.fromarray((samples[..., 3] >> 8).astype(np.uint8))
