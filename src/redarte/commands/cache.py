"""Whether DVC's cache on this machine is whole.

DVC never looks again at what it has put there: it takes a read-only file for whole, and writes nothing through to the
disk, so that after a power cut (or on a failing disk) it hands out what is not there.
"""

import hashlib
from pathlib import Path

from redarte.commands import repository
from redarte.runtime.console import progress, say
from redarte.runtime.errors import UserError


def mend() -> None:
    """Deletes what is not whole in DVC's cache, so that DVC makes it or pulls it again, and says how much that was.

    Raises:
        UserError: a file there cannot be read or deleted.
    """
    with repository.opened("the cache of DVC cannot be read") as repo:
        cache = Path(repo.cache.local.path)
    # Of older versions of DVC there may be more beside them, which are hashed otherwise; redarte makes none.
    files = [path for path in sorted(cache.glob("??/*")) if path.is_file()]
    broken = 0
    for path in progress(files, len(files), "DVC's cache", "files"):
        try:
            if not is_whole(path):
                path.unlink()
                broken += 1
        except OSError as error:
            # A disk that fails, or a file of another user.
            raise UserError(
                f"{path} cannot be read, or is not whole and cannot be deleted ({error.strerror}): delete it, or let "
                "its owner do so, and run this again."
            ) from None
    if broken:
        say(
            f"{broken} of {len(files)} files in {cache} were not whole and have been deleted: `dvc repro` makes "
            "them again, and `dvc pull` brings what others have pushed."
        )
    else:
        say(f"{len(files)} files in {cache}: all are whole.")


def is_whole(path: Path) -> bool:
    """Whether a file of DVC's cache has the MD5 that it is named by."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    return found == path.parent.name + path.name.removesuffix(".dir")
