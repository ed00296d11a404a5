"""The members of a zip, and the encoding of their names."""

import os
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from redarte.ingestion.sources.archive.members import ELSEWHERE, Member, too_many_files
from redarte.runtime.console import say
from redarte.runtime.errors import UserError, printable

_UTF8, _ENCRYPTED = 0x800, 0x1  # flags of a member (APPNOTE.TXT, 4.4.4)
_FOLDER_OF_DOS = 0x10  # of the attributes of DOS
_FOLDER, _FILE = 0o4, 0o10  # kinds of Unix; 0 where the archive was made elsewhere
_MIN_ENTRY = 46  # bytes of a member in the list at the end
_MAX_END = 22 + 2**16  # bytes of the record at the end, with its comment
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field with the name in UTF-8 (APPNOTE.TXT, 4.6.9)
_SUPPORTED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}  # APPNOTE.TXT, 4.4.5


def is_last_part(file: Path) -> bool:
    """Returns whether a zip is the last of several parts, by the disk number at its end (APPNOTE.TXT, 4.3.16)."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _MAX_END))
        end = opened.read().rpartition(b"PK\5\6")
    return bool(end[1]) and end[2][:2] not in (b"\0\0", b"\xff\xff")


def check_count(file: Path, max_files: int) -> None:
    """Checks the number of members before zipfile keeps all of them in memory (APPNOTE.TXT, 4.3.12)."""
    with file.open("rb") as opened:
        end = zipfile._EndRecData(opened)  # type: ignore[attr-defined]
        size, location = end[zipfile._ECD_SIZE], end[zipfile._ECD_LOCATION]  # type: ignore[attr-defined]
        if end[zipfile._ECD_SIGNATURE] == zipfile.stringEndArchive64:  # type: ignore[attr-defined]
            location -= zipfile.sizeEndCentDir64 + zipfile.sizeEndCentDir64Locator  # type: ignore[attr-defined]
        opened.seek(max(0, location - size))
        # Each has 46 bytes, its name, extra fields and comment; their number is not what the end of the zip says.
        for _ in range(max_files if size > _MIN_ENTRY * max_files else 0):
            header = opened.read(_MIN_ENTRY)
            opened.seek(sum(struct.unpack_from("<3H", header.ljust(_MIN_ENTRY), 28)), os.SEEK_CUR)
            if opened.tell() >= location:
                return
    if size > _MIN_ENTRY * max_files:
        raise UserError(too_many_files(file, max_files))


def members_of(archive: zipfile.ZipFile, file: Path, encoding: str | None) -> Iterator[Member]:
    """Lists the members of a zip.

    Yields:
        The members, in order.
    """
    members = archive.infolist()
    for member in members:
        if member.external_attr >> 28 not in (0, _FOLDER, _FILE):
            raise UserError(f"{file} has a link or device ({printable(member.filename)}): {ELSEWHERE}.")
        if member.flag_bits & _ENCRYPTED:
            raise UserError(f"{file} is encrypted, which is not supported: {ELSEWHERE}.")
        if member.compress_type not in _SUPPORTED:
            method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
            raise UserError(f"{file} is packed with {method}, which is not supported: {ELSEWHERE}.")
    for member, name in zip(members, _names(members, file, encoding), strict=True):
        is_folder = name.endswith(("/", "\\")) or (
            not member.file_size and (member.external_attr & _FOLDER_OF_DOS or member.external_attr >> 28 == _FOLDER)
        )
        opening = None if is_folder else partial(archive.open, member)
        yield Member(name.replace("\\", "/"), member.file_size, opening)


def _names(members: list[zipfile.ZipInfo], file: Path, encoding: str | None) -> list[str]:
    """The names of the members, decoded as the zip or params.yaml says, or by a guess, which is printed with an
    example.

    Raises UserError where the encoding cannot be guessed, or the one of params.yaml is wrong.
    """
    # zipfile decodes names without the UTF-8 flag as code page 437, which has a character for each byte.
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
        say(f"{file} does not state the encoding of its names: decoded as {guess}, such as {example}")
    return names


def _guess(names: list[bytes], file: Path) -> str:
    """The encoding of names: UTF-8 (macOS), or code page 437 (DOS, Windows) if that gives plausible names."""
    with suppress(UnicodeDecodeError):
        for name in names:
            name.decode()
        return "utf-8"
    read = [part for name in names for part in name.decode("cp437").split("/")]
    if all(map(_is_western, read)):
        return "cp437"
    raise UserError(
        f"{file} does not state the encoding of its names, and they are not UTF-8 (as code page 437: "
        f"{printable(names[0].decode('cp437'))}): set fetch.archive.encoding, such as cp932 for Japanese, gbk for "
        "Chinese, cp1251 for Cyrillic, cp1252 for Western Europe, cp437 if the example is right."
    )


def _is_western(name: str) -> bool:
    """Whether a name may be Western European, with a non-ASCII letter here and there."""
    non_ascii = [sign for sign in name if not sign.isascii()]
    # ß and ƒ are common letters of other code pages.
    letters = all(unicodedata.name(sign, "").startswith("LATIN") and sign not in "ßƒ" for sign in non_ascii)
    return letters and len(non_ascii) <= 0.4 * len(name) and not re.search(r"[^\x00-\x7f]{2}", name)


def _unicode_path(member: zipfile.ZipInfo, raw: bytes) -> str | None:
    """The name in a member's Unicode extra field; None where there is none, or it belongs to another name."""
    extra = member.extra
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[:1] == b"\1" and int.from_bytes(field[1:5], "little") == zlib.crc32(raw):
            return field[5:].decode(errors="replace")
    return None
