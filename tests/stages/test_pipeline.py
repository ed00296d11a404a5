"""The pipeline through DVC, as a newcomer, an experimenter and a teammate use it."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redarte.commands import doctor
from redarte.images import dataset
from redarte.params import Params
from redarte.runtime.errors import UserError
from tests.conftest import ROOT, Workspace, ran, tree_bytes

STAGES = [
    "fetch", "split", "augment", "resize", "train_red1", "train_red2", "train_red3",
    "export@red1", "export@red2", "export@red3", "evaluate", "compare", "report",
]  # fmt: skip


def metrics(workspace: Workspace, name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((workspace.path / f"metrics/{name}.json").read_text(encoding="utf-8"))
    return content


def test_a_run_writes_every_output(finished: Workspace) -> None:
    for file in (
        "models/red1.keras", "models/red2.keras", "models/red3.keras", "plots/predictions.csv",
        "plots/confusion.png", "plots/recall.png", "plots/confused_pairs.png", "plots/mistakes.png",
        "models/red1.onnx", "models/red2.onnx", "models/red3.onnx", "plots/report.html", "plots/model_card.md",
        "plots/copies.png", "plots/curves.png", "plots/study.html", "plots/table_one.png", "plots/train_red3.csv",
    ):  # fmt: skip
        assert (finished.path / file).stat().st_size > 0, file
    assert metrics(finished, "fetch")["source"] == "sample"
    data = finished.path / "data"
    counts = {"raw": 15, "augmented": 9 * 6, "resized/train": 9 * 7, "resized/val": 3}
    assert {folder: len(dataset.image_files(data / folder)) for folder in counts} == counts
    assert len(list((data / "resized").rglob("*"))) == 2 + 2 * 3
    none = {"groups": 0, "images": 0, "groups_across_artists": 0, "test_images_with_duplicate_in_train": 0}
    assert metrics(finished, "split") | {"names_never_tested": 0, "names_left_out": 0} == {
        "artists": 3, "train": 9, "val": 3, "test": 3, "artists_never_tested": 0, "artists_left_out": 0,
        "images_left_out": 0, "names_never_tested": 0, "names_left_out": 0, "near_duplicates": none,
    }  # fmt: skip
    evaluated = metrics(finished, "evaluate")
    assert list(evaluated) == [
        "data", "model", "test_accuracy", "test_top5_accuracy", "test_macro_f1", "test_loss", "val_accuracy",
        "baseline_test_accuracy", "test_images", "near_duplicates", "corrections",
    ]  # fmt: skip
    assert (evaluated["data"], evaluated["model"], evaluated["test_images"]) == ("sample", "red1", 3)


def test_the_predictions_agree_with_the_metrics(finished: Workspace) -> None:
    header, *rows = (finished.path / "plots/predictions.csv").read_text(encoding="utf-8").splitlines()
    assert header == (
        "image,artist,predicted,probability,uncalibrated_probability,true_class_probability,rank,in_distribution"
    )
    right = [row.split(",")[1] == row.split(",")[2] for row in rows]
    assert [row.split(",")[6] == "1" for row in rows] == right
    evaluated, compared = metrics(finished, "evaluate"), metrics(finished, "compare")
    assert evaluated["test_accuracy"] == round(sum(right) / len(right), 6)
    assert compared["red1"]["test_accuracy"] == evaluated["test_accuracy"]  # type: ignore[index]
    assert compared["data"] == "sample"


def test_table_one_has_the_studys_numbers(finished: Workspace) -> None:
    table = (finished.path / "plots/table_one.md").read_text(encoding="utf-8")
    assert "the built-in sample (invented schools of painting), not the study's paintings" in table
    for name, accuracy, val_accuracy in (
        ("Red 1", "0.62", "0.38"),
        ("Red 2", "0.59", "0.37"),
        ("Red 3", "0.49", "0.34"),
    ):
        assert re.search(rf"\| {name} \| {accuracy} \| \d\.\d\d \| {val_accuracy} \| \d\.\d\d \| \d\.\d\d \|", table)


def test_a_second_repro_runs_nothing(finished: Workspace) -> None:
    output = finished.run("dvc", "repro").stdout
    assert ran(output) == []
    assert "Data and pipelines are up to date." in output


def test_evaluating_another_model_trains_nothing(finished: Workspace) -> None:
    try:
        output = finished.run("dvc", "exp", "run", "-S", "model=red2").stdout
        assert ran(output) == ["evaluate", "report"]
        # Each running stage prints a line, and DVC what it skips; there is no other output and no warning.
        quiet = (
            "Reproducing",
            "Stage '",
            "Running stage",
            "> sh src/stage",
            "Updating lock",
            "Ran experiment",
            "Experiment r",
        )
        printed = [line for line in output.splitlines() if line.strip() and not line.startswith(quiet)]
        assert [line.partition(":")[0] for line in printed] == ["red2", "plots/report.html"]
        changed = json.loads(finished.run("dvc", "metrics", "diff", "--json").stdout)
        assert changed["metrics/evaluate.json"]["model"] == {"old": "red1", "new": "red2"}
        changed = json.loads(finished.run("dvc", "params", "diff", "--json").stdout)
        assert changed == {"params.yaml": {"model": {"old": "red1", "new": "red2"}}}
    finally:
        finished.run("git", "checkout", "-q", ".")
        finished.run("dvc", "checkout", "-q")
    assert metrics(finished, "evaluate")["model"] == "red1"


def test_experiments_are_listed_with_what_they_changed(finished: Workspace) -> None:
    """The one before made one."""
    lines = finished.run("redarte", "experiments", PYTHONPATH=str(finished.path / "src"), COLUMNS="120").stdout
    assert re.search(r"^ma\w+ +sample +red1 +(\d\.\d{3} +){3}$", lines, re.MULTILINE)
    assert re.search(r"^  [\w-]+ +sample +red2 +(\d\.\d{3} +){3}model=red2 *$", lines, re.MULTILINE)


@pytest.mark.long
def test_going_back_to_an_earlier_parameter_runs_nothing_again(finished: Workspace) -> None:
    """DVC keeps every run: metrics that stood under `outs` without a cache once made it forget them."""
    before = (finished.path / "params.yaml").read_bytes()
    finished.set({"red3.l2": 0.01})
    try:
        assert ran(finished.run("dvc", "repro").stdout) == ["train_red3", "export@red3", "compare"]
    finally:
        (finished.path / "params.yaml").write_bytes(before)
    output = finished.run("dvc", "repro").stdout
    assert ran(output) == []
    assert "Stage 'train_red3' is cached - skipping run" in output
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_a_second_clone_makes_the_same_bytes_and_runs_its_own_code(finished: Workspace, tmp_path: Path) -> None:
    clone = finished.clone(tmp_path / "clone")
    # dvc.lock is in git: computing the same bytes again does not change it.
    lock = (clone.path / "dvc.lock").read_bytes()
    output = clone.run("dvc", "repro", "resize", REDARTE_WORKERS="1").stdout
    assert ran(output) == ["fetch", "split", "augment", "resize"]
    assert (clone.path / "dvc.lock").read_bytes() == lock
    assert clone.run("git", "status", "--porcelain").stdout == ""
    # Another clone's code is installed; this clone's code must run.
    splitting = clone.path / "src/redarte/stages/split.py"
    splitting.write_text(splitting.read_text(encoding="utf-8").replace("images of", "works of"), encoding="utf-8")
    assert "works of 3 artists" in clone.run("dvc", "repro", "split").stdout


def test_corrupt_files_in_the_cache_are_created_again(finished: Workspace, tmp_path: Path) -> None:
    """After a power cut, for instance: DVC takes a read-only file for complete, and restores it."""
    clone = finished.clone(tmp_path / "clone")
    shutil.copytree(finished.path / ".dvc/cache", clone.path / ".dvc/cache")
    raw = tree_bytes(finished.path / "data/raw")
    lost = hashlib.md5(next(iter(raw.values()))).hexdigest()
    file = clone.path / ".dvc/cache/files/md5" / lost[:2] / lost[2:]
    size, mode = file.stat().st_size, file.stat().st_mode
    file.chmod(0o600)
    file.write_bytes(bytes(size))
    file.chmod(mode)
    assert re.match(r"1 of \d+ files in \S+ were corrupt", clone.run("redarte", "check", "--cache").stdout)
    assert not file.exists()
    assert ran(clone.run("dvc", "repro", "fetch").stdout) == ["fetch"]
    assert tree_bytes(clone.path / "data/raw") == raw
    assert clone.run("redarte", "check", "--cache").stdout.endswith("all are complete.\n")


@pytest.mark.long
def test_one_model_alone_on_a_fresh_clone(finished: Workspace, tmp_path: Path) -> None:
    clone = finished.clone(tmp_path / "clone")
    output = clone.run("dvc", "exp", "run", "-S", "model=red3", "evaluate").stdout
    assert ran(output) == ["fetch", "split", "augment", "resize", "train_red3", "export@red3", "evaluate"]


def test_the_committed_lock_matches_the_code(tmp_path: Path) -> None:
    """A fresh clone's `dvc repro` would find nothing changed but the outputs that git does not hold."""
    clone = Workspace(ROOT).clone(tmp_path / "clone")
    assert ran(clone.run("dvc", "repro", "--dry", "--allow-missing").stdout) == []
    clone.run("redarte", "check", "--lock")


