"""Arrays that are computed once for each image and kept outside of every project.

They are in the folder REDARTE_CACHE, by default ~/.cache/redarte; REDARTE_CACHE=0 keeps none. A cache changes no
output: its name is a hash of everything that decides an array, except the image. A corrupt entry counts as missing. The
entries that were not used for the longest time are deleted when all exceed 10 GB.
"""

import hashlib
import io
import os
import secrets
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

_LIMIT = 10e9  # bytes
_KEPT = 0.8  # of the limit, after entries were deleted
_CHECKED = 0.05  # of the limit: after so many written bytes, the size of the folder is checked again
_CHECKSUM = 4  # bytes


class Cache:
    """The arrays of one kind.

    Args:
        kind: a hash of everything that decides an array, except the image and the machine.
        machine: what else decides it; None: arrays of any machine are accepted, and none is written.
    """

    def __init__(self, kind: str, machine: Iterable[object] | None):
        root = _folder()
        self._root, self._unchecked, self._started = root, 0.0, time.time()
        self._target: Path | None = None
        self._folders: list[Path] = []
        if root is not None and machine is not None:
            self._target = root / kind / hashlib.blake2b(repr([*machine]).encode(), digest_size=8).hexdigest()
            self._folders = [self._target]
            self._unchecked = np.inf
        elif root is not None:
            with suppress(OSError):
                self._folders = sorted(path for path in (root / kind).iterdir() if path.is_dir())

    def has(self, name: str) -> bool:
        """Returns whether there is an array for an image; it may be corrupt."""
        return any(_path(folder, name).exists() for folder in self._folders)

    def read(self, name: str) -> np.ndarray | None:
        """Returns the array of an image; None where there is none, or it is corrupt."""
        for path in (_path(folder, name) for folder in self._folders):
            try:
                content = path.read_bytes()
                os.utime(path)
            except OSError:
                continue
            if _checksum(content[_CHECKSUM:]) == content[:_CHECKSUM]:
                array: np.ndarray = np.load(io.BytesIO(content[_CHECKSUM:]), allow_pickle=False)
                return array
        return None

    def write(self, name: str, array: np.ndarray) -> None:
        """Keeps the array of an image, where there is space for it."""
        if self._target is None:
            return
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        content, path = buffer.getvalue(), _path(self._target, name)
        partial = path.with_name(f".partial-{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(_checksum(content) + content)
            partial.replace(path)
        except OSError:  # a full disk, or a folder that only another user can write to
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            self._target = None
            return
        self._unchecked += len(content)
        if self._root is not None and self._unchecked > _CHECKED * _LIMIT:
            self._unchecked = 0.0
            if not _trim(self._root, _LIMIT, self._started):
                self._target = None


def keras_weights() -> Path:
    """Returns the folder to which Keras downloads weights."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models")


def _folder() -> Path | None:
    """The folder of all caches; None where nothing is kept, or there is no home."""
    chosen = os.environ.get("REDARTE_CACHE", "")
    if chosen == "0":
        return None
    with suppress(RuntimeError):
        return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "redarte")
    return None


def _path(folder: Path, name: str) -> Path:
    return folder / name[:2] / name[2:]


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM, "big")


def _trim(root: Path, limit: float, started: float) -> bool:
    """Deletes the files that were not used for the longest time, where all together are larger than the limit.

    Files that were used since `started` stay, and it returns whether the others were enough.
    """
    found: list[tuple[float, int, Path]] = []
    for path in root.rglob("*"):
        # Another process may have deleted it.
        with suppress(OSError):
            about = path.stat()
            if not path.is_dir():
                found.append((about.st_mtime, about.st_size, path))
    size = sum(one for _, one, _ in found)
    if size <= limit:
        return True
    for used, one, path in sorted(found):
        if size <= _KEPT * limit or used >= started:
            break
        with suppress(OSError):
            path.unlink()
        size -= one
    return size <= limit
