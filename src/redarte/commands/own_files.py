"""A person's own files inside an output of the pipeline: DVC deletes them, before the stage starts and can say so."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from redarte.commands import repository
from redarte.params import Params
from redarte.runtime import outputs
from redarte.runtime.errors import UserError, printable

_NAMED = 3  # files in a sentence


def check(settings: Params) -> None:
    """Looks for files in the outputs of the stages that neither DVC nor a stage put there.

    Raises:
        UserError: there are some, and the next run would delete them.
    """
    written = _written(settings)
    with repository.opened("the outputs cannot be looked at") as repo:
        recorded = {
            out.def_path: out.hash_info.value if out.hash_info else "" for out in repo.index.outs if out.use_cache
        }
        cache = Path(repo.cache.local.path)
    for name, digest in sorted(recorded.items()):
        found = set(_files(Path(name)))
        record = cache / digest[:2] / digest[2:]
        # A run that was killed, or lost its cache in a power cut, leaves what the stage has written.
        if not found or found <= _names(record) or len(found) == written.get(name):
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


def _written(settings: Params) -> dict[str, int]:
    """How many files the stages say that they have written: folder -> files."""
    try:
        fetched, split = (outputs.read_json(Path(f"metrics/{name}.json")) for name in ("fetch", "split"))
        counts = {"data/raw": int(fetched["pictures"])}
        for name in ("train", "val", "test"):
            copies = len(settings.augment.copies) if name == "train" else 0
            counts |= {f"data/split/{name}": split[name], f"data/resized/{name}": split[name] * (1 + copies)}
        return counts | {"data/augmented": split["train"] * len(settings.augment.copies)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _names(record: Path) -> set[str]:
    """The files of a folder as DVC's cache records them; none where there is no such record."""
    try:
        return {entry["relpath"] for entry in json.loads(record.read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return set()


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name).relative_to(folder).as_posix() for name in names)
