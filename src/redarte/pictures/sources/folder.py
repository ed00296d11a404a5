"""Pictures that already lie in a folder."""

from pathlib import Path

from redarte.params import Fetch
from redarte.runtime.errors import UserError


def tree(settings: Fetch, _scratch: Path) -> Path:
    """The folder of fetch.folder.path, untouched.

    Raises:
        UserError: it is not set, or is not a folder.
    """
    if settings.folder.path is None:
        raise UserError("fetch.folder.path is not set; give the folder that holds a folder for each artist.")
    folder = Path(settings.folder.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"fetch.folder.path is {settings.folder.path}, which is not a folder on this machine.")
    return folder
