"""Checks DVC's cache on this machine.

DVC trusts the files in its cache: it takes a read-only file for complete, and does not sync writes to the disk, so that
after a power cut, or on a failing disk, it may restore corrupt files.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from redarte.history import repository
from redarte.runtime import provenance
from redarte.runtime.console import progress, say
from redarte.runtime.errors import UserError


def repair() -> None:
    """Deletes corrupt files from DVC's cache, so that DVC creates or pulls them again, and prints how many they are."""
    with repository.opened("DVC's cache cannot be read") as repo:
        cache = Path(repo.cache.local.path)
        false_runs = list(mixed_runs(Path(repo.stage_cache.cache_dir)))
    for run in false_runs:
        run.unlink()
    if false_runs:
        say(f"{len(false_runs)} records of runs had outputs of other runs and have been deleted.")
    # Older versions of DVC had other folders beside these, with other hashes; redarte creates none.
    files = [path for path in sorted(cache.glob("??/*")) if path.is_file()]
    broken = 0
    for path in progress(files, len(files), "DVC's cache", "files"):
        try:
            if not is_complete(path):
                path.unlink()
                broken += 1
        except OSError as error:
            # A failing disk, or a file of another user.
            raise UserError(
                f"{path} cannot be read, or is corrupt and cannot be deleted ({error.strerror}): delete it, or ask its "
                "owner to delete it, and run this again."
            ) from None
    if broken:
        say(
            f"{broken} of {len(files)} files in {cache} were corrupt and have been deleted: `dvc repro` "
            "creates them again, and `dvc pull` gets what others have pushed."
        )
    else:
        say(f"{len(files)} files in {cache}: all are complete.")


def mixed_runs(folder: Path) -> Iterator[Path]:
    """Yields the records of DVC's run cache that a merged dvc.lock has left: with outputs of other runs."""
    for record in sorted(folder.glob("??/*/*")):
        try:
            entry = repository.parse(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if provenance.is_mixed(entry):
            yield record


def is_complete(path: Path) -> bool:
    """Returns whether a file of DVC's cache has the MD5 that it is named after.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    return found == path.parent.name + path.name.removesuffix(".dir")
