"""Access to DVC for the commands, with one-sentence errors."""

import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redarte.runtime import documents
from redarte.runtime.errors import UserError, first_line

_LOCK = Path(".dvc/tmp/rwlock")
_ATTEMPTS, _INTERVAL = 3, 0.3  # seconds


@contextmanager
def opened(failing: str) -> Iterator[Any]:
    """Opens the project in DVC's Python API for the duration of the block.

    Args:
        failing: the beginning of the error message, such as "the stages cannot be listed".
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
        # DVC's message is a list, and advises to delete its lock.
        other = re.search(r"\(PID (\d+)\): (.*)", str(error))
        who = f" (PID {other[1]}: {other[2]})" if other else ""
        raise UserError(f"{failing}: another DVC process runs in this folder{who}; wait until it has ended.") from None
    except (DvcException, SCMError) as error:
        raise UserError(f"{failing}: {first_line(error)}.") from None


def run(*command: str) -> str:
    """Runs a DVC command, and returns what it prints."""
    check()
    if importlib.util.find_spec("dvc") is None:
        raise ModuleNotFoundError("dvc is not installed", name="dvc")
    done = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True)
    if done.returncode:
        errors = [line.partition("ERROR: ")[2] for line in done.stderr.splitlines() if "ERROR: " in line]
        raise UserError(f"`dvc {' '.join(command)}` failed: {'; '.join(errors) or first_line(done.stderr)}.")
    return done.stdout


def stored(path: Path, revision: str) -> str | None:
    """Returns the text of an output in a commit or experiment; None where DVC's cache does not have it."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        text: str = dvc.api.read(path.as_posix(), rev=revision)
        return text
    except (DvcException, OSError):
        return None


def parse(text: str) -> dict[str, Any]:
    """Returns the content of a dvc.lock, parsed as DVC does."""
    from dvc.utils.serialize import parse_yaml

    content: dict[str, Any] = parse_yaml(text, "dvc.lock") or {}
    return content


def lock() -> dict[str, Any]:
    """Returns the entries of dvc.lock by stage; empty where there is no dvc.lock."""
    file = Path("dvc.lock")
    return (parse(file.read_text(encoding="utf-8")).get("stages") or {}) if file.is_file() else {}


def check() -> None:
    """Checks what makes DVC refuse every command."""
    _check_git()
    _check_merged()
    _check_unmerged()
    _check_lock()


def _check_lock() -> None:
    """Raises UserError where a DVC was killed while it wrote its lock file."""
    for _ in range(_ATTEMPTS):
        try:
            json.loads(_LOCK.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:  # or another process writes it now
            time.sleep(_INTERVAL)
        else:
            return
    raise UserError(
        f"{_LOCK} is corrupt because a DVC process was killed, and DVC refuses to run: when no other DVC runs in this "
        f"folder, type: rm {_LOCK}"
    )


def _check_merged() -> None:
    """Raises UserError where git left a merge conflict in a file that DVC reads."""
    for path in map(Path, ("dvc.yaml", "dvc.lock", "params.yaml", "corrections.csv")):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        documents.check_merged(path, text)


def _check_unmerged() -> None:
    """Raises UserError where git stopped a merge at a file that it must not mix (.gitattributes)."""
    done = subprocess.run(["git", "ls-files", "-u", "-z", "dvc.lock", "metrics"], capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        raise UserError(
            "git has not finished a merge of dvc.lock and metrics/, which it must not mix: edit params.yaml and "
            "corrections.csv to what you want, then type: dvc repro && git add dvc.lock metrics params.yaml "
            "corrections.csv, and finish with git commit (or git rebase --continue, git cherry-pick --continue)"
        )


def _check_git() -> None:
    """Raises UserError where this folder is in no git repository, unless DVC is configured without git."""
    here = Path.cwd()
    configs = (path for path in (Path(".dvc/config"), Path(".dvc/config.local")) if path.is_file())
    if not any((folder / ".git").exists() for folder in (here, *here.parents)) and not any(
        "no_scm" in path.read_text(encoding="utf-8") for path in configs
    ):
        raise UserError(
            f"{here} is not a git repository, which DVC needs: clone the project with git, or, where it was downloaded "
            "as a ZIP, type: git init && git add -A && git commit -m start"
        )
