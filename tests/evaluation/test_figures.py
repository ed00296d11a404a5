"""Figures of every size are drawn whole, and the same numbers give the same bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redarte.evaluation import figures
from tests.conftest import painting

NAMES = [f"Artist_{letter}" for letter in "ABCDEFGH"]
COUNTS = np.diag(np.arange(8)) + np.eye(8, k=1, dtype=int)

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "curves": lambda path: figures.curves(
        path,
        {name: {"train": [(1, 0.3), (2, 0.5)], "val": [(1, 0.2), (2, 0.4)]} for name in ("Red 1", "Red 2")},
        {"Red 1": (0.6, 0.3), "Red 2": (0.5, 0.3)},
    ),
    "confusion": lambda path: figures.confusion(path, COUNTS, NAMES, "title"),
    "confusion_50": lambda path: figures.confusion(path, np.eye(50, dtype=int), [f"A_{n}" for n in range(50)], "t"),
    "recalls": lambda path: figures.recalls(
        path, np.array([0.5, np.nan, 1.0]), np.array([2, 0, 3]), ["Ana", "Ben", "Cleo"], 0.8
    ),
    "confused_pairs": lambda path: figures.confused_pairs(path, [("Ana", "Ben", 3), ("Ana", "Cleo", 1)]),
    "no_confused_pairs": lambda path: figures.confused_pairs(path, []),
    "gallery": lambda path: figures.gallery(path, [painting(), painting(20, 90)], ["one\ntwo", "three " * 20], "none"),
    "gallery_of_9": lambda path: figures.gallery(path, [painting()] * 9, ["caption"] * 9, "none"),
    "empty_gallery": lambda path: figures.gallery(path, [], [], "Every test picture was recognised."),
    "table_one": lambda path: figures.table_one(
        path, {"Red 1": {"accuracy": (0.6, 0.7), "val": (0.3, 0.4), "test": (None, 0.35)}}, "title"
    ),
}


@pytest.mark.parametrize("name", list(DRAWINGS))
def test_a_figure_is_drawn_and_is_the_same_each_time(tmp_path: Path, name: str) -> None:
    for file in ("a.png", "b.png"):
        DRAWINGS[name](tmp_path / file)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.min() < 128
    # Nothing is cut off: the outermost pixels are paper.
    assert min(pixels[0].min(), pixels[-1].min(), pixels[:, 0].min(), pixels[:, -1].min()) == 255
