"""The source folder: images in a folder of this machine."""

from pathlib import Path

from redarte.params import Fetch
from redarte.runtime.errors import UserError, working_directory_hint


def tree(settings: Fetch, _scratch: Path) -> Path:
    """Returns the folder of fetch.folder.path, which is not changed.

    Raises:
        UserError: the parameter is not set, or is not a folder.
    """
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
    return folder
