"""The one exception that is meant to be read by a person, and what it says of the others."""

from pathlib import Path

_LONGEST = 200  # characters of what is told of a name or by a library


class UserError(Exception):
    """A mistake that the user can mend.

    Its message is one sentence that names the file or parameter, what is wrong with it and what to do.
    Stages and commands print it without a traceback and exit with 1.
    """


def printable(text: object) -> str:
    """A name or a remark that somebody else chose, as a part of a sentence: cut to a line, and nothing unprintable."""
    line = str(text)
    line = line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]}…{line[-_LONGEST // 2 :]}"
    return line if line.isprintable() else ascii(line)[1:-1]


def first_line(error: object) -> str:
    """What another library's exception says, as a part of a sentence: some say a page, some nothing."""
    return printable(next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)).rstrip(".")


def started_from(path: Path) -> str:
    """For a sentence about a path that is not there: where it starts, unless it says so itself."""
    if path.is_absolute():
        return ""
    return f" (looked for in {Path.cwd()}; with --temp and --queue experiments run elsewhere: give the whole path)"
