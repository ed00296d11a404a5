"""corrections.csv: artists that were corrected by hand, in git with the code.

    image,artist,action,reason
    Claude_Monet/Claude_Monet_12,Alfred_Sisley,relabel,signed
    Paul_Klee/Paul_Klee_3,,exclude,a photograph of a museum
    Edgar_Degas/Edgar_Degas_7,,keep,a copy after Ingres

An image is named by its identity in data/raw, "<artist>/<stem>", as `redarte label-issues` prints it; or by the BLAKE2b
hash of its bytes (16 bytes, hexadecimal), which holds also after the file is renamed. Further columns are kept.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from redarte.images import folders
from redarte.images.folders import comparable, visible
from redarte.runtime import documents, outputs, tables
from redarte.runtime.errors import UNPRINTABLE, UserError, printable

COLUMNS = ("image", "artist", "action", "reason")
ACTIONS = ("relabel", "exclude", "keep")
_HASH = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True)
class Correction:
    """A row of corrections.csv.

    Attributes:
        line: its number in the file, from 1.
        image: "<artist>/<stem>" or a hash.
        artist: the new artist; "" where the action is not relabel.
    """

    line: int
    image: str
    artist: str
    action: str
    reason: str = ""
    others: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class RawImage:
    """An image of data/raw.

    Attributes:
        raw_path: its path there, "<artist>/<file>".
        corrected_path: its path after corrections; None if it is excluded.
        is_kept: whether somebody decided that its artist is right.
    """

    raw_path: str
    corrected_path: str | None
    is_kept: bool = False


def read(file: Path) -> list[Correction]:
    """Returns the rows of corrections.csv; see `parse`."""
    try:
        return parse(file, tables.read_text(file))
    except FileNotFoundError:
        raise UserError(f"{file} is missing; a file with the line {','.join(COLUMNS)} changes nothing.") from None


def parse(file: Path, text: str) -> list[Correction]:
    """Reads the content of corrections.csv."""
    documents.check_merged(file, text)
    table = tables.parse(file, text)
    if not {"image", "artist", "action"} <= set(table.columns):
        named = ", ".join(map(printable, table.columns))
        raise UserError(f"{file} has the columns {named or 'none'}; use {', '.join(COLUMNS)}.")
    found = []
    for line, cells in table.rows:
        values = {name: cells.pop(name, "") for name in COLUMNS}
        if any(re.search(r"[\r\n]", value) for value in (*values.values(), *cells.values())):
            raise UserError(f"{file}, line {line}: a text has several lines; is a double quote missing before it?")
        # The parts of an artist's name are compared without spaces around them (`visible`).
        row = Correction(line, values["image"], values["artist"], values["action"].strip(), values["reason"], cells)
        found.append(check(file, row))
    lines: dict[str, int] = {}
    for row in found:
        if row.image in lines:
            where = f"{file}, line {row.line}"
            raise UserError(f"{where}: {printable(row.image)} is in line {lines[row.image]} too; delete one of them.")
        lines[row.image] = row.line
    return found


def to_csv(rows: list[Correction]) -> str:
    """Returns the content of corrections.csv."""
    others = list(dict.fromkeys(name for row in rows for name in row.others))
    cells = (
        [row.image, row.artist, row.action, row.reason, *(row.others.get(name, "") for name in others)] for row in rows
    )
    return tables.to_csv([[*COLUMNS, *others], *cells])


def check(file: Path, row: Correction) -> Correction:
    """Returns a row that is valid by itself."""
    where = f"{file}, line {row.line}" if row.line else printable(row.image)
    if row.action not in ACTIONS:
        raise UserError(f"{where}: action is {printable(repr(row.action))}; use {', '.join(ACTIONS)}.")
    if row.action == "relabel" and not row.artist.strip():
        raise UserError(f"{where}: relabel needs the new artist in the column artist.")
    if row.action != "relabel" and row.artist.strip():
        raise UserError(f"{where}: only relabel has an artist; delete {printable(row.artist)}.")
    problem = folders.problem_of_artist(row.artist) if row.action == "relabel" else None
    if row.action == "relabel" and '"' in row.artist:
        problem = "has a double quote; is another one missing"
    if problem:
        raise UserError(f"{where}: {printable(row.artist)} {problem}.")
    if UNPRINTABLE.search(row.image + row.reason.replace("\t", " ")):
        raise UserError(f"{where}: {printable(row.image)}: image or reason has a control character.")
    return row


def apply(
    file: Path, rows: list[Correction], raw: Path, paths: list[str], is_applied: bool = True
) -> tuple[list[RawImage], dict[str, Any]]:
    """Applies corrections to the images of data/raw; all of them, or none.

    Args:
        paths: its images, "<artist>/<file>", sorted.
        is_applied: False: rows that name no image, as those of another source, are only counted.

    Returns:
        The images in the same order, corrected also if `is_applied` is False; and the section `corrections` of
        metrics/split.json.
    """
    row_of = matched(file, rows, raw, paths, must_match=is_applied)
    taken = {folders.image_id(path).casefold() for path in paths if path not in row_of or row_of[path].action == "keep"}
    images, relabelled = [], {}
    for path in paths:
        row, corrected = row_of.get(path), PurePosixPath(path)
        if row and row.action == "relabel":
            after = folders.unique_id(row.artist, corrected.stem, taken)
            relabelled[folders.image_id(path)] = after
            images.append(RawImage(path, f"{after}{corrected.suffix}"))
        else:
            action = row.action if row else ""
            images.append(RawImage(path, None if action == "exclude" else path, action == "keep"))
    excluded = sorted(folders.image_id(image.raw_path) for image in images if image.corrected_path is None)
    return images, {
        "applied": is_applied,
        "rows": len(rows),
        "rows_without_image": len(rows) - len(row_of),
        "relabelled": len(relabelled),
        "excluded": len(excluded),
        "kept": len(row_of) - len(relabelled) - len(excluded),
        "relabelled_names": [f"{before} -> {after}" for before, after in sorted(relabelled.items())],
        "excluded_names": excluded,
    }


def undisputed(pairs: list[tuple[str, str]], images: list[RawImage]) -> list[tuple[str, str]]:
    """Returns near-duplicates without those of two artists that are both kept: these are different works."""
    kept = {image.raw_path for image in images if image.is_kept}
    return [
        (one, other)
        for one, other in pairs
        if not kept.issuperset((one, other)) or one.partition("/")[0] == other.partition("/")[0]
    ]


def matched(
    file: Path, rows: list[Correction], raw: Path, paths: list[str], must_match: bool = True
) -> dict[str, Correction]:
    """Returns the row of each image that has one, with the artist as data/raw writes it: "<artist>/<file>" -> row.

    Args:
        paths: its images, "<artist>/<file>".
    """
    exact = {folders.image_id(path): path for path in paths}
    alike: dict[str, list[str]] = defaultdict(list)  # the same names for people
    for name, path in exact.items():
        alike[visible(name)].append(path)
    if any(_HASH.fullmatch(row.image.strip()) for row in rows):
        try:
            exact |= {folders.content_hash((raw / path).read_bytes()): path for path in paths}
        except FileNotFoundError:
            raise UserError(f"{file} names images by a hash, and {raw} is missing; get it with `dvc pull`.") from None
    spelling = {comparable(artist): artist for artist in sorted({path.partition("/")[0] for path in paths})}
    row_of: dict[str, Correction] = {}
    for row in rows:
        where = f"{file}, line {row.line}"
        name = row.image.strip().lower() if _HASH.fullmatch(row.image.strip()) else row.image
        found = [exact[name]] if name in exact else alike.get(visible(name), [])
        if len(found) != 1:
            if must_match:
                raise UserError(f"{where}: {printable(row.image)} {_why_missing(row.image)}.")
            continue
        (path,) = found
        if path in row_of:
            raise UserError(f"{where}: {printable(row.image)} is the image of line {row_of[path].line}; delete one.")
        artist = spelling.setdefault(comparable(row.artist), visible(row.artist)) if row.artist.strip() else ""
        if visible(artist) != visible(row.artist):
            raise UserError(f"{where}: the artist {printable(row.artist)} is written {printable(artist)} elsewhere.")
        row_of[path] = Correction(row.line, row.image, artist, row.action, row.reason, row.others)
    return row_of


def _why_missing(image: str) -> str:
    """Why a row names no image of data/raw, by metrics/fetch.json where fetch skipped the file."""
    try:
        skipped = outputs.read_json(Path("metrics/fetch.json"))["skipped_names"]
        stem = visible(image).rpartition("/")[2]
        names = ((reason, name) for reason, files in skipped.items() for name in files)
        reason, name = next((r, n) for r, n in names if PurePosixPath(n).stem == stem)
        return f"is no image of data/raw: fetch skipped {printable(name)} ({reason}); delete the row, or the other file"
    except (OSError, ValueError, KeyError, StopIteration):
        return "is no image of data/raw; delete the row, or correct it"
