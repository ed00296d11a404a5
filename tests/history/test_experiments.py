"""`redarte experiments` lists metrics, and parameters as they can be typed again."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from redarte.evaluation.predictions import _COLUMNS, PredictionTable, from_csv
from redarte.history.experiments import Revision, is_measured, typed
from redarte.history.experiments_page import Measured, gained_and_lost, merged, render
from redarte.runtime.tables import to_csv
from tests import browser
from tests.conftest import Workspace

VALUES = [
    None, True, False, 1, -2, 0.5, 1e-05, "zoom", "null", "True", "1.5", ".5", "1e3", "nan", "010", "2026-01-01",
    "https://host/p.zip?a=b", "two words", 'quo"te', "it's", "back\\slash", 'b\\"x', "C:\\x\\", "${a}", "#c", "(x)",
   "{y}",     "é/ü", "日本", ["zoom", "rotation"], [-30.0, 30.0], [], ["a b", "c,d"],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_typed_value_is_read_back_unchanged(tmp_path: Path, value: Any) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("section:\n  key: 0\n", encoding="utf-8")
    apply_overrides(file, shlex.split(typed("section.key", value)))
    read = YAML(typ="safe").load(file)["section"]["key"]
    assert read == value and type(read) is type(value)


def lock_of(workspace: Workspace) -> tuple[dict[str, Any], dict[str, Any]]:
    texts = ((workspace.path / name).read_text(encoding="utf-8") for name in ("dvc.lock", "params.yaml"))
    lock, params = map(yaml.safe_load, texts)
    return lock, params


def test_a_stage_that_did_not_run_with_these_parameters_is_not_measured(finished: Workspace) -> None:
    lock, params = lock_of(finished)
    assert is_measured("evaluate", lock, params)
    for section, key, value in (("resize", "side", 24), ("evaluate", "gallery", 3), ("fetch", "max_megapixels", 7)):
        assert not is_measured("evaluate", lock, params | {section: params[section] | {key: value}})
    # Parameters that evaluate of red1 does not depend on.
    assert is_measured("evaluate", lock, params | {"red3": {"l1": 0.5, "l2": 0.5}})
    (resized,) = (out for out in lock["stages"]["resize"]["outs"] if out["path"] == "data/resized")
    resized["md5"] = "0" * 32
    assert not is_measured("evaluate", lock, params)
    assert not is_measured("evaluate", {}, params)


def test_a_partial_experiment_has_empty_cells_and_nothing_is_cut(finished: Workspace, tmp_path: Path) -> None:
    clone = finished.clone(tmp_path / "redarte")
    name = "an-experiment-with-a-name-that-is-longer-than-most-terminals-are-wide-and-identifies-it"
    clone.run("dvc", "exp", "run", "-n", name, "-S", "fetch.sample.images=4", "fetch")
    try:
        printed = clone.run("redarte", "experiments", COLUMNS="60").stdout.splitlines()
    finally:
        clone.run("dvc", "exp", "remove", name)
    row = next(line for line in printed if name in line)
    assert row.split() == [name, "–", "–", "–", "–", "–", "fetch.sample.images=4"]
    main = next(line for line in printed if line.startswith(("main", "master")))
    assert main.split()[1:3] == ["sample", "red1"] and "–" not in main


def test_the_shell_gives_one_word_for_each_parameter() -> None:
    printed = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {typed('a', 'it is $HOME')} {typed('b', [1, 2])}"],
        capture_output=True,
        text=True,
    ).stdout
    assert printed.splitlines() == ['a="it is $HOME"', "b=[1,2]"]


def test_the_images_that_a_run_gains_and_loses() -> None:
    def table(predicted: str) -> PredictionTable:
        rows = [
            [str(index), *pair, 0.5, 0.5, 0.5, 1, "yes"]
            for index, pair in enumerate(zip("aabc", predicted, strict=True))
        ]
        return from_csv(to_csv([_COLUMNS, *rows]))

    assert gained_and_lost(table("abbc"), table("aacc")) == ([2], [1])
    assert gained_and_lost(table("abba"), table("abbb")) == ([], [])


def test_equal_results_are_one_row_and_other_images_another_table() -> None:
    def run(name: str, accuracy: float, data: str, *changed: str) -> Measured:
        evaluated = {
            "model": "red1", "data": "sample", "test_accuracy": accuracy, "test_images": 20, "test_macro_f1": 0.5,
            "val_accuracy": 0.5,
        }  # fmt: skip
        lock = {"stages": {"split": {"outs": [{"path": "data/split/test", "md5": data}]}}}
        return Measured(Revision(name, name, "", "success", not changed, evaluated, None, [*changed], lock), None, None)

    runs = [run("main", 0.5, "a"), run("again", 0.5, "a", "seed=1"), run("other", 0.5, "b", "split.test=0.2")]
    assert [(one.revision.name, [same.name for same in one.same]) for one in merged(runs)] == [
        ("main", ["again"]), ("other", []),
    ]  # fmt: skip
    page = render(runs, [])
    assert page.count("<table>") == 2 and "the same result: again (seed=1)" in page
    assert page.index("<b>Nothing</b>") < page.index("On other test images") < page.index("split.test=0.2")


def test_the_page_of_experiments(finished: Workspace, tmp_path: Path) -> None:
    clone = finished.clone(tmp_path / "redarte")
    shutil.copytree(finished.path / ".dvc/cache", clone.path / ".dvc/cache")
    clone.run("dvc", "checkout")
    clone.run("dvc", "exp", "run", "-n", "second", "-S", "model=red2")
    clone.run("dvc", "exp", "run", "-n", "failed", "-S", "fetch.source=folder", check=False)
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout")
    page = clone.path / "plots/experiments.html"
    assert clone.run("redarte", "experiments", "--html").stdout.startswith(
        "plots/experiments.html: 2 runs side by side"
    )
    assert clone.run("git", "status", "--porcelain").stdout == ""
    with browser.chromium() as chromium, browser.watch(chromium, 390) as watched:
        watched.page.goto(browser.address(page))
        rows = [row.locator("td").all_inner_texts() for row in watched.page.locator("tbody tr").all()]
        charts = watched.page.locator("svg .name").all_text_contents()
        only = watched.page.locator("h3").all_inner_texts()
        widths = watched.page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert watched.asked == watched.complaints == []
    # The last line of the first cell: the name, and the commit in parentheses.
    by_name = {row[0].splitlines()[-1].partition(" ")[0]: row for row in rows}
    assert {name: row[1].splitlines()[0] for name, row in by_name.items()} == {
        "master": "Red 1", "second": "Red 2",
    }  # fmt: skip
    for row in by_name.values():
        measured = yaml.safe_load(
            clone.run("git", "show", f"{row[0].partition('(')[2][:7]}:metrics/evaluate.json").stdout
        )
        assert row[2] == f"{measured['test_accuracy']:.3f}\nof {measured['test_images']}"
        assert re.fullmatch(r"0\.\d\d to [01]\.\d\d", row[4])
    assert by_name["second"][0].startswith("model=red2") and re.fullmatch(r"[\d.e-]+", by_name["second"][-1])
    assert charts == ["master", "model=red2"]
    (line,) = only
    numbers = re.fullmatch(r"model=red2: gained (\d+), lost (\d+)", line)
    assert numbers and len(widths) == sum(map(int, numbers.groups())) and all(widths)
