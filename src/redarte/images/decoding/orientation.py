"""The orientation of an image by its EXIF data."""

import struct
from contextlib import suppress

from PIL import Image

_ORIENTATION = 0x0112  # an EXIF tag
_SHORT = 3  # its EXIF type
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
SIDEWAYS = {
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
}  # fmt: skip


def transposition(image: Image.Image) -> Image.Transpose | None:
    """Returns the transposition that makes an image upright; None where it is stored upright.

    As in browsers, only a value of the standard's type counts (Exif 2.32, 4.6.4: one SHORT, 1 to 8), and XMP is
    ignored.
    """
    exif = (image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (tags,) = struct.unpack_from(f"{order}H", exif, start)
        for offset in range(start + 2, start + 2 + 12 * tags, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", exif, offset)
            if tag == _ORIENTATION:
                return UPRIGHT.get(value) if (kind, count) == (_SHORT, 1) else None
    return None
