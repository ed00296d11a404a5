"""Whether dvc.lock is of this code, these parameters and these committed files.

`dvc repro --dry` says it too, but stops at the first stale stage whose inputs are not on this machine; a review has
no pictures. `dvc status` names every stage and what changed.
"""

from collections.abc import Iterator
from typing import Any

from redarte.commands import repository
from redarte.runtime.errors import UserError

# An output that DVC's cache holds, and that this machine has not pulled, says nothing about the lock.
_ABSENT = {"deleted", "not in cache"}


def check() -> None:
    """Checks dvc.lock against the workspace.

    Raises:
        UserError: stages would run again, because of something else than files that are not here.
    """
    with repository.opened("`dvc status` failed") as repo:
        status = repo.status()
        pulled = {out.def_path for out in repo.index.outs if out.use_cache}
    stale = {stage: what for stage, entries in status.items() if (what := list(_changes(entries, pulled)))}
    if stale:
        named = "; ".join(f"{stage}: {', '.join(what)}" for stage, what in stale.items())
        raise UserError(f"dvc.lock is stale ({named}): run `dvc repro`, and commit dvc.lock and metrics/.")


def _changes(entries: list[Any], pulled: set[str]) -> Iterator[str]:
    """The files and parameters of a stage that differ from dvc.lock.

    Args:
        entries: of `dvc status`, each a text or {kind: {path: state}}.
        pulled: the outputs that are in DVC's cache and not in git.
    """
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        for changed in entry.values():
            for path, state in changed.items():
                if isinstance(state, dict):
                    yield from state
                elif state not in _ABSENT or path not in pulled:
                    yield path
