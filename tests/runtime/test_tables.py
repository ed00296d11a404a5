"""Cells of CSV, texts for terminals, and names of copies."""

import csv
import io
import json
import re
from pathlib import Path

import onnx
import pytest

from redarte.images import folders
from redarte.runtime import console, tables
from redarte.runtime.errors import escaped
from tests.conftest import Workspace, write_painting


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "-", "=HYPERLINK(1)"]
)
def test_a_spreadsheet_evaluates_no_text(text: str) -> None:
    assert list(csv.reader(io.StringIO(tables.to_csv([[text, "a"]]), newline=""))) == [[f"'{text}", "a"]]


@pytest.mark.parametrize(
    "cell", [-0.5, "-0.500000", "+3", "-1e-7", "-inf", 12, "Ana", "a=b", "", "1-2", "'x", "Ana\nBen"]
)
def test_numbers_and_other_texts_stay(cell: object) -> None:
    assert list(csv.reader(io.StringIO(tables.to_csv([[cell, "a"]]), newline=""))) == [[str(cell), "a"]]


def test_controls_are_escaped_and_names_are_not() -> None:
    assert escaped("a\x1b[31m\x9b\u202e\r\ud800\x7f") == "a\\x1b[31m\\x9b\\u202e\\r\\ud800\\x7f"
    for text in ("Dürer 葛飾 🎨", "two\nlines", "non-breaking\u00a0space"):
        assert escaped(text) == text


def test_names_in_a_strangers_model_reach_no_terminal_and_no_spreadsheet(finished: Workspace, tmp_path: Path) -> None:
    content = onnx.load(finished.path / "models/red1.onnx")
    metadata = json.loads(content.metadata_props[0].value)
    metadata["artists"] = ["=cmd|' /C calc'!A0", "\x1b]0;title\x07\x9b31m", "@SUM(1)\u202e"]
    content.metadata_props[0].value = json.dumps(metadata)
    onnx.save(content, tmp_path / "foreign.onnx")
    image = write_painting(tmp_path / "a.jpg")
    for option in ([], ["--json"], ["--csv"]):
        done = finished.run("redarte", "predict", str(image), "--model", str(tmp_path / "foreign.onnx"), *option)
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(done.stdout), option
        if option == ["--json"]:
            assert {ranked["artist"] for ranked in json.loads(done.stdout)["top"]} == set(metadata["artists"])
        if option == ["--csv"]:
            cells = [cell for row in csv.reader(io.StringIO(done.stdout)) for cell in row]
            assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
            assert "'=cmd|' /C calc'!A0" in cells and "'@SUM(1)\\u202e" in cells
    done = finished.run("redarte", "explain", str(image), "--model", str(tmp_path / "foreign.onnx"), "--out",
                        str(tmp_path / "out.jpg"))  # fmt: skip
    assert "\x1b" not in done.stdout
    # Somebody may send an image with such a name too.
    done = finished.run("redarte", "explain", "\x1b[31m.jpg", "--out", str(tmp_path / "out.jpg"), check=False)
    assert done.returncode == 1 and "\x1b" not in done.stderr and "\\x1b[31m.jpg" in done.stderr


def test_progress_of_an_unknown_number_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was "2 of 0, -0 s left"."""
    monkeypatch.setattr(console, "LOG_INTERVAL", 0.0)
    for total, expected in ((0, r"unpacking: 2, \d+ a second"), (2, r"unpacking: 2 of 2, \d+ a second, 0 s left")):
        assert list(console.progress("ab", total, "unpacking")) == ["a", "b"]
        assert re.fullmatch(expected, capsys.readouterr().out.splitlines()[-1])


def test_the_copies_of_an_image_are_its_own() -> None:
    """A prefix took p_'s copies for p's."""
    files = {f"Ana/{stem}__{copy}": Path(copy) for stem in ("p", "p_", "pp") for copy in ("rotation", "zoom")}
    for stem in ("p", "p_", "pp"):
        assert folders.copies_of(f"Ana/{stem}", files) == {"rotation": Path("rotation"), "zoom": Path("zoom")}
    assert folders.copies_of("Ana", files) == {}
