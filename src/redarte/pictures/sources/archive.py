"""Pictures in a zip or tar, on this machine or at an http(s) address. It is not trusted."""

import errno
import hashlib
import lzma
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

import requests
from tqdm import tqdm

from redarte.params import Archive, Fetch
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError, first_line, printable

DOWNLOADS = Path("data/.downloads")
_TIMEOUT = 30  # seconds to connect, and between two pieces
_CHUNK = 1 << 20
_PIECE = 1 << 16  # of a download; when the connection breaks, the piece under way is lost

# A member's name, its declared bytes, and how to open it; None for a folder.
_Member = tuple[str, int, Callable[[], IO[bytes]] | None]


def tree(settings: Fetch, scratch: Path) -> Path:
    """Unpacks fetch.archive.path, after downloading it where it is an address.

    Raises:
        UserError: the archive is missing, is not what its hash says, is broken, or is refused: a name that
            leads out of the folder, a link or device, or more files or bytes than params.yaml allows.
    """
    archive = settings.archive
    if archive.path is None:
        raise UserError("fetch.archive.path is not set; give a zip or tar file, or its http(s) address.")
    if archive.path.startswith(("http://", "https://")):
        file = download(archive.path)
    else:
        file = Path(archive.path).expanduser()
    if not file.is_file():
        raise UserError(f"fetch.archive.path is {archive.path}, which is not a file on this machine.")
    if archive.sha256 is not None:
        _check_hash(file, archive)
    unpack(file, scratch, archive)
    if archive.path.startswith(("http://", "https://")):
        file.unlink()
    return scratch


def unpack(file: Path, folder: Path, limits: Archive) -> None:
    """Unpacks a zip or tar into an empty folder, within the limits of params.yaml.

    Raises:
        UserError: see `tree`.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as opened:
                _write(_zip_members(opened, file), folder, limits, file, total=len(opened.infolist()))
        elif tarfile.is_tarfile(file):
            with tarfile.open(file) as opened_tar:
                _write(_tar_members(opened_tar, file), folder, limits, file, total=0)
        else:
            raise UserError(f"{file} is neither a zip nor a tar archive; give one of these, or a folder.")
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        ValueError,  # a number in a header that is none
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise UserError(f"{file} cannot be unpacked ({first_line(error)}); download it again.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{file} cannot be unpacked ({error.strerror or first_line(error)}); download it again."
        ) from None


def _zip_members(archive: zipfile.ZipFile, file: Path) -> Iterator[_Member]:
    for member in archive.infolist():
        kind = member.external_attr >> 28  # the Unix file type; 0 where the archive was made elsewhere
        if kind not in (0, 0o4, 0o10):
            raise UserError(f"{file} holds a link or device ({printable(member.filename)}) and is refused.")
        opening = None if member.is_dir() else partial(archive.open, member)
        yield member.filename.replace("\\", "/"), member.file_size, opening


def _tar_members(archive: tarfile.TarFile, file: Path) -> Iterator[_Member]:
    for member in archive:
        if not (member.isfile() or member.isdir()):
            raise UserError(f"{file} holds a link or device ({printable(member.name)}) and is refused.")
        yield member.name, member.size, None if member.isdir() else partial(_extract, archive, member)
    # A compressed tar's own checksum stands at its very end, which tarfile does not read.
    while archive.fileobj is not None and archive.fileobj.read(_CHUNK):
        pass


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(member)
    assert opened is not None  # None is for folders and links
    return opened


def _write(members: Iterator[_Member], folder: Path, limits: Archive, file: Path, total: int) -> None:
    bytes_left = limits.max_gigabytes * 1e9
    for number, (name, size, opening) in enumerate(progress(members, total, "unpacking"), start=1):
        bytes_left -= size
        if bytes_left < 0:
            raise UserError(
                f"{file} unpacks to more than fetch.archive.max_gigabytes ({limits.max_gigabytes:g}) and is "
                "refused; raise the limit if you trust it."
            )
        if number > limits.max_files:
            raise UserError(
                f"{file} holds more than fetch.archive.max_files ({limits.max_files}) files and is refused; "
                "raise the limit if you trust it."
            )
        target = folder / _inside(name, file)
        if opening is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise UserError(f"{file} holds {printable(name)} twice and is refused.")
        with closing(opening()) as packed, target.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked, _CHUNK)


def _inside(name: str, file: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and ":" in path.parts[0]):
        raise UserError(f"{file} holds a path that leads out of its folder ({printable(name)}) and is refused.")
    return path


def _check_hash(file: Path, archive: Archive) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != str(archive.sha256).lower():
        raise UserError(
            f"{file} has the SHA-256 {found}, and fetch.archive.sha256 says {archive.sha256}; it is not the file "
            "that was published: delete it and download it again."
        )


def download(address: str) -> Path:
    """Downloads a file into data/.downloads.

    What has arrived stays there when the connection breaks, beside the server's name for that version of
    the file (its ETag or date); the next call asks for the rest of the same version.

    Returns:
        The whole file.

    Raises:
        UserError: no network, an answer other than the file, or fewer bytes than the server announced.
    """
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(address.encode()).hexdigest()[:12]
    target = DOWNLOADS / f"{key}-{PurePosixPath(unquote(urlsplit(address).path)).name or 'file'}"
    part, version = target.with_name(target.name + ".part"), target.with_name(target.name + ".version")
    try:
        _receive(address, part, version)
    except requests.RequestException as error:
        raise UserError(
            f"{address} cannot be downloaded ({_reason(error)}); check the address and the network and run it "
            "again: it goes on where it broke off."
        ) from None
    part.replace(target)
    version.unlink(missing_ok=True)
    return target


def _receive(address: str, part: Path, version: Path) -> None:
    have = part.stat().st_size if part.exists() and version.exists() else 0
    # Without identity a server may compress on the way, and byte positions would mean nothing.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version.read_text(encoding="utf-8")}
    with requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:  # what is here is longer than the file: it is another file now
            part.unlink()
            return _receive(address, part, version)
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0
        name = answer.headers.get("ETag", "")
        if not name or name.startswith("W/"):  # a weak ETag does not promise the same bytes
            name = answer.headers.get("Last-Modified", "")
        if name:
            version.write_text(name, encoding="utf-8")
        else:
            version.unlink(missing_ok=True)
        announced = answer.headers.get("Content-Length")
        total = have + int(announced) if announced else None
        _save(answer, part, have, total)
    if total is not None and part.stat().st_size != total:
        raise requests.ConnectionError("the connection was closed early")


def _save(answer: requests.Response, part: Path, have: int, total: int | None) -> None:
    bar = tqdm(
        desc="downloading",
        initial=have,
        total=total,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
    )
    with bar, part.open("ab" if have else "wb") as file:
        for piece in answer.iter_content(_PIECE):
            file.write(piece)
            bar.update(len(piece))
        file.flush()
        os.fsync(file.fileno())


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer for {_TIMEOUT} s"
    if isinstance(error, requests.ConnectionError):
        return "the connection failed or was closed early"
    return str(error)
