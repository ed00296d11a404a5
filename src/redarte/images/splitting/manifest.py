"""The images of data/raw with the artists that the source gives them, and data/images.csv, which lists all images."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from redarte.images.decoding import folders
from redarte.runtime import tables

COLUMNS = ("image", "source", "split", "near_duplicates", "common_test")


@dataclass(frozen=True)
class Original:
    """An image of the source.

    Attributes:
        file: its path in data/raw.
        image: "<artist>/<file>" in data/raw; None if it is excluded.
        source: "<artist>/<file>" without corrections.
        corrected: "<artist>/<file>" with corrections; None if they exclude it.
    """

    file: str
    image: str | None
    source: str
    corrected: str | None


def read(raw: Path) -> list[Original]:
    """Lists data/raw.

    Args:
        raw: the folder that fetch wrote.

    Returns:
        The images, sorted by `source`.
    """
    record = raw / folders.CORRECTIONS
    rows = csv.DictReader(io.StringIO(record.read_text(encoding="utf-8"))) if record.is_file() else ()
    row_of = {row["image"]: row for row in rows}
    found = []
    for path in folders.list_images(raw):
        row = row_of.get(folders.image_id(path))
        if row is None:
            found.append(Original(path, path, path, path))
        else:
            suffix = PurePosixPath(path).suffix
            corrected = row["corrected"] + suffix if row["corrected"] else None
            found.append(Original(path, path, row["source"] + suffix, corrected))
    excluded = raw / folders.EXCLUDED
    if excluded.is_dir():
        found += [Original(f"{folders.EXCLUDED}/{path}", None, path, None) for path in folders.list_images(excluded)]
    return sorted(found, key=lambda original: original.source)


def to_csv(
    originals: list[Original], splits: dict[str, str], duplicates: list[list[str]], common_test: set[str]
) -> str:
    """Returns data/images.csv, which has a row for each image of the source.

    Args:
        originals: the images.
        splits: path in data/raw -> split.
        duplicates: the groups of near-duplicates, as paths in data/raw.
        common_test: paths in data/raw.

    Returns:
        Rows of image ("<artist>/<stem>" in data/raw; "" if it is excluded), source (the same in the source), split (""
        if it is left out), near_duplicates (the number of its group, from 1, or ""), and common_test (yes or no).
    """
    group_of = {file: number for number, group in enumerate(duplicates, start=1) for file in group}
    rows: list[list[object]] = []
    for original in originals:
        file = original.file
        image = folders.image_id(original.image) if original.image else ""
        split = splits.get(file, "") if image else ""
        is_common = "yes" if file in common_test else "no"
        rows.append([image, folders.image_id(original.source), split, group_of.get(file, ""), is_common])
    return tables.to_csv([COLUMNS, *rows])


def metrics(
    originals: list[Original], artists: list[str], splits: dict[str, str], duplicates: list[list[str]]
) -> dict[str, Any]:
    """Returns the content of metrics/split.json.

    Args:
        originals: the images.
        artists: the classes.
        splits: path in data/raw -> split.
        duplicates: the groups of near-duplicates, as paths in data/raw.
    """
    artist_of = {original.file: original.image.partition("/")[0] for original in originals if original.image}
    left_out = sorted(set(artist_of.values()) - set(artists))
    untested = sorted(set(artists) - {artist_of[file] for file, split in splits.items() if split == "test"})
    count = list(splits.values()).count
    groups = [group for group in ([file for file in group if file in artist_of] for group in duplicates) if group[1:]]
    return {
        "artists": len(artists),
        "train": count("train"),
        "val": count("val"),
        "test": count("test"),
        "artists_never_tested": len(untested),
        "artists_left_out": len(left_out),
        "images_left_out": len(artist_of) - len(splits),
        "names_never_tested": untested,
        "names_left_out": left_out,
        "near_duplicates": {
            "groups": len(groups),
            "images": sum(map(len, groups)),
            "groups_across_artists": sum(len({artist_of[file] for file in group}) > 1 for group in groups),
            "test_images_with_duplicate_in_train": sum(
                [splits.get(file) for file in group].count("test")
                for group in groups
                if "train" in {splits.get(file) for file in group}
            ),
        },
    }
