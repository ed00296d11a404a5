"""The source folder: images in a folder of this machine."""

import hashlib
from contextlib import suppress
from pathlib import Path

from redarte.ingestion.collection import files
from redarte.params import Fetch
from redarte.runtime.errors import UserError, working_directory_hint


def fetch_files(settings: Fetch, _scratch: Path) -> Path:
    """Returns the folder of fetch.folder.path, which is not changed."""
    if settings.folder.path is None:
        raise UserError("fetch.folder.path is not set; set it to a folder that has a folder for each artist.")
    folder = Path(settings.folder.path).expanduser()
    if not folder.is_dir():
        what = (
            "a file: for a zip or tar set fetch.source to archive"
            if folder.exists()
            else "not a folder on this machine"
        )
        raise UserError(
            f"fetch.folder.path is {settings.folder.path}, which is {what}{working_directory_hint(folder)}."
        )
    if settings.folder.sha256 is not None and settings.folder.sha256.lower() != sha256(folder):
        raise UserError(
            f"{settings.folder.path} has other files than when fetch.folder.sha256 was set: type redarte train "
            f"{settings.folder.path}, or set fetch.folder.sha256 to null."
        )
    return folder


def sha256(folder: Path) -> str:
    """Returns a hash of the names of all files of a folder, and of the contents of images: 64 hexadecimal digits."""
    hashed = hashlib.sha256()
    for name, skipped in files.walk(folder):
        hashed.update(f"{name}\0{skipped}\0".encode())
        if skipped in (None, files.LIST):
            with suppress(OSError), (folder / name).open("rb") as file:  # fetch skips and counts it
                hashed.update(hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()
