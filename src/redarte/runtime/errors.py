"""The exception for mistakes that a user can fix, and helpers for its messages."""

import re
from collections.abc import Iterable
from pathlib import Path

# Control characters, line separators, characters that reverse the direction of a text, and undecodable bytes.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_LENGTH = 200  # characters of a name or of a library's message that are shown


# The user name, password and query of an address.
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(https?://[^\s?#]*)[?#][^\s)\]]*", re.IGNORECASE)


class UserError(Exception):
    """A mistake that the user can fix.

    The message is one sentence: it names the file or parameter, what is wrong, and what to do. Stages and commands
    print the message without a traceback and exit with code 1. Secrets in addresses are masked.
    """

    def __init__(self, message: str):
        super().__init__(masked(message))


def masked(text: str) -> str:
    """Returns a text without the user names, passwords and queries of addresses in it.

    Args:
        text: may have http(s) addresses.
    """
    return _QUERY.sub(r"\1?…", _USER.sub("…@", text))


def printable(text: object) -> str:
    """Makes an untrusted name or message safe to print: one line, at most 200 characters.

    Args:
        text: any object; `str(text)` is used.

    Returns:
        The text, with unprintable characters escaped and a long middle replaced by "…".
    """
    line = str(text)
    line = line if len(line) <= _MAX_LENGTH else f"{line[: _MAX_LENGTH // 2]}…{line[-_MAX_LENGTH // 2 :]}"
    return line if line.isprintable() else ascii(line)[1:-1]


def listed(names: Iterable[object], most: int = 6) -> str:
    """Returns names for a message, separated by commas: the first ones, and how many more there are."""
    each = list(dict.fromkeys(map(printable, names)))
    return ", ".join(each[:most]) + (f" and {len(each) - most} more" if len(each) > most else "") or "none"


def escaped(text: str) -> str:
    """Returns a text of several lines without characters that control a terminal."""
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else ascii(found[0])[1:-1], text)


def first_line(error: object) -> str:
    """Returns the first line of another library's message, or the type's name where the message is empty."""
    return printable(next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)).rstrip(".")


def working_directory_hint(path: Path) -> str:
    """Returns where a missing relative path was looked for, to append to a message; "" for an absolute path."""
    if path.is_absolute():
        return ""
    return f" (searched in {Path.cwd()}; experiments with --temp or --queue run elsewhere: set an absolute path)"
