"""The one exception that is meant to be read by a person."""


class UserError(Exception):
    """A mistake that the user can mend.

    Its message is one sentence that names the file or parameter, what is wrong with it and what to do.
    Stages and commands print it without a traceback and exit with 1.
    """
