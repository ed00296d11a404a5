"""Checks whether dvc.lock matches the code, the parameters and the committed files.

`dvc repro --dry` stops at the first stale stage whose inputs are not on this machine, and a reviewer has no images.
`dvc status` names every stage and what changed.
"""

from collections.abc import Iterator
from typing import Any

from redarte.history import repository
from redarte.runtime import provenance
from redarte.runtime.errors import UserError

# An output in DVC's cache that this machine has not pulled does not make the lock stale.
_ABSENT = {"deleted", "not in cache"}


def check() -> None:
    """Checks dvc.lock against the workspace."""
    mixed = [stage for stage, entry in repository.lock().items() if provenance.is_mixed(entry)]
    if mixed:
        raise UserError(
            f"dvc.lock mixes two runs in {', '.join(mixed)}: git has merged it line by line, and the outputs are not "
            "those of the parameters and inputs beside them; type: redarte check --cache && dvc repro --force "
            f"--single-item {' '.join(mixed)} && dvc repro, and commit dvc.lock and metrics/."
        )
    with repository.opened("`dvc status` failed") as repo:
        status = repo.status()
        cached = {out.def_path for out in repo.index.outs if out.use_cache}
    missing = sorted({path for entries in status.values() for path in _deleted(entries) if path.startswith("metrics/")})
    if missing:
        raise UserError(
            f"{', '.join(missing)} is in dvc.lock and not in this folder: commit it where the run was made (git add "
            "metrics), and pull."
        )
    stale = {stage: what for stage, entries in status.items() if (what := list(_changes(entries, cached)))}
    if stale:
        named = "; ".join(f"{stage}: {', '.join(what)}" for stage, what in stale.items())
        raise UserError(f"dvc.lock is stale ({named}): run `dvc repro`, and commit dvc.lock and metrics/.")


def _deleted(entries: list[Any]) -> Iterator[str]:
    """The files of a stage that are not here."""
    for changed in (changed for entry in entries if isinstance(entry, dict) for changed in entry.values()):
        yield from (path for path, state in changed.items() if state == "deleted")


def _changes(entries: list[Any], cached: set[str]) -> Iterator[str]:
    """The files and parameters of a stage that differ from dvc.lock.

    `entries` are those of `dvc status`, each a text or {kind: {path: state}}; `cached` are the outputs that are in
    DVC's cache and not in git.
    """
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        for changed in entry.values():
            for path, state in changed.items():
                if isinstance(state, dict):
                    yield from state
                elif state not in _ABSENT or path not in cached:
                    yield path
