"""Writes corrections.csv, with the names of the images in the source."""

import csv
import io
from pathlib import Path

from redarte.images.collection import corrections
from redarte.images.collection.corrections import Correction
from redarte.runtime import outputs
from redarte.runtime.errors import UserError

IMAGES = Path("data/images.csv")
CORRECTIONS = Path("corrections.csv")
PAGE = Path("plots/label_issues.html")  # of `redarte label-issues`


def save(decided: list[Correction]) -> int:
    """Writes decisions to corrections.csv; a decision replaces the row of the same image.

    Args:
        decided: the new rows.

    Returns:
        The number of rows in corrections.csv.

    Raises:
        UserError: a row is not valid, or names no image of the source; nothing is written.
    """
    existing = corrections.read(CORRECTIONS) if CORRECTIONS.is_file() else []
    merged = {row.image: row for row in [*existing, *decided]}
    text = corrections.to_csv(list(merged.values()))
    rows = [row for row in corrections.parse(CORRECTIONS, text) if "/" in row.image]
    # Only the identity counts.
    images = {f"{row['source']}.jpg": Path() for row in listed()}
    corrections.apply(CORRECTIONS, rows, images, {})
    outputs.write_text(CORRECTIONS, text)
    return len(merged)


def listed() -> list[dict[str, str]]:
    """Returns the rows of data/images.csv.

    Raises:
        UserError: the file is missing.
    """
    try:
        return list(csv.DictReader(io.StringIO(IMAGES.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        raise UserError(f"{IMAGES} is missing; create it with `dvc repro`, or get it with `dvc pull`.") from None