def test_a_stale_lock_is_caught_in_a_clone_without_data(finished: Workspace, tmp_path: Path) -> None:
    clone = finished.clone(tmp_path / "clone")
    clone.run("redarte", "check", "--lock")
    with (clone.path / "src/redarte/evaluation/figures.py").open("a", encoding="utf-8") as code:
        code.write("# another comment\n")
    clone.set({"red2.l2": 0.5})
    (clone.path / "metrics/split.json").write_text("{}\n")
    done = clone.run("redarte", "check", "--lock", check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "redarte: dvc.lock is stale (split: metrics/split.json; train_red2: red2; "
        "evaluate: src/redarte/evaluation/figures.py; compare: src/redarte/evaluation/figures.py; "
        "report: metrics/split.json): "
        "run `dvc repro`, and commit dvc.lock and metrics/.\n"
    )


@pytest.mark.long
def test_experiments_after_git_restore(finished: Workspace, tmp_path: Path) -> None:
    """In a fresh clone: the outputs that the committed dvc.lock names are in no cache here."""
    clone = finished.clone(tmp_path / "clone")
    clone.run("dvc", "exp", "run", "-S", "fetch.sample.images=4", "-S", "train.epochs=1", "evaluate")
    clone.run("git", "restore", ".")
    output = clone.run("dvc", "exp", "run", "-S", "fetch.sample.images=4", "-S", "train.epochs=2", "evaluate").stdout
    assert ran(output) == ["train_red1", "export@red1", "evaluate"]
    assert clone.metrics("train_red1")["epochs_run"] == 2


