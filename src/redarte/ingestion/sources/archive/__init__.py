"""The source archive: a zip or tar on this machine or at an http(s) address. Untrusted; it is used completely or
refused.

`zips` and `tars` list the members, `members` writes them, `download` downloads the file.
"""

import errno
import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redarte.images import folders
from redarte.ingestion.sources.archive import download, tars, zips
from redarte.ingestion.sources.archive.members import ELSEWHERE, Budget, Member, write
from redarte.params import Archive, Fetch
from redarte.runtime.errors import UserError, first_line, working_directory_hint

# Signatures of a zip: with a member, empty, or the first of several parts.
_ZIP, _SPLIT = (b"PK\3\4", b"PK\5\6"), b"PK\7\x08"
_HEAD = 4096  # bytes of a file that identify it
_SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Signatures of other formats.
_OTHER_FORMATS = (
    (b"Rar!", "a RAR archive"), (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"\x28\xb5\x2f\xfd", "packed with Zstandard"),
    (b"\x04\x22\x4d\x18", "packed with LZ4"), (b"\x1f\x9d", "packed with compress"),
    (b"\x1f\x8b", "gzip, but no tar in it"),
)  # fmt: skip


class NotAnArchiveError(UserError):
    """The file is neither a zip nor a tar."""


def fetch_files(settings: Fetch, scratch: Path) -> Path:
    """Unpacks fetch.archive.path, after downloading it where it is an address.

    Args:
        scratch: an empty folder.
    """
    archive = settings.archive
    if archive.path is None:
        raise UserError("fetch.archive.path is not set; set it to a zip or tar file, or to its http(s) address.")
    is_address = archive.path.lower().startswith(("http://", "https://"))
    file = download.download(archive.path, archive.max_gigabytes) if is_address else Path(archive.path).expanduser()
    if not file.is_file():
        raise UserError(
            f"fetch.archive.path is {archive.path}, which is not a file on this machine{working_directory_hint(file)}."
        )
    if archive.sha256 is not None:
        _check_hash(file, archive, is_address)
    try:
        unpack(file, scratch, archive)
    except NotAnArchiveError:
        if is_address:  # for instance a login page: the next download may be the archive
            download.forget(file)
        raise
    if is_address:
        download.forget(file)
    return scratch


def unpack(file: Path, folder: Path, limits: Archive) -> None:
    """Unpacks a zip or tar into an empty folder, within the limits of params.yaml.

    If the archive has only archives, such as one for each artist, each of them is unpacked into a folder of its name.

    Args:
        folder: an empty folder.
    """
    budget = Budget.of(limits)
    _unpack(file, folder, budget)
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not folders.is_of_a_system(path.relative_to(folder))
    ]
    if files and all(path.name.lower().endswith(_SUFFIXES) for path in files):
        for inner in files:
            into = inner.with_name(_stem(inner.name))
            if into.exists():
                raise UserError(f"{file} has {inner.name} beside a folder of that name: {ELSEWHERE}.")
            into.mkdir()
            try:
                _unpack(inner, into, budget)
            except UserError as error:
                # By its name in the archive, because the unpacked file is deleted.
                raise UserError(str(error).replace(str(inner), f"{file}: {inner.relative_to(folder)}")) from None
            inner.unlink()
            _unwrap(into)


def _unwrap(folder: Path) -> None:
    """Moves the files of Ana/Ana, from Ana.zip with a folder Ana in it, to Ana."""
    content = [path for path in folder.iterdir() if not folders.is_system_file(path.name)]
    if len(content) == 1 and content[0].is_dir() and content[0].name == folder.name:
        wrapper = content[0].rename(folder / f".{folder.name}")
        for path in wrapper.iterdir():
            path.rename(folder / path.name)
        wrapper.rmdir()


def sizes(file: Path, limits: Archive) -> list[tuple[str, int]]:
    """Returns the names and declared bytes of the members of a zip or tar."""
    with _members(file, limits) as (members, _):
        return [(member.name, member.size) for member in members]


def _unpack(file: Path, folder: Path, budget: Budget) -> None:
    with _members(file, budget.limits) as (members, total):
        write(members, folder, budget, file, total)


def _stem(name: str) -> str:
    suffix = max((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), key=len)
    return name[: -len(suffix)] or name + ".d"


@contextmanager
def _members(file: Path, limits: Archive) -> Iterator[tuple[Iterator[Member], int]]:
    """The members of a zip or tar, and their number, 0 where it is unknown; for the duration of the block."""
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
    try:
        # A tar may end with a zip, which zipfile would find from the end.
        if head.startswith(_ZIP) or not (head.startswith(_SPLIT) or tars.is_tar(file)):
            if not zipfile.is_zipfile(file):
                raise NotAnArchiveError(_unknown_format(file, head))
            if zips.is_last_part(file):
                raise UserError(_of_a_split_zip(file))
            zips.check_count(file, limits.max_files)
            with zipfile.ZipFile(file) as opened_zip:
                yield zips.members_of(opened_zip, file, limits.encoding), len(opened_zip.infolist())
        elif head.startswith(_SPLIT):
            raise UserError(_of_a_split_zip(file))
        else:
            with tarfile.open(file, tarinfo=tars.Header, encoding=limits.encoding or "utf-8") as opened_tar:
                yield tars.members_of(opened_tar, file), 0
    except (NotImplementedError, RuntimeError, tars.UnsupportedError) as error:
        raise UserError(f"{file} cannot be unpacked here ({first_line(error)}): {ELSEWHERE}.") from None
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        ValueError,  # an invalid number in a header
    ) as error:
        raise UserError(_corrupt(file, first_line(error))) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(
                f"{file} has a path that is too long for this disk: unpack it elsewhere, shorten its names, and set "
                "fetch.source to folder and fetch.folder.path to the unpacked folder."
            ) from None
        raise UserError(_corrupt(file, error.strerror or first_line(error))) from None


def _corrupt(file: Path, why: str) -> str:
    return f"{file} cannot be unpacked ({why}): it is corrupt or incomplete; download or copy it again."


def _of_a_split_zip(file: Path) -> str:
    return (
        f"{file} is one part of a split zip: join its parts with 7-Zip or `zip -s 0 parts.zip --out joined.zip`, and "
        "set fetch.archive.path to joined.zip."
    )


def _unknown_format(file: Path, head: bytes) -> str:
    if b"<html" in head.lower() or b"<!doctype" in head.lower():
        return f"{file} is a web page and not an archive: open the address in a browser to see it."
    if head.startswith(_ZIP):
        if file.suffix == ".001":
            return _of_a_split_zip(file)
        return _corrupt(file, "the end of the zip is missing")
    what = next((what for beginning, what in _OTHER_FORMATS if head.startswith(beginning)), None)
    if what:
        return f"{file} is {what}, which is not supported: {ELSEWHERE}."
    return f"{file} is not a zip or tar archive; use one of these, or a folder."


def _check_hash(file: Path, archive: Archive, is_download: bool) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found == str(archive.sha256).lower():
        return
    if is_download:
        download.forget(file)
    what = "run this again to download it again" if is_download else "get it again from where it was published"
    raise UserError(
        f"{file} has the SHA-256 {found}, and fetch.archive.sha256 says {archive.sha256}: it is not the file that was "
        f"published; {what}, or correct the parameter."
    )
