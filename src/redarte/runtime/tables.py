"""CSV tables: the one function that writes cells."""

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
    return "".join(",".join(_cell(str(cell)) for cell in row) + "\n" for row in rows)


def _cell(text: str) -> str:
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    # csv.writer does not quote \r before Python 3.13.
    return '"' + text.replace('"', '""') + '"' if re.search(r'[,"\r\n]', text) else text
