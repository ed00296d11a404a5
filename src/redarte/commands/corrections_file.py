"""Writes corrections.csv, with the identities of the images in data/raw."""

import shutil
from dataclasses import replace
from pathlib import Path

from redarte.images.decoding import folders
from redarte.images.splitting import corrections
from redarte.images.splitting.corrections import Correction
from redarte.runtime import outputs, tables
from redarte.runtime.errors import UserError

IMAGES = Path("data/images.csv")
CORRECTIONS = Path("corrections.csv")
RAW = Path("data/raw")
PAGE = Path("plots/label_issues.html")  # of `redarte label-issues`
_HEAD = 2000  # characters of the page with its digest
NOT_LOCAL = "artists can only be corrected on the machine of the service, at 127.0.0.1."


def save(decided: list[Correction]) -> int:
    """Writes decisions to corrections.csv; a decision replaces the row of the same image.

    Other threads and processes that save wait: no row is lost.

    Returns:
        The number of rows in corrections.csv.

    Raises:
        UserError: a row is not valid, or names no image of the source; nothing is written.
    """
    with outputs.lock(CORRECTIONS):
        existing = corrections.read(CORRECTIONS) if CORRECTIONS.is_file() else []
        # As they are, and below as they are written.
        checked = [corrections.check(CORRECTIONS, row) for row in decided]
        new = {name: replace(row, image=name) for name, row in by_source(checked, must_match=True).items()}
        # A row of the same image may name it by its hash, or in another spelling.
        replaced = {row.line: source for source, row in by_source(existing).items() if source in new}
        rows = [new.pop(replaced[row.line]) if row.line in replaced else row for row in existing] + list(new.values())
        text = corrections.to_csv(rows)
        by_source(corrections.parse(CORRECTIONS, text))
        # The file may be a link, and its group may write to it.
        target = CORRECTIONS.resolve()
        with outputs.atomic_file(target) as partial:
            partial.write_text(text, encoding="utf-8", newline="")
            if target.exists():
                shutil.copymode(target, partial)
    return len(rows)


def by_source(rows: list[Correction], must_match: bool = False) -> dict[str, Correction]:
    """Returns the row of each image that has one, by the image's identity in data/raw.

    Raises:
        UserError: as `corrections.matched`, or data/images.csv is missing.
    """
    # Only files have a hash; data/raw may not be on this machine.
    has_hashes = any("/" not in row.image for row in rows)
    names = folders.list_images(RAW) if has_hashes and RAW.is_dir() else [f"{row['source']}.jpg" for row in listed()]
    found = corrections.matched(CORRECTIONS, rows, RAW, names, must_match)
    return {folders.image_id(path): row for path, row in found.items()}


def images_digest() -> str:
    """Returns a hash of data/images.csv, by which the page of label-issues knows whose images it shows.

    Raises:
        UserError: the file is missing.
    """
    return folders.content_hash(_images().encode())


def is_page_of(content: str, images: str) -> bool:
    """Returns whether the page of label-issues, or its beginning, shows the images with a digest."""
    return f'<meta name="images" content="{images}">' in content


def has_current_page() -> bool:
    """Returns whether there is a page of label-issues for the images of today."""
    try:
        with PAGE.open(encoding="utf-8") as file:
            return is_page_of(file.read(_HEAD), images_digest())
    except (OSError, UserError):
        return False


def save_artist(image: bytes, artist: str) -> str:
    """Writes the artist of one of the project's images to corrections.csv: `relabel`, or `keep` if it is the same.

    Args:
        image: the bytes of the file.

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
    return tables.rows(IMAGES, _images())


def _images() -> str:
    """The content of data/images.csv."""
    try:
        return tables.read_text(IMAGES)
    except FileNotFoundError:
        raise UserError(f"{IMAGES} is missing; create it with `dvc repro`, or get it with `dvc pull`.") from None


def _source_of(image: bytes) -> str | None:
    """The identity of the image of data/raw with these bytes; None where there is none."""
    for image_id, file in folders.files_by_id(RAW).items():
        if file.stat().st_size == len(image) and file.read_bytes() == image:
            return image_id
    return None
