"""Whether dvc.lock is of this code, these parameters and these committed files.

`dvc repro --dry` says it too, but stops at the first stale stage whose inputs are not on this machine; a review has
no pictures. `dvc status` names every stage and what changed.
"""

from collections.abc import Iterator
from typing import Any

from redarte.commands import repository
from redarte.runtime.errors import UserError

# What git does not hold and this machine has not pulled says nothing about the lock.
_ABSENT = {"deleted", "not in cache"}


def check() -> None:
    """Checks dvc.lock against the workspace.

    Raises:
        UserError: stages would run again, because of something else than files that are not here.
    """
    with repository.opened("`dvc status` failed") as repo:
        status = repo.status()
    stale = {stage: what for stage, entries in status.items() if (what := list(_changes(entries)))}
    if stale:
        named = "; ".join(f"{stage}: {', '.join(what)}" for stage, what in stale.items())
        raise UserError(f"dvc.lock is stale ({named}): run `dvc repro`, and commit dvc.lock and metrics/.")


def _changes(entries: list[Any]) -> Iterator[str]:
    """The files and parameters of a stage that differ from dvc.lock. An entry is a text, or {kind: {path: state}}."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        for changed in entry.values():
            for path, state in changed.items():
                if isinstance(state, dict):
                    yield from state
                elif state not in _ABSENT:
                    yield path
