"""Figures of every size are complete, and the same numbers give the same bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redarte.evaluation import figures
from redarte.evaluation.predictions import most_confused
from tests.conftest import painting

NAMES = [f"Artist_{letter}" for letter in "ABCDEFGH"]
COUNTS = np.diag(np.arange(8)) + np.eye(8, k=1, dtype=int)
MANY = np.random.default_rng(0).integers(0, 2, (700, 700))
HARD = ["Ca$$h", "Pa$t & $ol_1", "齐白石", "葛飾_北斎", "محمود_سعيد", "Илья_Репин", "a" * 200, "a\nb"]

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "curves": lambda path: figures.curves(
        path,
        {name: {"train": [(1, 0.3), (2, 0.5)], "val": [(1, 0.2), (2, 0.4)]} for name in ("Red 1", "Red 2")},
        {"Red 1": (0.6, 0.3), "Red 2": (0.5, 0.3)},
    ),
    "confusion": lambda path: figures.confusion(path, COUNTS, np.arange(3), NAMES, "title"),
    "confusion_50": lambda path: figures.confusion(
        path, np.eye(50, dtype=int), np.arange(50), [f"A_{n}" for n in range(50)], "t"
    ),
    "confusion_700": lambda path: figures.confusion(
        path, MANY, most_confused(MANY), [f"A_{n}" for n in range(700)], "t"
    ),
    "recalls_700": lambda path: figures.recalls(path, np.linspace(0, 1, 700), np.full(700, 3), ["A_"] * 700, 0.5, 60),
    "names": lambda path: figures.confusion(path, np.eye(8, dtype=int), np.arange(8), figures.labels(HARD), "Ca$$h"),
    "recalls": lambda path: figures.recalls(
        path, np.array([0.5, np.nan, 1.0]), np.array([2, 0, 3]), ["Ana", "Ben", "Cleo"], 0.8, 60
    ),
    "confused_pairs": lambda path: figures.confused_pairs(path, [("Ana", "Ben", 3), ("Ana", "Cleo", 1)]),
    "pairs_once_each": lambda path: figures.confused_pairs(path, [("Ana", "Ben", 1), ("Ana", "Cleo", 1)]),
    "no_confused_pairs": lambda path: figures.confused_pairs(path, []),
    "gallery": lambda path: figures.gallery(path, [painting(), painting(20, 90)], ["one\ntwo", "three " * 20], "none"),
    "gallery_of_9": lambda path: figures.gallery(path, [painting()] * 9, ["caption"] * 9, "none"),
    "empty_gallery": lambda path: figures.gallery(path, [], [], "Every test image was recognised."),
    "table_one": lambda path: figures.table_one(
        path, {"Red 1": {"accuracy": (0.6, 0.7), "val": (0.3, 0.4), "test": (None, 0.35)}}, "title"
    ),
}


@pytest.mark.parametrize("name", list(DRAWINGS))
def test_a_figure_is_deterministic(tmp_path: Path, name: str) -> None:
    for file in ("a.png", "b.png"):
        DRAWINGS[name](tmp_path / file)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert max(image.size) < 2500
        pixels = np.asarray(image.convert("L"))
    assert pixels.min() < 128
    # Nothing is cut off: the outermost pixels are paper.
    assert min(pixels[0].min(), pixels[-1].min(), pixels[:, 0].min(), pixels[:, -1].min()) == 255


def test_names_without_glyphs_are_numbers() -> None:
    right_to_left = "\u200eمحمود سعيد\u200e"
    assert figures.labels(HARD) == [
        "Ca$$h", "Pa$t & $ol 1", "No. 3", "No. 4", right_to_left, "Илья Репин", f"{'a' * 39}…", "No. 8",
    ]  # fmt: skip


def test_no_glyph_is_missing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    figures.confusion(tmp_path / "a.png", np.eye(8, dtype=int), np.arange(8), figures.labels(HARD), "title")
    assert not [str(warning.message) for warning in recwarn if "missing from font" in str(warning.message)]


def test_of_many_artists_the_most_confused_are_shown() -> None:
    counts = np.diag(np.full(100, 5))
    counts[7, 93] = counts[50, 3] = 2
    shown = most_confused(counts)
    assert len(shown) == 60 and {7, 93, 50, 3} < set(shown.tolist())
    assert (np.diff(shown) > 0).all()
    assert most_confused(counts[:40, :40]).tolist() == list(range(40))
