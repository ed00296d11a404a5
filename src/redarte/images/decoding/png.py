"""PNGs that Pillow reads wrongly: a single transparent colour in other depths than 8 bits, and long or corrupt
texts.
"""

import struct
import zlib

import cv2
import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")  # Pillow refuses a file with a long text
_DECISIVE = (b"tRNS", b"acTL", b"fcTL", b"fdAT")  # ancillary chunks that decide pixels


def without_texts(data: bytes) -> bytes:
    """Removes the chunks that Pillow refuses and that do not affect pixels: texts, and chunks with a wrong checksum.

    A chunk is ancillary where its name begins with a small letter (PNG, 5.4).

    Args:
        data: the content of a PNG.

    Returns:
        The content; unchanged for most files.
    """
    kept, dropped, offset = [data[: len(SIGNATURE)]], False, len(SIGNATURE)
    while offset + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        chunk = data[offset : offset + 12 + size]
        offset += 12 + size
        is_ancillary = name[:1].islower() and name not in _DECISIVE
        if name in _TEXTS or (is_ancillary and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big")):
            dropped = True
        else:
            kept.append(chunk)
    return b"".join(kept) if dropped else data


def alpha(image: Image.Image, data: bytes) -> Image.Image | None:
    """Returns the opacity of an image in the mode L; None where the image is opaque.

    Args:
        image: opened and loaded by Pillow.
        data: the content of its file.
    """
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
