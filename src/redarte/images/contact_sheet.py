"""A page of small images with captions."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from redarte.images import decoding
from redarte.images.decoding import ImageArray

_GAP = 12  # px
_FONT_SIZE = 18  # px


def draw(images: Sequence[ImageArray], captions: Sequence[str], columns: int, side: int) -> ImageArray:
    """Draws images in rows, each with its caption below, on white.

    Args:
        images: (height, width, 3), uint8, each.
        captions: one for each image; "" for none.
        side: the maximum of an image's width and height, in px.

    Returns:
        (height, width, 3), uint8.
    """
    small = [decoding.shrink(image, side) for image in images]
    # In a row of wide images, the captions stand close to the images.
    height = max((image.shape[0] for image in small), default=side) + (_FONT_SIZE + _GAP if any(captions) else 0)
    rows = -(-len(small) // columns)
    sheet = np.full((rows * (height + _GAP) + _GAP, columns * (side + _GAP) + _GAP, 3), 255, np.uint8)
    page = Image.fromarray(sheet)
    text, font = ImageDraw.Draw(page), ImageFont.load_default(_FONT_SIZE)
    for index, (image, caption) in enumerate(zip(small, captions, strict=True)):
        row, column = divmod(index, columns)
        middle = _GAP + column * (side + _GAP) + side // 2
        top = _GAP + row * (height + _GAP)
        page.paste(Image.fromarray(image), (middle - image.shape[1] // 2, top))
        text.text((middle, top + height), caption, (0, 0, 0), font, anchor="md")
    return np.asarray(page)
