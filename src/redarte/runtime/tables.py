"""CSV tables: the one function that writes cells."""

import csv
import io
import re
from collections.abc import Iterable

# First characters that make a spreadsheet evaluate a text (owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-?inf")


def to_csv(rows: Iterable[Iterable[object]]) -> str:
    """Returns rows as CSV with \\n line ends; a text that a spreadsheet would evaluate begins with an apostrophe.

    Args:
        rows: of cells; `str(cell)` is written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_safe(str(cell)) for cell in row] for row in rows)
    return text.getvalue()


def _safe(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell
