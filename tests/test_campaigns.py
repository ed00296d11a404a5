"""A few attacks of each campaign; `python -m campaigns` makes as many as one likes (docs/guarantees.md)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from campaigns import archives, images, kills, models, parameters, powercut, remotes, sameness, storm, tables

from tests.conftest import Workspace, save_backbone


@pytest.mark.long
def test_a_killed_stage(finished: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "ENDS", 3)
    happened = kills.attack(kills.Reference(finished.path, {"resize": finished}), seed=1)
    assert happened["in resize"] == 3
    assert happened["went on to its end"] < 3


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a file")
def test_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powercut, "KINDS", ("ext4",))
    (tmp_path / "mounted").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "mounted"]).returncode:
        pytest.skip("this container may mount nothing")
    subprocess.run(["umount", tmp_path / "mounted"], check=True)
    with powercut.prepared(tmp_path) as machines:
        assert powercut.attack(machines, seed=1)["cut"] == 1


@pytest.mark.long
def test_malicious_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "FILES", 60)
    with images.prepared(tmp_path) as workspace:
        happened = images.attack(workspace, seed=1)
    assert {"fetch: kept", "fetch: not_an_image", "fetch: truncated_or_corrupt", "predict: read"} <= set(happened)


def test_malicious_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ARCHIVES", 20)
    with archives.prepared(tmp_path) as folder:
        assert archives.attack(folder, seed=1)["unpacked"]


@pytest.mark.long
def test_malicious_models(finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "FILES", 8)
    keras, onnx = ((finished.path / f"models/red1.{kind}").read_bytes() for kind in ("keras", "onnx"))
    whole = models.Whole(tmp_path, save_backbone(tmp_path / "tiny.keras").read_bytes(), keras, onnx)
    assert sum(models.attack(whole, seed=1).values()) == 8


def test_tables_of_corrections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLES", 100)
    with tables.prepared(tmp_path) as folder:
        happened = tables.attack(folder, seed=1)
    assert {"separators: applied", "spelling: applied", "a_comma: refused", "another_artist: refused"} <= set(happened)


def test_documents_and_texts_as_params(tmp_path: Path) -> None:
    happened = parameters.read_documents(tmp_path, seed=1)
    assert {"documents taken", "documents refused", "texts refused"} <= set(happened)


@pytest.mark.long
def test_a_clone_elsewhere_gives_the_same_bytes(finished: Workspace, tmp_path: Path) -> None:
    clone = finished.clone(tmp_path / "first")
    first = sameness.First(clone, None, {}, sameness.outputs(clone))
    assert sum(sameness.attack(first, seed=1).values())


@pytest.mark.long
def test_a_corrupt_remote(finished: Workspace, tmp_path: Path) -> None:
    ana = finished.clone(tmp_path / "ana")
    for folder in (".dvc/cache", "data"):
        shutil.copytree(finished.path / folder, ana.path / folder, dirs_exist_ok=True)
    remotes.push_everything(ana, tmp_path / "store")
    assert sum(remotes.attack(remotes.Team(ana, tmp_path / "store"), seed=1).values())


@pytest.mark.long
def test_many_clients_of_the_service(finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "CLIENTS", 10)
    monkeypatch.setattr(storm, "SECONDS", 2.0)
    with storm.served(finished, tmp_path) as service:
        assert len(storm.attack(service, seed=1)) > 5
