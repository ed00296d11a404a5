"""The project that a command works on: that of the current folder, or of a folder above it."""

import os
from pathlib import Path

_start: Path | None = None  # the folder in which the command was typed, where it is not the project's


def enter() -> None:
    """Changes to the folder of the project, if the current folder is in one."""
    global _start
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            if folder != here:
                _start = here
                os.chdir(folder)
            return


def located(typed: str) -> Path:
    """Returns a path that was typed in the folder of the command, from the project's folder."""
    path = Path(typed).expanduser() if typed.startswith("~") else Path(typed)
    return path if _start is None or path.is_absolute() else Path(os.path.relpath(_start / path))


def located_source(typed: str) -> str:
    """Returns an address or a name as it is, and a path as `located`."""
    path = located(typed)
    return str(path) if path.exists() else typed
