"""Class-per-folder trees of images: names of artists, and the identity of an image, "<artist>/<stem>"."""

import hashlib
import os
import re
import unicodedata
from pathlib import Path, PurePath, PurePosixPath

from redarte.runtime.errors import UNPRINTABLE

_COPY_SEPARATOR = "__"  # between the stem of an image and the name of its augmented copy
_MAX_ARTIST = 240  # bytes of an artist's name: "<artist>.tar" and temporary names must fit into a file name
# Files that systems, network disks and programs create among images, in lower case; also all names with a leading dot.
_SYSTEM_FILES = frozenset({
    "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "$recycle.bin", "recycler",  # Windows
    "system volume information", "found.000",
    "lost+found",  # Linux
    "@eadir", "@recycle", "@tmp", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot", "~snapshot",  # NAS
    "__pycache__",
})  # fmt: skip
# Suffixes of their metadata files.
_METADATA_SUFFIXES = ("@synoeastream", "@synoresource", ":zone.identifier")


def is_system_file(name: str) -> bool:
    """Returns whether a file or folder of this name belongs to an operating system or another program."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FILES or name.casefold().endswith(_METADATA_SUFFIXES)


def is_of_a_system(path: PurePath) -> bool:
    """Returns whether a part of a path is of a system file."""
    return any(map(is_system_file, path.parts))


def nfc(name: str) -> str:
    """Returns a name in Unicode's composed form: macOS stores ü as two characters, and the class must be the same
    everywhere.
    """
    return unicodedata.normalize("NFC", name)


def visible(name: str) -> str:
    """Returns a name as people see it: composed, without invisible characters, and without spaces around its parts.

    Args:
        name: of an artist or an image; "/" separates parts.
    """
    shown = nfc("".join(letter for letter in name if unicodedata.category(letter) != "Cf"))
    return "/".join(part.strip() for part in shown.split("/"))


def comparable(name: str) -> str:
    """Returns a name without differences in spelling: spaces, underscores, capitals, Unicode forms, invisible
    characters, and the leading zeros that a spreadsheet drops.
    """
    plain = re.sub(r"[\s_]+", "_", unicodedata.normalize("NFKC", visible(name)).casefold()).strip("_")
    return (plain.lstrip("0") or "0") if plain.isdecimal() else plain


def artist_of(folder: str) -> str:
    """Returns the artist of a folder. A name that would be a formula in a spreadsheet is prefixed with an
    underscore.
    """
    return f"_{folder}" if folder.startswith(("=", "+", "-", "@")) else folder


def problem_of_artist(name: str) -> str | None:
    """Returns why a name cannot be an artist's, as the end of a sentence; None where it can."""
    if len(name.encode("utf-8", "replace")) > _MAX_ARTIST:
        return f"has more than {_MAX_ARTIST} bytes, which do not fit into the name of a file"
    if not visible(name) or re.search(r"[/\\]", name) or is_system_file(name) or artist_of(name) != name:
        return "is no name of an artist"
    return "has a control character" if UNPRINTABLE.search(name) else None


def content_hash(content: bytes) -> str:
    """Returns the BLAKE2b hash by which corrections.csv may name an image: 32 hexadecimal digits.

    Args:
        content: the bytes of the file.
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest(folder: Path) -> str:
    """Returns a hash of the names and contents of a class-per-folder tree: 32 hexadecimal digits."""
    hashed = hashlib.blake2b(digest_size=16)
    for path in list_images(folder):
        content = content_hash((folder / path).read_bytes())
        hashed.update(f"{path}\0{content}\n".encode("utf-8", "surrogateescape"))
    return hashed.hexdigest()


def unique_id(artist: str, stem: str, taken: set[str]) -> str:
    """Returns "<artist>/<stem>", with a number if another image has it, ignoring case; and takes it."""
    unique, number = f"{artist}/{stem}", 1
    while unique.casefold() in taken:
        number += 1
        unique = f"{artist}/{stem}-{number}"
    taken.add(unique.casefold())
    return unique


def classes(folder: Path) -> list[str]:
    """Returns the names of the folders in a class-per-folder tree, sorted by code point."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_system_file(entry.name))


def display_name(artist: str) -> str:
    """Returns an artist's name for people."""
    return artist.replace("_", " ")


def list_images(folder: Path) -> list[str]:
    """Returns the files of a class-per-folder tree as sorted "<class>/<file>", without system files."""
    return sorted(
        f"{name}/{entry.name}"
        for name in classes(folder)
        for entry in os.scandir(folder / name)
        if not is_system_file(entry.name)
    )


def image_id(path: str) -> str:
    """Returns an image's identity, "<artist>/<stem>": the same from data/raw to the report.

    Args:
        path: "<artist>/<file>".
    """
    return PurePosixPath(path).with_suffix("").as_posix()


def files_by_id(folder: Path) -> dict[str, Path]:
    """Returns the files of a class-per-folder tree by their identity, in sorted order."""
    return {image_id(path): folder / path for path in list_images(folder)}


def find(folder: Path, name: str) -> Path | None:
    """Returns the file of one image in a class-per-folder tree; None where it is not on this machine.

    Args:
        name: the image's identity, "<artist>/<stem>".
    """
    artist = name.partition("/")[0]
    if not (folder / artist).is_dir():
        return None
    files = (f"{artist}/{entry.name}" for entry in os.scandir(folder / artist))
    return next((folder / file for file in files if image_id(file) == name), None)


def copy_stem(stem: str, copy: str) -> str:
    """Returns the stem of an augmented copy."""
    return f"{stem}{_COPY_SEPARATOR}{copy}"


def copies_of(image_id: str, files: dict[str, Path]) -> dict[str, Path]:
    """Returns the augmented copies of an image: name of the copy -> file."""
    parts = {name.rpartition(_COPY_SEPARATOR): file for name, file in files.items()}
    return {copy: file for (head, _, copy), file in parts.items() if head == image_id}


def is_copy(image_id: str) -> bool:
    """Returns whether an image is an augmented copy."""
    return _COPY_SEPARATOR in image_id.rpartition("/")[2]


def without_copy_separator(stem: str) -> str:
    """Returns a stem that is not mistaken for an augmented copy's."""
    while _COPY_SEPARATOR in stem:
        stem = stem.replace(_COPY_SEPARATOR, "_")
    return stem
