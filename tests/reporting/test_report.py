"""The report and its copy: numbers, artists and curves as a reader sees them."""

import base64
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redarte.evaluation import comparison
from redarte.evaluation.predictions import PredictionTable
from redarte.images import decoding, folders
from redarte.inference.predictor import softmax
from redarte.reporting import pages, report, study
from redarte.stages.report import TEMPLATES
from tests.browser import address, chromium, watch
from tests.conftest import Workspace


def page(predicted: list[int], artists: list[str], epochs: int = 3, data_set: str = "paintings.zip") -> str:
    """The report of predictions for one test image of each artist."""
    n = len(artists)
    logits = np.eye(n)[predicted] * 4
    highest = softmax(logits).max(axis=1)
    table = PredictionTable(
        artists, [f"{artist}/1" for artist in artists], np.arange(n), np.array(predicted),
        highest, highest, highest, 1 + (np.array(predicted) != np.arange(n)), np.full(n, True),
    )  # fmt: skip
    accuracy = float(table.right.mean())
    measured = {"accuracy": 0.5, "val_accuracy": 0.25, "test_accuracy": accuracy}
    no_duplicates = {"groups": 0, "images": 0, "groups_across_artists": 0}
    documents: dict[str, Any] = {
        "fetch": {
            "source": "archive", "data_set": data_set, "artists": n, "images": 9 * n, "skipped": {"files": 2},
            "min_images_per_artist": 9, "max_images_per_artist": 9,
        },
        "split": {
            "train": 7 * n, "val": n, "test": n, "artists_never_tested": 1, "near_duplicates": no_duplicates,
            "artists_left_out": 1, "names_left_out": ["Rare_Artist"],
        },
        "evaluate": measured | {
            "test_images": n, "baseline_test_accuracy": 1 / n,
            "test_top5_accuracy": accuracy, "test_macro_f1": accuracy,
            "near_duplicates": {"test_images_with_duplicate_in_train": 0, "test_accuracy_without_them": accuracy},
            "corrections": {"common_test_images": n, "common_test_accuracy": accuracy},
        },
        "train": measured | {
            "epochs_run": epochs, "learning_rate": 0.004, "parameters": 1000, "precision": "float32",
        },
    }  # fmt: skip
    curve = [(epoch, 0.1 * epoch) for epoch in range(1, epochs + 1)]
    facts = report.facts("red1", table, documents, {"train": curve, "val": curve})
    metadata = {"temperature": 1.0, "coverage": 0.95}
    empty: dict[str, Any] = {"side": 64, "pairs": [], "mistakes": [], "hits": []}
    return pages.render(TEMPLATES / "report.html.j2", facts | empty | {"metadata": metadata})


def artists(count: int) -> list[str]:
    return [f"Artist_{chr(65 + index // 26)}{chr(65 + index % 26)}" for index in range(count)]


def test_table_and_matrix_have_the_same_numbers() -> None:
    # Only the last three artists are recognised, so the table does not have the alphabetical order of the matrix.
    shown = page([1, 0, 1, 3, 4, 5], artists(6))
    in_table = dict(re.findall(r'<tr><td class="number">(\d+)</td><td>([^<]+)</td>', shown))
    in_matrix = dict(map(reversed, re.findall(r"<span>([^<]+)</span> (\d+)</th>", shown)))
    assert in_table == in_matrix == {str(i): f"Artist A{chr(64 + i)}" for i in range(1, 7)}
    assert re.search(r"<thead><tr><th></th>(<th>\d</th>)+", shown)


def test_hits_and_misses_have_different_colours() -> None:
    shown = page([1, 0, 2, 3, 4, 5], artists(6))
    cells = re.findall(r'<td( class="hit")? style="background:rgba\(var\(--(one|two)-rgb\)', shown)
    assert sorted(cells) == sorted([(' class="hit"', "one")] * 4 + [("", "two")] * 2)


def test_artists_without_a_correct_prediction_are_folded() -> None:
    shown = page([0] * 30 + list(range(30, 50)), artists(50))
    assert shown.count('<tr><td class="number">') == 21
    assert "29 artists without a correct prediction" in shown
    assert len(re.findall(r"\(1 image\)", shown)) == 29
    assert "without a correct prediction" not in page([0, 0, 0, 0, 0, 5], artists(6))


