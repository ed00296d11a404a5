"""CSV tables: one strict reader, and one writer."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from redarte.runtime.errors import UserError, first_line, printable

# First characters that make a spreadsheet evaluate a text (owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-?inf")
_SEPARATOR = re.compile(r'"?sep=([,;\t])"?(\r\n|\r|\n)')  # a first line by which Excel knows the separator


@dataclass(frozen=True)
class Table:
    """The content of a CSV file.

    Attributes:
        rows: the number of the first line of each row, from 1, and its cells by column.
    """

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]


def read(file: Path) -> list[dict[str, str]]:
    """Returns the rows of a table that redarte wrote.

    Args:
        file: a file in UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return rows(file, read_text(file))


def rows(file: Path, text: str) -> list[dict[str, str]]:
    """Returns the rows of a table by its content; see `parse`."""
    return [row for _, row in parse(file, text).rows]


def read_text(file: Path) -> str:
    """Returns the content of a table, without a byte order mark and with its line ends.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not in UTF-8; save it as “CSV UTF-8”.") from None


def parse(file: Path, text: str) -> Table:
    """Reads a table strictly, also after a spreadsheet has saved it: with semicolons or tabs, and any line ends."""
    separator = _SEPARATOR.match(text)
    header = re.split(r"[\r\n]", text[separator.end() :] if separator else text, maxsplit=1)[0]
    delimiter = separator[1] if separator else max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[tuple[int, dict[str, str]]] = []
    columns: list[str] = []
    if separator:
        next(reader)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{file}, line {line}: {first_line(error)}; correct the double quotes in this line (a quote in a "
                "text is written twice)."
            ) from None
        if cells is None:
            return Table(columns, found)
        if not columns:
            columns = [cell.strip() for cell in cells]
            _check_columns(file, columns)
            continue
        while len(cells) > len(columns) and not cells[-1]:  # a spreadsheet adds empty columns
            cells.pop()
        if len(cells) > len(columns):
            raise UserError(
                f"{file}, line {line}: {len(cells)} cells for {len(columns)} columns; put a text with “{delimiter}” in "
                "double quotes."
            )
        if any(cells):
            cells += [""] * (len(columns) - len(cells))
            found.append((line, dict(zip(columns, cells, strict=True))))


def to_csv(rows: Iterable[Iterable[object]]) -> str:
    """Returns rows as CSV with \\n line ends; a text that a spreadsheet would evaluate begins with an apostrophe.

    Args:
        rows: of cells; `str(cell)` is written.
    """
    return "".join(",".join(_cell(str(cell)) for cell in row) + "\n" for row in rows)


def _cell(text: str) -> str:
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    # csv.writer does not quote \r before Python 3.13.
    return '"' + text.replace('"', '""') + '"' if re.search(r'[,"\r\n]', text) else text


def _check_columns(file: Path, columns: list[str]) -> None:
    named = [name for name in columns if name]
    if len(set(named)) < len(named):
        raise UserError(f"{file} has two columns of one name: {', '.join(map(printable, columns))}.")