@pytest.mark.parametrize("deleted", ["metrics/evaluate.json", "src/redarte/evaluation", "src/redarte/stages/fetch.py"])
def test_a_deleted_committed_file_makes_the_lock_stale(finished: Workspace, tmp_path: Path, deleted: str) -> None:
    clone = finished.clone(tmp_path / "clone")
    path = clone.path / deleted
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = clone.run("redarte", "check", "--lock", check=False)
    assert done.returncode == 1 and deleted in done.stderr
    expected = "is in dvc.lock and not in this folder" if deleted.startswith("metrics/") else "dvc.lock is stale ("
    assert expected in done.stderr


@pytest.mark.long
def test_doctor_lists_stages_and_times(workspace: Workspace) -> None:
    output = workspace.run("redarte", "doctor", PYTHONPATH=str(workspace.path / "src"), COLUMNS="120").stdout
    for message in ("backend      tensorflow 2.21.0 ", "cores", "precision", "GB free, about", "for 15 images"):
        assert message in output
    assert re.findall(r"^([\w@]+) +\d+ (?:s|min)", output, re.MULTILINE) == [*STAGES, "all"]
    assert len(output.splitlines()) < 26


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param(
            "echo NVIDIA GeForce RTX 5090",
            "NVIDIA GeForce RTX 5090, which tensorflow does not find: type `make install`",
            id="libraries",
        ),
        pytest.param(
            "echo NVML: driver/library mismatch; exit 18",
            "none: the driver does not respond, and nvidia-smi prints: NVML",
            id="driver",
            marks=pytest.mark.long,
        ),
    ],
)
def test_doctor_reports_a_missing_gpu(finished: Workspace, tmp_path: Path, script: str, message: str) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = os.pathsep.join([str(Path(sys.executable).parent), str(tmp_path), os.environ["PATH"]])
    printed = finished.run("redarte", "doctor", COLUMNS="160", PATH=path).stdout
    assert f"GPU          {message}" in printed
    assert "dvc repro` would run nothing" in printed


def test_doctor_and_check_refuse_wrong_params(workspace: Workspace) -> None:
    workspace.set({"train.epochs": 0})
    for command in ("doctor", "check"):
        done = workspace.run("redarte", command, check=False)
        assert done.returncode == 1
        assert done.stderr == "redarte: params.yaml: train.epochs is 0 and must be greater than or equal to 1.\n"


def test_doctor_lists_the_stages_of_another_model(
    finished: Workspace, settings: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.path)
    assert doctor.stages_to_run("red2") == (["evaluate", "report"], [])
    extra = ["train_extra@fisher", "export_extra@fisher", "evaluate", "report"]
    assert doctor.stages_to_run("fisher") == (extra, [])
    other = doctor.with_model(settings({"extra_models": []}), "fisher")
    assert (other.model, other.extra_models) == ("fisher", ["fisher"])
    with pytest.raises(UserError, match="there is no model red9; the models are red1, red2, red3, "):
        doctor.with_model(settings(), "red9")


def test_doctor_knows_what_the_run_cache_restores(finished: Workspace, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "copy", symlinks=True)
    copy = Workspace(tmp_path / "copy")
    copy.set({"model": "red2"})
    copy.run("dvc", "repro")
    copy.set({"model": "red1"})
    with contextlib.chdir(copy.path):
        assert doctor.stages_to_run(None) == ([], ["evaluate", "report"])
    assert ran(copy.run("dvc", "repro").stdout) == []
    copy.set({"model": "red3"})
    with contextlib.chdir(copy.path):
        assert doctor.stages_to_run(None) == (["evaluate", "report"], [])


@pytest.mark.long
def test_doctor_prints_what_is_restored(finished: Workspace, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "copy", symlinks=True)
    copy = Workspace(tmp_path / "copy")
    copy.set({"export.coverage": 0.9, "model": "red2"})
    copy.run("dvc", "repro")
    copy.set({"export.coverage": 0.95, "model": "red1"})
    shown = copy.run("redarte", "doctor", COLUMNS="200").stdout
    restored = ["export@red1", "export@red2", "export@red3", "evaluate", "compare", "report"]
    assert f"run cache    {', '.join(restored)}: restored, not run" in shown
    assert "`dvc repro` would run nothing" in shown
