"""Cross-validation: folds are disjoint, every model predicts the same images, and a killed run continues."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from redarte.evaluation.predictions import _COLUMNS
from redarte.history import crossval
from redarte.params import Params
from redarte.runtime import tables
from redarte.runtime.errors import UserError
from tests.conftest import Workspace, new_workspace, tree_bytes


@pytest.mark.long
def test_the_folds_are_disjoint_stratified_and_complete(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "redarte", {"fetch.sample.images": 7, "split.folds": 3})
    workspace.stage("fetch")
    everything = set(tree_bytes(workspace.path / "data/raw"))
    tested: list[str] = []
    for fold in range(3):
        workspace.set({"split.fold": fold})
        workspace.stage("split")
        parts = {name: set(tree_bytes(workspace.path / "data/split" / name)) for name in ("train", "val", "test")}
        assert set.union(*parts.values()) == everything
        assert sum(map(len, parts.values())) == len(everything)
        of_artists = [path.partition("/")[0] for path in parts["test"]]
        assert {of_artists.count(artist) for artist in of_artists} <= {2, 3}
        assert len({path.partition("/")[0] for path in parts["train"]}) == 3
        tested += parts["test"]
    assert sorted(tested) == sorted(everything)


@pytest.mark.long
def test_more_folds_than_images_is_one_sentence(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "redarte", {"split.folds": 6})
    workspace.stage("fetch")
    refused = workspace.stage("split", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("redarte split: split.folds is 6, and no artist has so many images")


def predictions(right: list[bool], paths: list[str] | None = None) -> str:
    """plots/predictions.csv of some images."""
    names = paths or [f"test/{number}" for number in range(len(right))]
    truth = [f"A{number % 3}" for number in range(len(right))]
    rows = [
        [name, artist, artist if is_right else "other", 0.5, 0.5, 0.5, 1 if is_right else 4, "yes"]
        for name, artist, is_right in zip(names, truth, right, strict=True)
    ]
    return tables.to_csv([_COLUMNS, *rows])


def test_the_table_agrees_with_the_folds() -> None:
    folds = [predictions([True] * 3 + [False]), predictions([True] + [False] * 3)]
    text = crossval.table({"red1": folds, "red2": [predictions([True] * 4), predictions([True] * 4)]})
    assert "| Red 1 | 0.500 ± 0.354 (0.750, 0.250) | 0.500 (0.215 to 0.785) of 8 | 1.000 |" in text
    assert "| Red 2 | 1.000 ± 0.000" in text
    assert "The difference between Red 1 and Red 2 is not significant (p = 0.12)" in text


def test_models_with_predictions_for_other_images_are_not_compared() -> None:
    other = predictions([True], ["test/other"])
    with pytest.raises(UserError, match="predicted different images"):
        crossval.table({"red1": [predictions([True])] * 2, "red2": [other] * 2})


@pytest.mark.parametrize(
    "change",
    [
        "model=red2",
        "split.fold=0",
        "+extra_models=[fisher]",
        "~split.folds",
        "split={fold: 1}",
        "params.yaml:model=red2",
    ],
)
def test_parameters_that_crossval_sets_are_refused(settings: Callable[..., Params], change: str) -> None:
    with pytest.raises(UserError, match="crossval sets model, extra_models, "):
        crossval.run(settings(), ["red1"], 2, ["train.epochs=1", change])


def test_predictions_are_reused_only_for_the_same_code_data_and_parameters(
    workspace: Workspace, settings: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.path)
    lock, code = Path("dvc.lock"), Path("src/redarte/models/study.py")

    def key(changes: list[str], parameters: dict[str, int]) -> str:
        return crossval._digest(settings(parameters), changes, 2)

    first = key([], {})
    assert key([], {}) == key([], {"split.folds": 4, "split.fold": 1}) == first
    keys = [first, key(["seed=1"], {}), key([], {"seed": 1}), key(["seed=2", "seed=3"], {})]
    assert key(["seed=3", "seed=2", "seed=1"], {}) == keys[1], "of two values the last counts"
    corrections = Path("corrections.csv").read_bytes()
    Path("corrections.csv").write_bytes(corrections + b"a/b,,keep,\n")
    keys.append(key([], {}))
    Path("corrections.csv").write_bytes(corrections)
    before = code.read_bytes()
    code.write_bytes(before + b"# another comment\n")
    keys.append(key([], {}))
    code.write_bytes(before)
    fetched = yaml.safe_load(lock.read_text(encoding="utf-8"))
    (raw,) = (out for out in fetched["stages"]["fetch"]["outs"] if out["path"] == "data/raw")
    raw["md5"] = "0" * 32
    lock.write_text(yaml.safe_dump(fetched), encoding="utf-8")
    keys.append(key([], {}))
    lock.unlink()
    keys.append(key([], {}))
    assert len(set(keys)) == len(keys)


def experiments(workspace: Workspace) -> list[str]:
    """The experiments of `dvc exp list`, which takes a second each time."""
    listed = workspace.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
    # DVC also has other refs than refs/exps/<commit's first two digits>/<the rest>/<name>.
    return sorted(re.findall(r"^refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)$", listed, re.MULTILINE))


@pytest.mark.long
def test_a_killed_run_continues(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "redarte", {"fetch.sample.images": 6})
    command = ("redarte", "crossval", "red1", "--folds", "2", "-S", "augment.copies=[zoom]")
    running = workspace.start(*command)
    started = time.monotonic()
    while not experiments(workspace):
        assert running.poll() is None
        assert time.monotonic() - started < 120
        time.sleep(0.5)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    first = experiments(workspace)
    assert len(first) == 1
    done = workspace.run(*command)
    assert "fold 1 of 2" not in done.stdout
    assert "fold 2 of 2, Red 1" in done.stdout
    assert len(experiments(workspace)) == 2
    assert "| Red 1 |" in done.stdout
    # The workspace is as it was, and a third run has nothing to do, also for a model that is named twice.
    assert workspace.run("git", "status", "--short").stdout == ""
    third = workspace.run("redarte", "crossval", "red1", *command[2:])
    assert "Reproducing" not in third.stdout
    assert "2 of 2 experiments are reused: the code, params.yaml, -S, corrections.csv and data/raw" in third.stdout
    assert " of 18 |" in third.stdout
    # Without the cache of experiments they run again.
    workspace.run("dvc", "gc", "--workspace", "--force")
    assert workspace.run(*command).stdout.splitlines()[-3:] == done.stdout.splitlines()[-3:]
