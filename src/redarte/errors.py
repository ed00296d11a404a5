"""The one exception that is meant to be read by a person, and what it says of the others."""


class UserError(Exception):
    """A mistake that the user can mend.

    Its message is one sentence that names the file or parameter, what is wrong with it and what to do.
    Stages and commands print it without a traceback and exit with 1.
    """


def first_line(error: object) -> str:
    """What another library's exception says, as a part of a sentence: some say a page, some nothing."""
    line = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
    return line[:200].rstrip(".")
