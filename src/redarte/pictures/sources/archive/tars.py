"""The members of a tar that is complete."""

import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from redarte.pictures.sources.archive.members import CHUNK, ELSEWHERE, Member
from redarte.runtime.errors import UserError, printable

_BLOCK = 512  # bytes; two blocks of zeros are the end
_VOLUME_LABEL = b"V"  # of GNU tar: the name of the whole archive


class Header(tarfile.TarInfo):
    """A header at which a tar that is not whole is refused, where tarfile ends as if it were whole."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "Header":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"not whole: {error} at byte {archive.offset}") from None


def members_of(archive: tarfile.TarFile, file: Path) -> Iterator[Member]:
    """The members of a tar. One that is there again replaces the one before, as `tar --update` means it.

    Raises:
        UserError: it holds a link to a name, a device, or another tar behind its end.
        tarfile.TarError: it is not complete.
    """
    for member in archive:
        if member.type == _VOLUME_LABEL:
            continue
        if member.islnk():  # a hard link: the same file under a second name
            yield Member(member.name, 0, None, link=member.linkname, replaces=True)
        elif member.isdir():
            yield Member(member.name, 0, None)
        elif member.isfile():
            yield Member(member.name, member.size, partial(_extract, archive, member), replaces=True)
        else:
            raise UserError(f"{file} holds a link or device ({printable(member.name)}): {ELSEWHERE}.")
    _check_end(archive, file)


def _check_end(archive: tarfile.TarFile, file: Path) -> None:
    """Refuses a tar that does not end as one, in two blocks of zeros of which the first has been read, or goes on."""
    assert archive.fileobj is not None
    end = archive.fileobj.read(_BLOCK)
    if len(end) < _BLOCK:
        raise tarfile.ReadError("not whole: its end is missing")
    # A compressed tar's own checksum stands at its very end, which tarfile does not read.
    while end:
        if end.strip(b"\0"):
            raise UserError(
                f"{file} goes on behind its end, as several tars in one file do: unpack it with `tar --ignore-zeros`, "
                "and set fetch.source to folder and fetch.folder.path to what comes out."
            )
        end = archive.fileobj.read(CHUNK)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(member)
    assert opened is not None  # None is for folders and links
    return opened
