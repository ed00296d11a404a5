"""Outputs that are whole or absent.

Each is written to a hidden sibling and renamed at the end, so that a stage killed at any moment leaves
nothing under the name that DVC and the next stage look for. The next run clears what a killed one left.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which becomes `path` when the block ends without an exception."""
    partial = _partial(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write, which becomes `path` when the block ends without an exception."""
    partial = _partial(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder beside `path` for the time of the block."""
    scratch = _partial(path, "scratch")
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text with \\n line ends, the same bytes on every system."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes metrics as JSON, one value a line, in the order given."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _partial(path: Path, kind: str = "partial") -> Path:
    """The hidden sibling of `path`, cleared of what an earlier run left."""
    # The suffix stays, because matplotlib and Keras choose the format by it.
    partial = path.with_name(f".{kind}-{path.name}")
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)
    return partial
