"""`redarte experiments` lists metrics, and parameters as they can be typed again."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from redarte.commands.experiments import is_measured, typed
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
    lock["stages"]["resize"]["outs"][0]["md5"] = "0" * 32
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
        ["sh", "-c", f"printf '%s\\n' {typed('a', 'it is $HOME')} {typed('b', [1, 2])}"], capture_output=True, text=True
    ).stdout
    assert printed.splitlines() == ['a="it is $HOME"', "b=[1,2]"]
