"""Pictures in a zip or tar, on this machine or at an http(s) address. It is not trusted, and whole or refused."""

import errno
import hashlib
import lzma
import re
import shutil
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from redarte.params import Archive, Fetch
from redarte.runtime.console import progress, say
from redarte.runtime.download import download
from redarte.runtime.errors import UserError, first_line, printable, started_from

_CHUNK = 1 << 20
_BLOCK = 512  # bytes of a tar; two of them with nothing but zeros are its end
_UTF8, _ENCRYPTED = 0x800, 0x1  # flags of a member of a zip (APPNOTE.TXT, 4.4.4)
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field with the name in UTF-8 (APPNOTE.TXT, 4.6.9)
_UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}  # APPNOTE.TXT, 4.4.5
_ELSEWHERE = "unpack it with 7-Zip, and set fetch.source to folder and fetch.folder.path to what comes out"
# How files begin that people take for a zip or tar.
_OTHERS = (
    (b"Rar!", "a RAR archive"), (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"\x28\xb5\x2f\xfd", "packed with Zstandard"),
    (b"\x04\x22\x4d\x18", "packed with LZ4"), (b"\x1f\x9d", "packed with compress"),
    (b"\x1f\x8b", "gzip, but no tar in it"),
)  # fmt: skip

# A member's name, its declared bytes, and how to open it; None for a folder.
_Member = tuple[str, int, Callable[[], IO[bytes]] | None]


def tree(settings: Fetch, scratch: Path) -> Path:
    """Unpacks fetch.archive.path, after downloading it where it is an address.

    Raises:
        UserError: the archive is missing, is not what its hash says, is not whole, or is refused: a name that leads out
            of the folder or that cannot be read, a link or device, or more files or bytes than params.yaml allows.
    """
    archive = settings.archive
    if archive.path is None:
        raise UserError("fetch.archive.path is not set; give a zip or tar file, or its http(s) address.")
    if archive.path.startswith(("http://", "https://")):
        file = download(archive.path)
    else:
        file = Path(archive.path).expanduser()
    if not file.is_file():
        raise UserError(
            f"fetch.archive.path is {archive.path}, which is not a file on this machine{started_from(file)}."
        )
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
    with _members(file, limits) as (members, total):
        _write(members, folder, limits, file, total)


def sizes(file: Path, limits: Archive) -> list[tuple[str, int]]:
    """The names and declared bytes of what is in a zip or tar.

    Raises:
        UserError: see `tree`.
    """
    with _members(file, limits) as (members, _):
        return [(name, size) for name, size, _ in members]


