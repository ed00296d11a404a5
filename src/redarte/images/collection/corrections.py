"""corrections.csv: artists that were corrected by hand, in git with the code.

    image,artist,action,reason
    Claude_Monet/Claude_Monet_12,Alfred_Sisley,relabel,signed
    Paul_Klee/Paul_Klee_3,,exclude,a photograph of a museum
    Edgar_Degas/Edgar_Degas_7,,keep,a copy after Ingres

An image is named by "<artist>/<stem>", as `redarte label-issues` prints it, with the artist of the source; or by the
BLAKE2b hash of its bytes (16 bytes, hexadecimal), which holds also after the file is renamed.
"""

import csv
import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from redarte.images.collection.layout import comparable
from redarte.images.decoding import folders
from redarte.runtime import tables
from redarte.runtime.errors import UNPRINTABLE, UserError, printable

COLUMNS = ("image", "artist", "action", "reason")
ACTIONS = ("relabel", "exclude", "keep")
_NAME = re.compile(r"[^./\\\x00-\x1f=+@-][^/\\\x00-\x1f]{0,99}")


@dataclass(frozen=True)
class Correction:
    """A row of corrections.csv.

    Attributes:
        line: its number in the file, from 1.
        image: "<artist>/<stem>" or a hash.
        artist: the new artist; "" where the action is not relabel.
        action: relabel, exclude or keep.
        reason: free text.
    """

    line: int
    image: str
    artist: str
    action: str
    reason: str = ""


