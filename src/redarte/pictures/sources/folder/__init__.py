"""Pictures that already lie in a folder."""

from pathlib import Path

from redarte.params import Fetch
from redarte.runtime.errors import UserError, started_from


def tree(settings: Fetch, _scratch: Path) -> Path:
    """The folder of fetch.folder.path, untouched.

    Raises:
        UserError: it is not set, or is not a folder.
    """
    if settings.folder.path is None:
        raise UserError("fetch.folder.path is not set; give the folder that holds a folder for each artist.")
    folder = Path(settings.folder.path).expanduser()
    if not folder.is_dir():
        what = (
            "a file: for a zip or tar set fetch.source to archive"
            if folder.exists()
            else "not a folder on this machine"
        )
        raise UserError(f"fetch.folder.path is {settings.folder.path}, which is {what}{started_from(folder)}.")
    return folder
