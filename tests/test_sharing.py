"""A team's remote in a shared folder, with real clones: push, pull, and what must not go unnoticed."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from redarte import networks
from tests.conftest import ROOT, Workspace, tree_bytes

EVERYTHING = ("data/raw", "data/split", "data/augmented", "data/resized", "models", "plots")


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


def connect(workspace: Workspace, remote: Path) -> None:
    workspace.run("dvc", "remote", "add", "--local", "--default", "team", str(remote))
    workspace.run("dvc", "remote", "modify", "--local", "team", "verify", "true")


@pytest.fixture
def remote(finished: Workspace, tmp_path: Path) -> Iterator[Path]:
    """A folder with everything that the finished clone pushed."""
    place = tmp_path / "remote"
    connect(finished, place)
    finished.run("dvc", "push")
    yield place
    finished.run("dvc", "remote", "remove", "--local", "team")


@pytest.fixture
def teammate(finished: Workspace, remote: Path, tmp_path: Path) -> Workspace:
    clone = finished.clone(tmp_path / "teammate")
    connect(clone, remote)
    return clone


def test_a_teammate_pulls_everything_and_runs_nothing(finished: Workspace, teammate: Workspace) -> None:
    teammate.run("dvc", "pull")
    output = teammate.run("dvc", "repro").stdout
    assert ran(output) == []
    assert "Data and pipelines are up to date." in output
    for folder in EVERYTHING:
        assert tree_bytes(teammate.path / folder) == tree_bytes(finished.path / folder)


def test_only_what_is_needed_is_pulled_and_run(teammate: Workspace) -> None:
    teammate.set({"evaluate.gallery": 3})
    output = teammate.run("dvc", "repro", "--pull", "--allow-missing").stdout
    assert ran(output) == ["evaluate"]
    assert (teammate.path / "models/red1.keras").exists()
    assert not (teammate.path / "models/red2.keras").exists()
    assert not (teammate.path / "data/raw").exists()


def test_an_altered_object_in_the_remote_is_noticed(teammate: Workspace, remote: Path) -> None:
    objects = [path for path in (remote / "files/md5").rglob("*") if path.is_file() and path.suffix != ".dir"]
    altered = max(objects, key=lambda path: path.stat().st_size)
    altered.chmod(0o644)
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    done = teammate.run("dvc", "pull", check=False)
    assert done.returncode != 0
    assert altered.name not in {path.name for path in (teammate.path / ".dvc/cache/files/md5").rglob("*")}


def test_an_experiment_that_was_never_committed_is_shared_by_its_name(
    finished: Workspace, teammate: Workspace, remote: Path, tmp_path: Path
) -> None:
    """By `dvc exp push`, and not by the run cache, which leaves behind what is in git: the metrics."""
    teammate.run("dvc", "pull")
    assert ran(teammate.run("dvc", "exp", "run", "-n", "tiny-gallery", "-S", "evaluate.gallery=2").stdout) == [
        "evaluate"
    ]
    teammate.run("dvc", "exp", "push", "origin", "tiny-gallery")
    try:
        other = finished.clone(tmp_path / "other")
        connect(other, remote)
        other.run("dvc", "exp", "pull", "origin", "tiny-gallery")
        other.run("dvc", "exp", "apply", "tiny-gallery")
        output = other.run("dvc", "repro", "--pull", "--allow-missing").stdout
    finally:
        teammate.run("dvc", "exp", "remove", "-g", "origin", "tiny-gallery")
    assert ran(output) == []
    assert (other.path / "plots/mistakes.png").exists()


def test_two_who_push_at_once_lose_nothing(
    finished: Workspace, teammate: Workspace, remote: Path, tmp_path: Path
) -> None:
    teammate.run("dvc", "pull")
    other = finished.clone(tmp_path / "other")
    connect(other, remote)
    other.run("dvc", "pull")
    for number, workspace in enumerate((teammate, other), start=4):
        workspace.set({"augment.quality": 80 + number})
        workspace.run("dvc", "repro", "resize")
        workspace.commit(f"quality {number}")
    pushes = [workspace.start("dvc", "push", "resize") for workspace in (teammate, other)]
    for push in pushes:
        out, err = push.communicate(timeout=120)
        assert push.returncode == 0, out + err
    for number, workspace in enumerate((teammate, other)):
        fresh = workspace.clone(tmp_path / f"fresh {number}")
        connect(fresh, remote)
        fresh.run("dvc", "pull", "resize")
        assert tree_bytes(fresh.path / "data/resized") == tree_bytes(workspace.path / "data/resized")


def test_one_network_is_brought_out_of_the_repository(finished: Workspace, remote: Path, tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    here.run("dvc", "get", str(finished.path), "models/red2.keras")
    network, artists = networks.load(tmp_path / "red2.keras")
    assert network.name == "red2"
    assert len(artists) == 3
    # An artifact is asked for by its version, which is an annotated git tag.
    finished.run("git", "tag", "-a", "red3@v1.0.0", "-m", "Red 3")
    try:
        here.run("dvc", "artifacts", "get", str(finished.path), "red3")
    finally:
        finished.run("git", "tag", "-d", "red3@v1.0.0")
    assert networks.load(tmp_path / "red3.keras")[0].name == "red3"


def test_the_demo_shows_it() -> None:
    output = Workspace(ROOT).run("python", "docs/remote_demo.py").stdout
    assert ran(output) == ["fetch", "split", "augment", "resize", "train_red1", "evaluate", "evaluate"]
    assert "Data and pipelines are up to date." in output
