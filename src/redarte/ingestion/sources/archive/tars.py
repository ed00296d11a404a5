"""The members of a complete tar."""

import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from redarte.ingestion.sources.archive.members import CHUNK, ELSEWHERE, Member
from redarte.runtime.errors import UserError, printable

_BLOCK = 512  # bytes; two zero blocks end a tar
_MAX_HEADER = 2**20  # bytes of a name, or of the attributes of a member
_SPARSE = "a sparse file"  # whose list of holes has no limit
_IN_MEMORY = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_VOLUME_LABEL = b"V"  # GNU tar: the name of the archive


class UnsupportedError(tarfile.TarError):
    """What a header announces would be read into memory. No ReadError, after which tarfile would try on."""


class Header(tarfile.TarInfo):
    """A header that refuses an incomplete tar, where tarfile would end as if the tar were complete, and a long name or
    attribute that would be read into memory.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        header = super().frombuf(buf, encoding, errors)
        if header.type in _IN_MEMORY and header.size > _MAX_HEADER:
            raise UnsupportedError(f"a name or attribute has {header.size} bytes")
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise UnsupportedError(_SPARSE)
        return header

    def _proc_gnusparse_10(self, *_arguments: object) -> None:
        raise UnsupportedError(_SPARSE)

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "Header":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"incomplete: {error} at byte {archive.offset}") from None


def is_tar(file: Path) -> bool:
    """Returns whether a file begins as a tar, compressed or not.

    Raises:
        UnsupportedError: it is one, with a name that would be read into memory.
    """
    try:
        with tarfile.open(file, tarinfo=Header):
            return True
    except (tarfile.ReadError, tarfile.CompressionError):
        return False


def members_of(archive: tarfile.TarFile, file: Path) -> Iterator[Member]:
    """Lists the members of a tar. A repeated member replaces the earlier one, as with `tar --update`.

    Yields:
        The members, in order.

    Raises:
        tarfile.TarError: it is incomplete.
    """
    for member in iter(archive.next, None):
        archive.members = []  # type: ignore[attr-defined] # of which tarfile would keep all in memory
        if member.type == _VOLUME_LABEL:
            continue
        if member.islnk():  # a hard link: the same file under a second name
            yield Member(member.name, 0, None, link=member.linkname, replaces=True)
        elif member.isdir():
            yield Member(member.name, 0, None)
        elif member.isfile():
            yield Member(member.name, member.size, partial(_extract, archive, member), replaces=True)
        else:
            raise UserError(f"{file} has a link or device ({printable(member.name)}): {ELSEWHERE}.")
    _check_end(archive, file)


def _check_end(archive: tarfile.TarFile, file: Path) -> None:
    """Refuses a tar without the two zero blocks at its end, the first of which has been read, or with data behind
    them.
    """
    assert archive.fileobj is not None
    end = archive.fileobj.read(_BLOCK)
    if len(end) < _BLOCK:
        raise tarfile.ReadError("incomplete: its end is missing")
    # The checksum of a compressed tar is at its very end, which tarfile does not read.
    while end:
        if end.strip(b"\0"):
            raise UserError(
                f"{file} has data behind its end, as several tars in one file do: unpack it with `tar --ignore-zeros`, "
                "and set fetch.source to folder and fetch.folder.path to the unpacked folder."
            )
        end = archive.fileobj.read(CHUNK)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(member)
    assert opened is not None  # None is for folders and links
    return opened