def read(file: Path) -> list[Correction]:
    """Reads corrections.csv, also after a spreadsheet has saved it: with semicolons or tabs, a BOM and CRLF.

    Args:
        file: the file.

    Returns:
        Its rows.

    Raises:
        UserError: the file cannot be read, has other columns, a row has an unknown action or no new artist, or an image
            is in two rows.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not in UTF-8; save it as “CSV UTF-8”.") from None
    return parse(file, text)


def parse(file: Path, text: str) -> list[Correction]:
    """Reads the content of corrections.csv.

    Args:
        file: for messages.
        text: the content.

    Returns:
        The rows.

    Raises:
        UserError: as `read`.
    """
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    columns = [name.strip() for name in reader.fieldnames or []]
    if not {"image", "artist", "action"} <= set(columns):
        raise UserError(
            f"{file} has the columns {', '.join(map(printable, columns)) or 'none'}; use {', '.join(COLUMNS)}."
        )
    reader.fieldnames = columns
    found: list[Correction] = []
    for row in reader:
        values = {name: (row.get(name) or "").strip() for name in COLUMNS}
        if any(values.values()):
            found.append(check(file, Correction(reader.line_num, **values)))
    _check_unique(file, found)
    return found


def to_csv(rows: list[Correction]) -> str:
    """Returns the content of corrections.csv.

    Args:
        rows: from `read`, or new ones.
    """
    return tables.to_csv([COLUMNS, *([row.image, row.artist, row.action, row.reason] for row in rows)])


def check(file: Path, row: Correction) -> Correction:
    """Returns a row that is valid by itself.

    Args:
        file: for messages.
        row: from the file, or a new one.

    Raises:
        UserError: the action is unknown, the artist is missing, no name or not used, or a value has control characters.
    """
    if row.action not in ACTIONS:
        raise UserError(f"{file}, line {row.line}: action is {printable(repr(row.action))}; use {', '.join(ACTIONS)}.")
    if row.action == "relabel" and not row.artist:
        raise UserError(f"{file}, line {row.line}: relabel needs the new artist in the column artist.")
    if row.action != "relabel" and row.artist:
        raise UserError(f"{file}, line {row.line}: only relabel has an artist; delete {printable(row.artist)}.")
    # A new artist is a new folder. A spreadsheet would evaluate a name that begins with a sign.
    if row.artist and not (_NAME.fullmatch(row.artist) and not UNPRINTABLE.search(row.artist)):
        raise UserError(f"{file}, line {row.line}: {printable(row.artist)} is no name of an artist.")
    if UNPRINTABLE.search(row.image + re.sub(r"[\t\r\n]", " ", row.reason)):
        raise UserError(f"{file}, line {row.line}: {printable(row.image)}: image or reason has a control character.")
    return row


def _check_unique(file: Path, rows: list[Correction]) -> None:
    lines: dict[str, int] = {}
    for row in rows:
        if row.image in lines:
            where = f"{file}, line {row.line}"
            raise UserError(f"{where}: {printable(row.image)} is in line {lines[row.image]} too; delete one of them.")
        lines[row.image] = row.line


@dataclass
class Corrected:
    """The images after the corrections.

    Attributes:
        images: "<artist>/<file>" in data/raw -> the file in the source.
        excluded: "<artist>/<file>" before the correction -> the file in the source; it goes to `folders.EXCLUDED`.
        relabelled: "<artist>/<stem>" before the correction -> that after it.
        kept: the number of rows with the action keep.
        applied: whether `images` are corrected; else only the other attributes say what the rows would change.
    """

    images: dict[str, Path] = field(default_factory=dict)
    excluded: dict[str, Path] = field(default_factory=dict)
    relabelled: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    applied: bool = True

    def metrics(self) -> dict[str, object]:
        """Returns the section `corrections` of metrics/fetch.json."""
        return {
            "applied": self.applied,
            "relabelled": len(self.relabelled),
            "excluded": len(self.excluded),
            "kept": self.kept,
            "relabelled_names": [f"{before} -> {after}" for before, after in sorted(self.relabelled.items())],
            "excluded_names": sorted(map(folders.image_id, self.excluded)),
        }

    def record(self) -> str:
        """Returns data/raw/corrections.csv, by which split knows the source's artists; see `splitting.manifest`.

        Returns:
            One row for each relabelled or excluded image: its identity in data/raw ("" if it is not among the images),
            in the source, and after the correction ("" if it is excluded).
        """
        relabelled = [[after if self.applied else before, before, after] for before, after in self.relabelled.items()]
        excluded = [["" if self.applied else name, name, ""] for name in map(folders.image_id, self.excluded)]
        return tables.to_csv([["image", "source", "corrected"], *relabelled, *excluded])


def apply(
    file: Path, rows: list[Correction], images: dict[str, Path], digests: dict[str, str], is_applied: bool = True
) -> Corrected:
    """Applies corrections to the images of a source; all of them, or none.

    Args:
        file: for messages.
        rows: from `read`.
        images: "<artist>/<file>" -> the file in the source.
        digests: "<artist>/<file>" -> the hash of its bytes.
        is_applied: False: the rows are checked and counted, and the images stay as they are.

    Returns:
        The corrected images, in the order of `images`.

    Raises:
        UserError: a row matches no image, two rows match one, or a new artist has another spelling in the source.
    """
    row_of = _matched(file, rows, images, digests)
    corrected = Corrected(applied=is_applied)
    moved = {name for name, row in row_of.items() if row.action != "keep"}
    taken = {folders.image_id(name).casefold() for name in images if name not in moved}
    for name, path in images.items():
        correction = row_of.get(name)
        if correction is None or correction.action == "keep":
            corrected.images[name] = path
            corrected.kept += correction is not None
        elif correction.action == "exclude":
            corrected.excluded[name] = path
        else:
            before = PurePosixPath(name)
            after = unique_id(correction.artist, before.stem, taken)
            corrected.images[f"{after}{before.suffix}"] = path
            corrected.relabelled[folders.image_id(name)] = after
    if not is_applied:
        corrected.images = images
    return corrected


def _matched(
    file: Path, rows: list[Correction], images: dict[str, Path], digests: dict[str, str]
) -> dict[str, Correction]:
    """The row of each image that has one: "<artist>/<file>" -> row."""
    names = {digest: name for name, digest in digests.items()} | {folders.image_id(name): name for name in images}
    spelling = {comparable(artist): artist for artist in sorted({name.partition("/")[0] for name in images})}
    row_of: dict[str, Correction] = {}
    for row in rows:
        where = f"{file}, line {row.line}"
        name = names.get(row.image)
        if name is None:
            raise UserError(
                f"{where}: {printable(row.image)} is no image of the source; delete the row, or correct it."
            )
        if name in row_of:
            raise UserError(f"{where}: {printable(row.image)} is the image of line {row_of[name].line}; delete one.")
        artist = spelling.setdefault(comparable(row.artist), row.artist)
        if row.action == "relabel" and artist != row.artist:
            raise UserError(f"{where}: the artist {printable(row.artist)} is written {printable(artist)} elsewhere.")
        row_of[name] = row
    return row_of


def content_hash(content: bytes) -> str:
    """Returns the BLAKE2b hash by which corrections.csv may name an image: 32 hexadecimal digits.

    Args:
        content: the bytes of the file.
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def unique_id(artist: str, stem: str, taken: set[str]) -> str:
    """Returns "<artist>/<stem>", with a number if another image has it, ignoring case; and takes it.

    Args:
        artist: the class.
        stem: of a file.
        taken: identities in lower case; the new one is added.
    """
    unique, number = f"{artist}/{stem}", 1
    while unique.casefold() in taken:
        number += 1
        unique = f"{artist}/{stem}-{number}"
    taken.add(unique.casefold())
    return unique
