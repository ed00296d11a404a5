"""The files of a tree as people's machines hold them: which may be pictures, which are not, which are nobody's."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from redarte.pictures.collection import checks
from redarte.runtime.errors import UserError, printable

# What systems, network disks and programs leave among pictures, in small letters; besides names that begin with a dot.
_LITTER = frozenset({
    "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "$recycle.bin", "recycler",  # Windows
    "system volume information", "found.000",
    "lost+found",  # Linux
    "@eadir", "@recycle", "@tmp", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot", "~snapshot",  # NAS
    "__pycache__",
})  # fmt: skip
# What they attach to the name of a file of which they say more.
_ATTACHED = ("@synoeastream", "@synoresource", ":zone.identifier")
LIST = "list_of_artists"  # the reason of the study's artists.csv
PASSED_OVER = frozenset({"not_a_picture_file", "link_to_folder", LIST})  # where pictures are looked for


def walk(tree: Path) -> Iterator[tuple[str, str | None]]:
    """The files of a tree as sorted paths in it, each with why it is no picture; None for those that may be one.

    Links to files are files; links to folders are not followed. Litter is passed over.

    Raises:
        UserError: a folder cannot be read.
    """
    for folder, folders, files in os.walk(tree, onerror=_unreadable):
        if not os.access(folder, os.X_OK) and os.path.lexists(folder):
            _unreadable(PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder))
        folders[:] = sorted(name for name in folders if not is_litter(name))
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*(name for name in files if not is_litter(name)), *links]):
            relative = Path(folder, name).relative_to(tree).as_posix()
            if relative != relative.encode("utf-8", "replace").decode():
                yield relative.encode("utf-8", "backslashreplace").decode(), "name_not_utf8"
            else:
                yield relative, LIST if name == "artists.csv" else _reason(Path(folder, name))


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is a system's own, and nobody's."""
    return name.startswith(".") or name.casefold() in _LITTER or name.casefold().endswith(_ATTACHED)


def _reason(path: Path) -> str | None:
    try:
        if path.is_symlink() and not path.exists():
            return "broken_link"
        if not path.is_file():
            return "link_to_folder" if path.is_dir() else "not_a_regular_file"
        if path.suffix.lower() in checks.SUFFIXES or checks.begins_as_picture(path):
            return None
    except OSError:
        return "unreadable"
    return "not_a_picture_file"


def _unreadable(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return  # it was deleted while it was read
    raise UserError(
        f"{printable(error.filename)} cannot be read ({error.strerror}), and nobody knows what is in it: let yourself "
        "read it, or take it out."
    )
