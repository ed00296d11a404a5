"""A person's own files inside an output of the pipeline: DVC deletes them, before the stage starts and can say so."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from redarte.commands import repository
from redarte.runtime.errors import UserError, printable

_NAMED = 3  # files in a sentence


def check() -> None:
    """Looks for files in the outputs of the stages that DVC never had.

    Raises:
        UserError: there are some, and the next run would delete them.
    """
    with repository.opened("the outputs cannot be looked at") as repo:
        outputs = {
            out.def_path: out.hash_info.value if out.hash_info else "" for out in repo.index.outs if out.use_cache
        }
        cache = Path(repo.cache.local.path)
    for name, recorded in sorted(outputs.items()):
        found = set(_files(Path(name)))
        record = cache / recorded[:2] / recorded[2:]
        if not found or found <= _names(record):
            continue
        # After `git restore dvc.lock`, or in another commit: the files of an earlier run.
        runs: list[set[str]] = [found - _names(path) for path in (record, *cache.glob("??/*.dir"))]
        fewest = min(runs, key=len)
        unknown = sorted(fewest)
        if not unknown:
            continue
        named = ", ".join(map(printable, unknown[:_NAMED])) + (" …" if len(unknown) > _NAMED else "")
        raise UserError(
            f"{name} holds {len(unknown)} files that DVC does not know ({named}), and the next run would delete them: "
            "move them to a folder outside of data/, and set fetch.source to folder and fetch.folder.path to that "
            f"folder; or delete {name} if you do not need them."
        )


def _names(record: Path) -> set[str]:
    """The files of a folder as DVC's cache records them; none where there is no such record."""
    try:
        return {entry["relpath"] for entry in json.loads(record.read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return set()


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name).relative_to(folder).as_posix() for name in names)
