"""Lists the files of a tree: image candidates, other files, and system files."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from redarte.images.folders import is_of_a_system, is_system_file
from redarte.ingestion import checks
from redarte.runtime.errors import UserError, printable

LIST = "list_of_artists"  # the reason of the study's artists.csv
NOT_CANDIDATES = frozenset({"not_an_image_file", "link_to_folder", LIST})  # reasons that `redarte predict` ignores


def walk(tree: Path) -> Iterator[tuple[str, str | None]]:
    """Lists the files of a tree.

    Symbolic links to files are files; links to folders are not followed. System files are ignored.

    Yields:
        Sorted paths in the tree, each with the reason why it is not an image, or None for a candidate.
    """
    for folder, folders, files in os.walk(tree, onerror=_unreadable):
        if not os.access(folder, os.X_OK) and os.path.lexists(folder):
            _unreadable(PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder))
        folders[:] = sorted(name for name in folders if not is_system_file(name))
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*(name for name in files if not is_system_file(name)), *links]):
            relative = Path(folder, name).relative_to(tree).as_posix()
            if relative != relative.encode("utf-8", "replace").decode():
                yield relative.encode("utf-8", "backslashreplace").decode(), "name_not_utf8"
            else:
                yield relative, LIST if name == "artists.csv" else _reason(Path(folder, name))


def is_image_name(path: str) -> bool:
    """Returns whether a file in an archive is probably an image, by its name."""
    return PurePosixPath(path).suffix.lower() in checks.SUFFIXES and not is_of_a_system(PurePosixPath(path))


def _reason(path: Path) -> str | None:
    try:
        if path.is_symlink() and not path.exists():
            return "broken_link"
        if not path.is_file():
            return "link_to_folder" if path.is_dir() else "not_a_regular_file"
        if path.suffix.lower() in checks.SUFFIXES or checks.begins_as_image(path):
            return None
    except OSError:
        return "unreadable"
    return "not_an_image_file"


def _unreadable(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return  # it was deleted meanwhile
    raise UserError(
        f"{printable(error.filename)} cannot be read ({error.strerror}): change its permissions, or move it out of the "
        "source."
    )
