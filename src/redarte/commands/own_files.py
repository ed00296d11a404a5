"""A person's own files inside an output of the pipeline: DVC deletes them, before the stage starts and can say so."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redarte.commands import repository
from redarte.runtime.errors import UserError, printable

_NAMED = 3  # files in a sentence


def check() -> None:
    """Looks for files in the outputs of the stages that DVC did not put there.

    Raises:
        UserError: there are some, and the next run would delete them.
    """
    with repository.opened("the outputs cannot be looked at") as repo:
        folders = {out.def_path: _known(repo, out) for out in repo.index.outs if out.use_cache}
    for name, known in sorted(folders.items()):
        unknown = sorted(set(_files(Path(name))) - known)
        if unknown:
            named = ", ".join(map(printable, unknown[:_NAMED])) + (" …" if len(unknown) > _NAMED else "")
            raise UserError(
                f"{name} holds {len(unknown)} files that DVC does not know ({named}), and the next run would delete "
                "them: move them to a folder outside of data/, and set fetch.source to folder and fetch.folder.path to "
                f"that folder; or delete {name} if you do not need them."
            )


def _known(repo: Any, out: Any) -> set[str]:
    """The files of a folder as DVC recorded it; none where it did not, or where its cache does not have the record."""
    if not out.hash_info or not out.hash_info.isdir:
        return set()
    try:
        record = Path(repo.cache.local.oid_to_path(out.hash_info.value)).read_text(encoding="utf-8")
        return {entry["relpath"] for entry in json.loads(record)}
    except (OSError, ValueError):
        return set()


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name).relative_to(folder).as_posix() for name in names)
