"""DVC's view of this project, for the commands that ask it; where it has none, one sentence says why."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redarte.runtime import validation
from redarte.runtime.errors import UserError, first_line

_LOCK = Path(".dvc/tmp/rwlock")
_LOOKS, _SECONDS_BETWEEN = 3, 0.3


@contextmanager
def opened(failing: str) -> Iterator[Any]:
    """The project as DVC's Python interface has it.

    Args:
        failing: what fails where it cannot do it, as the beginning of a sentence.

    Raises:
        UserError: DVC does not find what it needs here, or fails.
    """
    check()
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo() as repo:
            yield repo
    except LockError as error:
        # DVC's own words are a list, and advise to delete its lock.
        other = re.search(r"\(PID (\d+)\): (.*)", str(error))
        who = f" (PID {other[1]}: {other[2]})" if other else ""
        raise UserError(f"{failing}: another DVC works in this folder{who}; wait until it has ended.") from None
    except (DvcException, SCMError) as error:
        raise UserError(f"{failing}: {first_line(error)}.") from None


def run(*command: str) -> str:
    """Runs a command of DVC, and gives what it prints.

    Raises:
        UserError: it failed, with what it says of why.
    """
    check()
    done = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True)
    if done.returncode:
        said = [line.partition("ERROR: ")[2] for line in done.stderr.splitlines() if "ERROR: " in line]
        raise UserError(f"`dvc {' '.join(command)}` failed: {'; '.join(said) or first_line(done.stderr)}.")
    return done.stdout


def parse(text: str) -> dict[str, Any]:
    """The content of a dvc.lock, as DVC reads it."""
    from dvc.utils.serialize import parse_yaml

    content: dict[str, Any] = parse_yaml(text, "dvc.lock") or {}
    return content


def check() -> None:
    """Raises UserError where DVC would refuse everything: outside of a git repository, or by a lock that is broken."""
    _check_git()
    _check_merged()
    _check_lock()


def _check_lock() -> None:
    """Raises UserError where a DVC was killed in the moment in which it wrote down what it uses."""
    for _ in range(_LOOKS):
        try:
            json.loads(_LOCK.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:  # or one writes it in this moment
            time.sleep(_SECONDS_BETWEEN)
        else:
            return
    raise UserError(
        f"{_LOCK} was left broken by a DVC that was killed, and DVC refuses to run: when no other DVC runs in this "
        f"folder, type: rm {_LOCK}"
    )


def _check_merged() -> None:
    """Raises UserError where git left a merge conflict in a file that DVC reads."""
    for path in (Path("dvc.yaml"), Path("dvc.lock"), Path("params.yaml")):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        validation.check_merged(path, text)


def _check_git() -> None:
    """Raises UserError where this folder is in no git repository, and DVC is not told to do without."""
    here = Path.cwd()
    configs = (path for path in (Path(".dvc/config"), Path(".dvc/config.local")) if path.is_file())
    if not any((folder / ".git").exists() for folder in (here, *here.parents)) and not any(
        "no_scm" in path.read_text(encoding="utf-8") for path in configs
    ):
        raise UserError(
            f"{here} is not a git repository, which DVC needs: clone the project with git, or, where it was downloaded "
            "as a ZIP, type: git init && git add -A && git commit -m start"
        )