@contextmanager
def _members(file: Path, limits: Archive) -> Iterator[tuple[Iterator[_Member], int]]:
    """What is in a zip or tar, and how much that is, 0 where it is not known; for the time of the block."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as opened:
                yield _zip_members(opened, file, limits.encoding), len(opened.infolist())
        elif tarfile.is_tarfile(file):
            with tarfile.open(file, tarinfo=_Header, encoding=limits.encoding or "utf-8") as opened_tar:
                yield _tar_members(opened_tar, file), 0
        else:
            raise UserError(_other(file))
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


def _other(file: Path) -> str:
    with file.open("rb") as opened:
        head = opened.read(_BLOCK)
    if b"<html" in head.lower() or b"<!doctype" in head.lower():
        return f"{file} is a web page and no archive: open the address in a browser, and see what it says."
    what = next((what for beginning, what in _OTHERS if head.startswith(beginning)), None)
    if what:
        return f"{file} is {what}, which is not read here: {_ELSEWHERE}."
    return f"{file} is neither a zip nor a tar archive; give one of these, or a folder."


def _zip_members(archive: zipfile.ZipFile, file: Path, encoding: str | None) -> Iterator[_Member]:
    members = archive.infolist()
    for member in members:
        kind = member.external_attr >> 28  # the Unix file type; 0 where the archive was made elsewhere
        if kind not in (0, 0o4, 0o10):
            raise UserError(f"{file} holds a link or device ({printable(member.filename)}) and is refused.")
        if member.flag_bits & _ENCRYPTED:
            raise UserError(f"{file} is encrypted, and a password is not asked for here: {_ELSEWHERE}.")
        if member.compress_type not in _UNPACKED:
            method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
            raise UserError(f"{file} is packed with {method}, which is not read here: {_ELSEWHERE}.")
    for member, name in zip(members, _names(members, file, encoding), strict=True):
        opening = None if name.endswith(("/", "\\")) else partial(archive.open, member)
        yield name.replace("\\", "/"), member.file_size, opening


def _names(members: list[zipfile.ZipInfo], file: Path, encoding: str | None) -> list[str]:
    """The names of a zip's members: as it says, as params.yaml says, or as it can be told; what is guessed is said.

    Raises:
        UserError: it cannot be told, or params.yaml is wrong.
    """
    # Python reads names that are not said to be UTF-8 as code page 437, which has a character for each byte.
    raw = [b"" if member.flag_bits & _UTF8 else member.orig_filename.encode("cp437") for member in members]
    known = [
        member.orig_filename if not own else _unicode_path(member, own)
        for member, own in zip(members, raw, strict=True)
    ]
    unknown = [own for own, name in zip(raw, known, strict=True) if name is None and not own.isascii()]
    guess = encoding or _guess(unknown, file)
    try:
        names = [own.decode(guess) if name is None else name for own, name in zip(raw, known, strict=True)]
    except UnicodeDecodeError:
        raise UserError(f"{file} has names that are not in fetch.archive.encoding ({encoding}); set another.") from None
    if unknown and encoding is None:
        example = printable(unknown[0].decode(guess))
        say(f"{file} does not say how its names are written: read as {guess}, such as {example}")
    return names


def _guess(names: list[bytes], file: Path) -> str:
    """How names are encoded: in UTF-8 (macOS), or in code page 437 (DOS, Windows) if names come out."""
    with suppress(UnicodeDecodeError):
        for name in names:
            name.decode()
        return "utf-8"
    read = [part for name in names for part in name.decode("cp437").split("/")]
    if all(map(_is_western, read)):
        return "cp437"
    raise UserError(
        f"{file} does not say how its names are written, and they are no UTF-8 (as code page 437: "
        f"{printable(names[0].decode('cp437'))}): set fetch.archive.encoding, such as cp932 for Japanese, gbk for "
        "Chinese, cp1251 for Cyrillic, cp1252 for Western Europe, cp437 if this is right."
    )


def _is_western(name: str) -> bool:
    """Whether a name may be one of Western Europe, with a letter outside ASCII here and there."""
    outside = [sign for sign in name if not sign.isascii()]
    # ß is the á of other code pages.
    letters = all(unicodedata.name(sign, "").startswith("LATIN") and sign not in "ßƒ" for sign in outside)
    return letters and len(outside) <= 0.4 * len(name) and not re.search(r"[^\x00-\x7f]{2}", name)


def _unicode_path(member: zipfile.ZipInfo, raw: bytes) -> str | None:
    """What a member's extra field says of its name; None where it has none, or one of another name."""
    extra = member.extra
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[:1] == b"\1" and int.from_bytes(field[1:5], "little") == zlib.crc32(raw):
            return field[5:].decode(errors="replace")
    return None


class _Header(tarfile.TarInfo):
    """A header at which a tar that is not whole is refused, where tarfile ends as if it were whole."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"not whole: {error} at byte {archive.offset}") from None


def _tar_members(archive: tarfile.TarFile, file: Path) -> Iterator[_Member]:
    for member in archive:
        if not (member.isfile() or member.isdir()):
            raise UserError(f"{file} holds a link or device ({printable(member.name)}) and is refused.")
        yield member.name, member.size, None if member.isdir() else partial(_extract, archive, member)
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
        end = archive.fileobj.read(_CHUNK)


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
    if path.is_absolute() or ".." in path.parts or "\0" in name or re.match(r"[A-Za-z]:([/\\]|$)", name):
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
