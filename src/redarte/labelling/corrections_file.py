"""Writes corrections.csv, with the identities of the images in data/raw."""

import shutil
from dataclasses import replace

from redarte.images import folders
from redarte.images.splitting import corrections
from redarte.images.splitting.corrections import Correction
from redarte.runtime import outputs, paths, tables
from redarte.runtime.errors import UserError

_HEAD = 2000  # characters of the page with its digest
NOT_LOCAL = "artists can only be corrected, and all images only be seen, on the machine of the service, at 127.0.0.1."


def save(decided: list[Correction]) -> int:
    """Writes decisions to corrections.csv; a decision replaces the row of the same image.

    Other threads and processes that save wait: no row is lost.
    """
    with outputs.lock(paths.CORRECTIONS):
        existing = corrections.read(paths.CORRECTIONS) if paths.CORRECTIONS.is_file() else []
        # As they are, and below as they are written.
        checked = [corrections.check(paths.CORRECTIONS, row) for row in decided]
        new = {name: replace(row, image=name) for name, row in by_source(checked, must_match=True).items()}
        # A row of the same image may name it by its hash, or in another spelling.
        replaced = {row.line: source for source, row in by_source(existing).items() if source in new}
        rows = [new.pop(replaced[row.line]) if row.line in replaced else row for row in existing] + list(new.values())
        text = corrections.to_csv(rows)
        by_source(corrections.parse(paths.CORRECTIONS, text))
        # The file may be a link, and its group may write to it.
        target = paths.CORRECTIONS.resolve()
        with outputs.atomic_file(target) as partial:
            partial.write_text(text, encoding="utf-8", newline="")
            if target.exists():
                shutil.copymode(target, partial)
    return len(rows)


def by_source(rows: list[Correction], must_match: bool = False) -> dict[str, Correction]:
    """Returns the row of each image that has one, by the image's identity in data/raw."""
    # Only files have a hash; data/raw may not be on this machine.
    has_hashes = any("/" not in row.image for row in rows)
    names = (
        folders.list_images(paths.RAW)
        if has_hashes and paths.RAW.is_dir()
        else [f"{row['source']}.jpg" for row in listed()]
    )
    found = corrections.matched(paths.CORRECTIONS, rows, paths.RAW, names, must_match)
    return {folders.image_id(path): row for path, row in found.items()}


def images_digest() -> str:
    """Returns a hash of data/images.csv, by which the page of label-issues knows whose images it shows."""
    return folders.content_hash(_images().encode())


def is_page_of(content: str, images: str) -> bool:
    """Returns whether the page of label-issues, or its beginning, shows the images with a digest."""
    return f'<meta name="images" content="{images}">' in content


def has_current_page() -> bool:
    """Returns whether there is a page of label-issues for the images of today."""
    try:
        with paths.LABEL_PAGE.open(encoding="utf-8") as file:
            return is_page_of(file.read(_HEAD), images_digest())
    except (OSError, UserError):
        return False


def save_artist(image: bytes, artist: str) -> str:
    """Writes the artist of one of the project's images to corrections.csv: `relabel`, or `keep` if it is the same.

    Args:
        image: the bytes of the file.
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
    return f"{paths.CORRECTIONS} now {what}. `dvc repro` applies it."


def listed() -> list[dict[str, str]]:
    """Returns the rows of data/images.csv."""
    return tables.rows(paths.IMAGES, _images())


def _images() -> str:
    """The content of data/images.csv."""
    try:
        return tables.read_text(paths.IMAGES)
    except FileNotFoundError:
        raise UserError(f"{paths.IMAGES} is missing; create it with `dvc repro`, or get it with `dvc pull`.") from None


def _source_of(image: bytes) -> str | None:
    """The identity of the image of data/raw with these bytes; None where there is none."""
    for image_id, file in folders.files_by_id(paths.RAW).items():
        if file.stat().st_size == len(image) and file.read_bytes() == image:
            return image_id
    return None
