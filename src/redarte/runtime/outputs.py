"""Atomic outputs: each is written to a hidden sibling and renamed at the end.

A stage that is killed at any moment leaves nothing under the name that DVC and the next stage look for. The next run
deletes what a killed run left, and writes under a new name: a worker that outlived a killed stage finds no folder.
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

from redarte.runtime import paths
from redarte.runtime.errors import UserError

_LOCK_TIMEOUT = 30  # seconds


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Creates a folder that replaces `path` when the block ends without an exception.

    Yields:
        An empty folder to fill.
    """
    path = _resolve_link(path)
    partial = _new_folder("partial", path)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def atomic_folders(parent: Path, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Creates several folders of one parent, each as `atomic_folder` does; other files in the parent stay.

    Yields:
        name -> an empty folder to fill.
    """
    with ExitStack() as stack:
        yield {name: stack.enter_context(atomic_folder(parent / name)) for name in names}


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Creates a file that replaces `path` when the block ends without an exception."""
    partial = _new_name("partial", path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Creates an empty folder beside `path` for the duration of the block."""
    scratch = _new_folder("scratch", _resolve_link(path))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def user_file(path: Path, option: str, *suffixes: str) -> Iterator[Path]:
    """Creates a file where a person asked for it, atomically."""
    if path.suffix.lower() not in suffixes or path.is_dir():
        raise UserError(f"{path} is not a {suffixes[0]} file name; choose one with {option}.")
    if paths.PIPELINE.is_file() and path.resolve().parent in {folder.resolve() for folder in paths.OUTPUTS}:
        raise UserError(f"{path} is in a folder that the pipeline writes; choose another one with {option}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            yield partial
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another file with {option}.") from None


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Waits for other threads and processes that change a file, and keeps them out for the duration of the block."""
    # Not in the small install.
    from filelock import FileLock, Timeout

    # In DVC's folder for temporary files, which git ignores.
    file = Path(".dvc/tmp") / f"{path.name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=_LOCK_TIMEOUT, is_singleton=False):
            yield
    except Timeout:
        raise UserError(f"{path} is being changed by another process for {_LOCK_TIMEOUT} s; end it.") from None


def check_links() -> None:
    """Checks that no top folder of outputs is a symbolic link: DVC would refuse it only after the stage has run."""
    for folder in paths.OUTPUTS:
        if folder.is_symlink():
            raise UserError(
                f"{folder} is a symbolic link, and DVC takes no outputs below one: make it a folder and link folders "
                "inside it, such as data/raw, or move DVC's cache to the larger disk (`dvc cache dir --local`)."
            )


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text with \\n line ends, the same bytes on every system."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes metrics as JSON, one value a line, in the given order."""
    wrong = sorted(_not_finite(content))
    if wrong:
        raise UserError(
            f"{path} cannot be written: {', '.join(wrong)} is NaN or infinite. The training diverged: lower its "
            "learning rate, or set train.precision to float32."
        )
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: a UTF-8 file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the content is not JSON.
    """
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _not_finite(value: Any, name: str = "") -> Iterator[str]:
    """The dotted names of numbers that are NaN or infinite."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _not_finite(inner, name)
    elif isinstance(value, float) and not math.isfinite(value):
        yield name


def _resolve_link(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path


def _new_folder(kind: str, path: Path) -> Path:
    folder = _new_name(kind, path)
    folder.mkdir()
    return folder


def _new_name(kind: str, path: Path) -> Path:
    """An unused hidden name beside `path`, after deleting what an earlier run left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{kind}-*-{glob.escape(path.name)}"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    # The real name comes last, because matplotlib and Keras choose the format by the suffix.
    return path.with_name(f".{kind}-{secrets.token_hex(4)}-{path.name}")
