"""Finds a user's own files inside an output of the pipeline: DVC would delete them before the stage starts."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from redarte.commands import repository
from redarte.images.decoding import folders
from redarte.params import Params
from redarte.runtime import outputs
from redarte.runtime.errors import UserError, printable

_MAX_NAMES = 3  # files in a message


def check(settings: Params) -> None:
    """Checks that the outputs of the stages have only files that a stage wrote.

    Args:
        settings: params.yaml.

    Raises:
        UserError: there are other files, which the next run would delete.
    """
    written = _written(settings)
    with repository.opened("the outputs cannot be checked") as repo:
        recorded = {
            out.def_path: out.hash_info.value if out.hash_info else "" for out in repo.index.outs if out.use_cache
        }
        cache = Path(repo.cache.local.path)
    for name, digest in sorted(recorded.items()):
        found = set(_files(Path(name)))
        record = cache / digest[:2] / digest[2:]
        # A run that was killed, or lost its cache in a power cut, leaves the files of the stage.
        if not found or found <= _names(record) or len(found) == written.get(name):
            continue
        # After `git restore dvc.lock`, or in another commit, these are the files of an earlier run.
        unknown = min((found - _names(path) for path in (record, *cache.glob("??/*.dir"))), key=len)
        if not unknown:
            continue
        names = ", ".join(map(printable, sorted(unknown)[:_MAX_NAMES])) + (" …" if len(unknown) > _MAX_NAMES else "")
        raise UserError(
            f"{name} has {len(unknown)} files that DVC does not know ({names}), and the next run would delete them: "
            "move them to a folder outside of data/, and set fetch.source to folder and fetch.folder.path to that "
            f"folder; or delete {name} if you do not need them."
        )


def _written(settings: Params) -> dict[str, int]:
    """The number of files that the stages have written, by their metrics: folder -> files."""
    try:
        fetched, split = (outputs.read_json(Path(f"metrics/{name}.json")) for name in ("fetch", "split"))
        corrections = fetched.get("corrections", {"relabelled": 0, "excluded": 0, "applied": False})
        counts = {
            "data/raw": fetched["images"]
            + bool(corrections["relabelled"] or corrections["excluded"])
            + corrections["excluded"] * corrections["applied"]
        }
        for name in ("train", "val", "test"):
            # With folds, an artist may have images in val and none in test.
            originals = Path("data/split", name)
            images = folders.list_images(originals) if originals.is_dir() else []
            artists = {path.partition("/")[0] for path in images}
            counts |= {f"data/split/{name}": split[name], f"data/resized/{name}": len(artists)}
        return counts | {"data/augmented": split["train"] * len(settings.augment.copies)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _names(record: Path) -> set[str]:
    """The files of a folder, as DVC's cache records them; empty where there is no such record."""
    try:
        return {entry["relpath"] for entry in json.loads(record.read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return set()


def _files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name).relative_to(folder).as_posix() for name in names)
