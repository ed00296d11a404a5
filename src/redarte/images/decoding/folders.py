"""Class-per-folder trees of images, and the identity of an image, "<artist>/<stem>"."""

import os
from pathlib import Path, PurePosixPath

# In data/raw, where corrections.csv has rows: what they changed, and the folder of the excluded images. No artist has a
# name that begins with a point.
CORRECTIONS = "corrections.csv"
EXCLUDED = ".excluded"
_COPY_SEPARATOR = "__"  # between the stem of an image and the name of its augmented copy


def classes(folder: Path) -> list[str]:
    """Returns the names of the folders in a class-per-folder tree, sorted by code point.

    Args:
        folder: the tree.
    """
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name != EXCLUDED)


def display_name(artist: str) -> str:
    """Returns an artist's name for people.

    Args:
        artist: a class, which is the name of a folder.
    """
    return artist.replace("_", " ")


def list_images(folder: Path) -> list[str]:
    """Returns the files of a class-per-folder tree as sorted "<class>/<file>".

    Args:
        folder: the tree.
    """
    return sorted(f"{name}/{entry.name}" for name in classes(folder) for entry in os.scandir(folder / name))


def image_id(path: str) -> str:
    """Returns an image's identity, "<artist>/<stem>": the same from data/raw to the report.

    Args:
        path: "<artist>/<file>".
    """
    return PurePosixPath(path).with_suffix("").as_posix()


def files_by_id(folder: Path) -> dict[str, Path]:
    """Returns the files of a class-per-folder tree by their identity, in sorted order.

    Args:
        folder: the tree.
    """
    return {image_id(path): folder / path for path in list_images(folder)}


def copy_stem(stem: str, copy: str) -> str:
    """Returns the stem of an augmented copy.

    Args:
        stem: of the image.
        copy: the name of the copy, such as rotation.
    """
    return f"{stem}{_COPY_SEPARATOR}{copy}"


def copies_of(image_id: str, files: dict[str, Path]) -> dict[str, Path]:
    """Returns the augmented copies of an image: name of the copy -> file.

    Args:
        image_id: from `image_id`.
        files: from `files_by_id`.
    """
    prefix = f"{image_id}{_COPY_SEPARATOR}"
    return {name.removeprefix(prefix): file for name, file in files.items() if name.startswith(prefix)}


def is_copy(image_id: str) -> bool:
    """Returns whether an image is an augmented copy.

    Args:
        image_id: from `image_id`.
    """
    return _COPY_SEPARATOR in image_id.rpartition("/")[2]


def without_copy_separator(stem: str) -> str:
    """Returns a stem that is not mistaken for an augmented copy's.

    Args:
        stem: of an image of the source.
    """
    while _COPY_SEPARATOR in stem:
        stem = stem.replace(_COPY_SEPARATOR, "_")
    return stem
