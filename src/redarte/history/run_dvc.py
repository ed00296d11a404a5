"""Runs DVC for `redarte train`: python -m redarte.history.run_dvc exp run …

Without the warnings that outputs of a model which was never trained have no hash, which is no fault.
"""

import logging
import sys

_NO_FAULT = "No file hash info found for"


def main() -> int:
    """Runs the command in sys.argv, and returns DVC's exit status."""
    from dvc.cli import main as dvc

    for handler in logging.getLogger("dvc").handlers:
        handler.addFilter(lambda record: not record.getMessage().startswith(_NO_FAULT))
    return int(dvc(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
