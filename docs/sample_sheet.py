"""Draws docs/sample.jpg, a contact sheet of the built-in sample: python docs/sample_sheet.py"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from redarte import params
from redarte.images import decoding
from redarte.images.folders import display_name
from redarte.ingestion.sources import sample

CELL, GAP, COLUMNS = 150, 6, 6  # px, and images of a school
NAMES = 190  # px, of the names


def main() -> None:
    settings = params.load().fetch.sample
    schools = list(sample.SCHOOLS)[: settings.schools]
    step = CELL + GAP
    sheet = np.full((len(schools) * step + GAP, NAMES + COLUMNS * step + GAP, 3), 255, np.uint8)
    for row, school in enumerate(schools):
        for column in range(COLUMNS):
            image = decoding.shrink(sample.paint(school, column + 1, settings), CELL)
            height, width = image.shape[:2]
            top = GAP + row * step + (CELL - height) // 2
            left = NAMES + GAP + column * step + (CELL - width) // 2
            sheet[top : top + height, left : left + width] = image
    page = Image.fromarray(sheet)
    for row, school in enumerate(schools):
        middle = GAP + row * step + CELL // 2
        ImageDraw.Draw(page).text((12, middle), display_name(school), "black", ImageFont.load_default(18), anchor="lm")
    decoding.write_jpeg(Path("docs/sample.jpg"), np.asarray(page), quality=72)


if __name__ == "__main__":
    main()
