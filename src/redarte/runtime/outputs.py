"""Outputs that are whole or absent.

Each is written to a hidden sibling and renamed at the end, so that a stage killed at any moment leaves
nothing under the name that DVC and the next stage look for. The next run clears what a killed one left, and
writes under a name of its own: a worker that outlived a killed stage finds its folder gone.
"""

import glob
import json
import math
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redarte.runtime.errors import UserError


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which becomes `path` when the block ends without an exception.

    Where `path` is a link, to a larger disk for instance, what it leads to is replaced.
    """
    path = _there(path)
    partial = _new_folder("partial", path)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def atomic_folders(parent: Path, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Gives an empty folder to fill for each name, as `atomic_folder` does for `parent / name`.

    Other files in `parent` stay.
    """
    with ExitStack() as stack:
        yield {name: stack.enter_context(atomic_folder(parent / name)) for name in names}


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Gives a path to write, which becomes `path` when the block ends without an exception."""
    partial = _name("partial", path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder beside `path` for the time of the block."""
    scratch = _new_folder("scratch", _there(path))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_links() -> None:
    """Raises UserError where a folder of outputs is a link: DVC says so only after the stage, which may take hours."""
    for folder in map(Path, ("data", "models", "metrics", "plots")):
        if folder.is_symlink():
            raise UserError(
                f"{folder} is a link, behind which DVC takes no outputs: make it a folder again and link folders in "
                "it, such as data/raw, or move DVC's cache to the larger disk (`dvc cache dir --local`)."
            )


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text with \\n line ends, the same bytes on every system."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes metrics as JSON, one value a line, in the order given.

    Raises:
        UserError: a value is NaN or infinite, which JSON does not have.
    """
    wrong = sorted(_not_finite(content))
    if wrong:
        raise UserError(
            f"{path} cannot be written: {', '.join(wrong)} is NaN or infinite. The training diverged: lower its "
            "learning rate, or set train.precision to float32."
        )
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _not_finite(value: Any, name: str = "") -> Iterator[str]:
    """The names of numbers that are NaN or infinite."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _not_finite(inner, name)
    elif isinstance(value, float) and not math.isfinite(value):
        yield name


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _there(path: Path) -> Path:
    """Where a path leads to if it is a link."""
    return path.resolve() if path.is_symlink() else path


def _new_folder(kind: str, path: Path) -> Path:
    folder = _name(kind, path)
    folder.mkdir()
    return folder


def _name(kind: str, path: Path) -> Path:
    """A free hidden name beside `path`, after clearing what an earlier run left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{kind}-*-{glob.escape(path.name)}"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    # The real name stands last, because matplotlib and Keras choose the format by the suffix.
    return path.with_name(f".{kind}-{secrets.token_hex(4)}-{path.name}")
