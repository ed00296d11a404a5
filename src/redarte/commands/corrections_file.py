"""Writes corrections.csv, with the names of the images in the source."""

import csv
import io
from pathlib import Path

from redarte.images.collection import corrections
from redarte.images.collection.corrections import Correction
from redarte.images.decoding import folders
from redarte.runtime import outputs
from redarte.runtime.errors import UserError

IMAGES = Path("data/images.csv")
CORRECTIONS = Path("corrections.csv")
RAW = Path("data/raw")
PAGE = Path("plots/label_issues.html")  # of `redarte label-issues`
NOT_LOCAL = "artists can only be corrected on the machine of the service, at 127.0.0.1."


def save(decided: list[Correction]) -> int:
    """Writes decisions to corrections.csv; a decision replaces the row of the same image.

    Other threads and processes that save wait: no row is lost.

    Args:
        decided: the new rows.

    Returns:
        The number of rows in corrections.csv.

    Raises:
        UserError: a row is not valid, or names no image of the source; nothing is written.
    """
    with outputs.lock(CORRECTIONS):
        existing = corrections.read(CORRECTIONS) if CORRECTIONS.is_file() else []
        # As they are, and below as they are written.
        checked = [corrections.check(CORRECTIONS, row) for row in decided]
        merged = {row.image: row for row in [*existing, *checked]}
        text = corrections.to_csv(list(merged.values()))
        rows = corrections.parse(CORRECTIONS, text)
        # Rows by hash are checked by fetch, which reads the files.
        by_name = [row for row in rows if "/" in row.image or row.image in {new.image for new in decided}]
        # Only the identity counts.
        images = {f"{row['source']}.jpg": Path() for row in listed()}
        corrections.apply(CORRECTIONS, by_name, images, {})
        outputs.write_text(CORRECTIONS, text)
    return len(merged)


def save_artist(image: bytes, artist: str) -> str:
    """Writes the artist of one of the project's images to corrections.csv: `relabel`, or `keep` if it is the same.

    Args:
        image: the bytes of the file.
        artist: the right artist, as a folder name.

    Returns:
        What was written, as a sentence.

    Raises:
        UserError: the image is not one of the project's, or the artist is no name.
    """
    source = _source_of(image)
    if source is None:
        raise UserError(
            "this image is not one of the project's images, so there is no artist to correct; to train on it, add it "
            "to the artist's folder of your source and type `dvc repro`."
        )
    same = source.partition("/")[0] == artist
    row = Correction(0, source, "" if same else artist, "keep" if same else "relabel", "marked in redarte serve")
    save([row])
    what = f"keeps its artist: {source}" if same else f"relabels {source} to {artist}"
    return f"{CORRECTIONS} now {what}. `dvc repro` applies it."


def listed() -> list[dict[str, str]]:
    """Returns the rows of data/images.csv.

    Raises:
        UserError: the file is missing.
    """
    try:
        return list(csv.DictReader(io.StringIO(IMAGES.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        raise UserError(f"{IMAGES} is missing; create it with `dvc repro`, or get it with `dvc pull`.") from None


def _source_of(image: bytes) -> str | None:
    """The name in the source, "<artist>/<stem>", of an image of data/raw with these bytes; None where there is none."""
    for image_id, file in folders.files_by_id(RAW).items():
        if file.stat().st_size == len(image) and file.read_bytes() == image:
            return next((row["source"] for row in listed() if row["image"] == image_id), None)
    return None
