"""Writes the members of an archive inside a folder, within limits."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from redarte.params import Archive
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError, printable

CHUNK = 1 << 20
ELSEWHERE = "unpack it with 7-Zip, and set fetch.source to folder and fetch.folder.path to the unpacked folder"
_MAX_NAME = 255  # bytes of a file name on most disks
_KEPT_OF_NAME = 150  # bytes of a longer name that are kept


@dataclass(frozen=True)
class Member:
    """A file or folder of an archive.

    Attributes:
        size: its declared bytes.
        opening: opens it; None for a folder and for a hard link.
        link: for a hard link, the path of the member that it links to.
        replaces: whether it replaces an earlier member of the same name.
    """

    name: str
    size: int
    opening: Callable[[], IO[bytes]] | None
    link: str | None = None
    replaces: bool = False


@dataclass
class Budget:
    """What may still be unpacked.

    Attributes:
        bytes_left: of max_gigabytes.
    """

    limits: Archive
    bytes_left: float
    files_left: int

    @classmethod
    def of(cls, limits: Archive) -> "Budget":
        """Returns the full budget."""
        return cls(limits, limits.max_gigabytes * 1e9, limits.max_files)

    def take(self, size: int, file: Path) -> None:
        """Counts a file.

        Args:
            size: its bytes.
        """
        self.bytes_left -= size
        self.files_left -= 1
        if self.bytes_left < 0:
            raise UserError(
                f"{file} unpacks to more than fetch.archive.max_gigabytes ({self.limits.max_gigabytes:g}) and is "
                "refused; raise the limit if you trust it."
            )
        if self.files_left < 0:
            raise UserError(too_many_files(file, self.limits.max_files))


def too_many_files(file: Path, max_files: int) -> str:
    """Returns the message about an archive with more files than allowed."""
    return (
        f"{file} has more files than fetch.archive.max_files ({max_files}) and is refused; raise the limit if you "
        "trust it."
    )


def write(members: Iterator[Member], folder: Path, budget: Budget, file: Path, total: int) -> None:
    """Writes the members of an archive into a folder.

    Args:
        folder: an empty folder.
        total: the number of members; 0 where it is unknown.
    """
    for member in progress(members, total, "unpacking"):
        target = folder / _inside(member.name, file)
        source = None if member.link is None else folder / _inside(member.link, file)
        if source is not None and not source.is_file():
            raise UserError(f"{file} has a link to a file that is not in it ({printable(member.link)}): {ELSEWHERE}.")
        budget.take(member.size if source is None else source.stat().st_size, file)
        opening: Callable[[], Any] | None = member.opening if source is None else partial(source.open, "rb")
        if opening is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if not member.replaces or target.is_dir():
                raise UserError(
                    f"{file} has {printable(member.name)} twice, and it is unclear which one is valid: {ELSEWHERE}."
                )
            if source is not None and source.samefile(target):
                continue
            target.unlink()
        with closing(opening()) as packed, target.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked, CHUNK)


def _inside(name: str, file: Path) -> PurePosixPath:
    """The path of a member below the folder; as with tar and unzip, an absolute path becomes relative to the folder.

    Raises UserError where the path leads out of the folder.
    """
    path = PurePosixPath(re.sub(r"^([A-Za-z]:(?=/))?/+", "", name))
    if ".." in path.parts or "\0" in name or re.fullmatch(r"[A-Za-z]:", path.parts[0] if path.parts else ""):
        raise UserError(f"{file} has a path that leads out of its folder ({printable(name)}) and is refused.")
    return path if len(path.name.encode(errors="replace")) <= _MAX_NAME else path.with_name(_shortened(path.name))


def _shortened(name: str) -> str:
    """A file name that fits on disks: its beginning, a hash of the whole name, and its suffix."""
    encoded = name.encode(errors="replace")
    suffix = PurePosixPath(name).suffix
    start = encoded[:_KEPT_OF_NAME].decode(errors="ignore")
    digest = hashlib.blake2b(encoded, digest_size=4).hexdigest()
    return f"{start}-{digest}{suffix if len(suffix.encode(errors='replace')) < 20 else ''}"