def test_one_epoch_has_no_chart() -> None:
    assert ">epoch</text>" not in page([0, 1, 2], artists(3), epochs=1)
    assert ">epoch</text>" in page([0, 1, 2], artists(3), epochs=2)


def test_what_is_left_out_stands_under_the_headline() -> None:
    shown = page([0, 1, 2], artists(3), epochs=1)
    under = shown[shown.index("</h1>") : shown.index('<details class="contents">')]
    assert re.sub(r"\s+", " ", re.sub("<.*?>", "", under)).strip() == (
        "Trained for 1 epoch on 21 images of 64 px. 2 files of the source were skipped. 1 artist was left out. "
        "1 artist has no test image."
    )
    assert "9 of each; 2 files were skipped" in shown


def test_the_contents_name_all_sections() -> None:
    shown = page([0, 1, 2], artists(3))
    linked = re.findall(r'<li><a href="#(\w+)">(.*?)</a>', shown)
    assert linked[: len(linked) // 2] == linked[len(linked) // 2 :]  # at the side, and folded on a phone
    assert linked[: len(linked) // 2] == re.findall(r'<h2 id="(\w+)">(.*?)</h2>', shown)


def test_perfect_predictions_of_few_artists() -> None:
    shown = page([0, 1, 2], artists(3))
    assert "95 % interval 44\u00a0% to 100\u00a0%" in shown  # 3 of 3, by Wilson
    assert "100\u00a0% to 100" not in shown and "1.00 to 1.00" not in shown
    assert "top-5" not in shown
    assert "top-5" in page([0, 1, 2, 3, 4, 5], artists(6))


def test_the_page_names_data_set_and_learning_rate() -> None:
    shown = page([0, 1, 2], artists(3), epochs=1)
    assert "Data set: paintings.zip" in shown
    assert "1 epoch with a learning rate of 0.004, in float32" in shown


def test_artists_that_were_left_out_are_named() -> None:
    assert "1 artist was left out" in (shown := page([0, 1, 2], artists(3)))
    assert "Rare Artist" in shown


@pytest.mark.parametrize("data_set", ["paintings.zip", "best-artworks-of-all-time.zip"])
def test_published_numbers_stand_only_beside_results_on_the_images_of_the_study(data_set: str) -> None:
    shown = page([0, 1, 2], artists(3), data_set=data_set)
    is_of_study = data_set.startswith("best")
    assert ("38\u00a0%</b>the study's validation accuracy" in shown) == is_of_study
    assert ("The study published 62\u00a0% and 38\u00a0%" in shown) == is_of_study
    assert ('class="val published"' in shown) == is_of_study
    rows = {name: {"accuracy": 0.5, "val_accuracy": 0.25, "test_accuracy": 0.2} for name in comparison.TABLE_ONE}
    fetched = {"source": "archive", "data_set": data_set}
    table = comparison.table_one(rows, fetched, 0.1, 9, {("red1", "red2"): 1.0})
    assert ("| Red 1 | 0.62 | 0.50 | 0.38 | 0.25 | 0.20 |" in table) == is_of_study
    assert ("| Red 1 | 0.50 | 0.25 | 0.20 |" in table) != is_of_study
    compared = rows | {"baseline_test_accuracy": 0.1, "test_images": 9}
    curve = {split: [(1, 0.1)] for split in ("train", "val")}
    of_study = study.render(compared, fetched, ["A verdict."], dict.fromkeys(rows, curve))
    cells = re.findall(r"<tr><th>Red 1</th>(.*?)</tr>", of_study)
    assert re.findall(r"\d\.\d\d", cells[0]) == (["0.62", "0.50", "0.38"] if is_of_study else ["0.50"]) + [
        "0.25",
        "0.20",
    ]


def test_on_a_phone_the_table_fits_and_the_matrix_scrolls(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page(list(range(50)), artists(50)), encoding="utf-8")
    with chromium() as browser, watch(browser, 400) as watched:
        watched.page.goto(address(tmp_path / "report.html"))
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= 400
        right = watched.page.evaluate(
            "Math.max(...[...document.querySelectorAll('td.bar:last-child span:first-child')]"
            ".map(cell => cell.getBoundingClientRect().right))"
        )
        assert right <= 400
        around = "document.querySelector('.confusion').parentElement"
        assert watched.page.evaluate(f"{around}.scrollWidth > {around}.clientWidth")
        first = "document.querySelector('.confusion thead th:nth-child(2)').getBoundingClientRect().left"
        assert watched.page.evaluate(first) < 250  # names leave room for the cells
        # The diagonal stays in view.
        last = watched.page.locator(".confusion td.hit").last
        watched.page.evaluate("document.querySelector('#pairs').scrollIntoView({ block: 'center' })")
        watched.page.wait_for_timeout(200)
        box = last.bounding_box()
        assert box and 0 < box["x"] < 400
    assert watched.complaints == []


def test_images_are_the_originals_with_their_aspect_ratio(finished: Workspace) -> None:
    shown = (finished.path / "plots/report.html").read_text(encoding="utf-8")
    found = re.findall(
        r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"><img src="data:image/jpeg;base64,([^"]+)" '
        r'alt="Evidence map of \2 for',
        shown,
    )
    assert found
    files = folders.files_by_id(finished.path / "data/split/test")
    for image, name, overlay in found:
        original = decoding.read_within(files[name], 300)
        pixels = decoding.decode(base64.b64decode(image), lambda size: size)
        assert pixels.shape == decoding.decode(base64.b64decode(overlay), lambda size: size).shape == original.shape
        assert np.abs(pixels.astype(int) - original).mean() < 0.1 * 255


def test_a_copy_has_the_commit_and_the_date(finished: Workspace, tmp_path: Path) -> None:
    commit = finished.run("git", "log", "-1", "--format=%h of %cs", "dvc.lock").stdout.strip()
    printed = finished.run("redarte", "report", str(tmp_path / "new/copy.html")).stdout
    assert printed == f"{tmp_path}/new/copy.html: commit {commit}\n"
    original = (finished.path / "plots/report.html").read_text(encoding="utf-8")
    run = re.search(r'<p id="run">.*?</p>', original, re.DOTALL)
    assert run and original.count(run[0]) == 1
    copy = (tmp_path / "new/copy.html").read_text(encoding="utf-8")
    assert copy == original.replace(run[0], f'<p id="run">commit {commit}.</p>')


def test_a_copy_of_uncommitted_results_is_marked(finished: Workspace, tmp_path: Path) -> None:
    lock = finished.path / "dvc.lock"
    before = lock.read_bytes()
    try:
        lock.write_bytes(before + b"# edited\n")
        finished.run("redarte", "report", str(tmp_path / "copy.html"))
        assert re.search(r"not committed; run on \d{4}-\d\d-\d\d", (tmp_path / "copy.html").read_text("utf-8"))
    finally:
        lock.write_bytes(before)


@pytest.mark.parametrize(
    ("name", "page_content", "message"),
    [
        ("copy.pdf", None, "copy.pdf is not a .html file name; choose one with the argument."),
        (
            "plots/report.html",
            None,
            "plots/report.html is in a folder that the pipeline writes; choose another one with the argument.",
        ),
        (
            "params.yaml/copy.html",
            None,
            "params.yaml/copy.html cannot be written (File exists); choose another file with the argument.",
        ),
        ("copy.html", b"edited", "plots/report.html is not the page of dvc.lock; type `dvc repro` first."),
        ("copy.html", b"", "plots/report.html is missing; create it with `dvc repro`, or get it with `dvc pull`."),
    ],
)
def test_a_copy_that_cannot_be_made(
    finished: Workspace, tmp_path: Path, name: str, page_content: bytes | None, message: str
) -> None:
    original = finished.path / "plots/report.html"
    before = original.read_bytes()
    try:
        if page_content is not None:
            original.unlink()
            if page_content:
                original.write_bytes(page_content)
        done: subprocess.CompletedProcess[str] = finished.run("redarte", "report", name, check=False)
    finally:
        original.unlink(missing_ok=True)
        original.write_bytes(before)
    assert (done.returncode, done.stderr) == (1, f"redarte: {message}\n")
    assert name.startswith("plots/") or not (finished.path / name).exists()
