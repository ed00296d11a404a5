"""Sharing through a folder: runs, uncommitted experiments, and a single model."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redarte.models.base import files as saved
from tests import users
from tests.conftest import ROOT, Workspace, ran, tree_bytes


def connect(workspace: Workspace, remote: Path) -> None:
    workspace.run("dvc", "remote", "add", "--local", "--default", "team", str(remote))
    workspace.run("dvc", "remote", "modify", "--local", "team", "verify", "true")


@pytest.fixture
def remote(finished: Workspace, tmp_path: Path) -> Iterator[Path]:
    """A folder with everything that the finished clone pushed."""
    root = tmp_path / "remote"
    connect(finished, root)
    finished.run("dvc", "push")
    yield root
    finished.run("dvc", "remote", "remove", "--local", "team")


@pytest.fixture
def teammate(finished: Workspace, remote: Path, tmp_path: Path) -> Workspace:
    clone = finished.clone(tmp_path / "teammate")
    connect(clone, remote)
    return clone


def test_only_what_is_needed_is_pulled_and_run(teammate: Workspace) -> None:
    teammate.set({"evaluate.gallery": 3})
    output = teammate.run("dvc", "repro", "--pull", "--allow-missing").stdout
    assert ran(output) == ["evaluate", "report"]
    assert (teammate.path / "models/red1.onnx").exists()
    for unneeded in ("models/red1.keras", "models/red2.onnx"):
        assert not (teammate.path / unneeded).exists()
    assert not (teammate.path / "data/raw").exists()


@pytest.mark.long
def test_an_uncommitted_experiment_is_shared_by_name(
    finished: Workspace, teammate: Workspace, remote: Path, tmp_path: Path
) -> None:
    """By `dvc exp push`, and not by the run cache, which does not include the metrics in git."""
    teammate.run("dvc", "pull")
    assert ran(teammate.run("dvc", "exp", "run", "-n", "tiny-gallery", "-S", "evaluate.gallery=2").stdout) == [
        "evaluate", "report",
    ]  # fmt: skip
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


@pytest.mark.long
def test_an_uncommitted_run_is_restored(finished: Workspace, teammate: Workspace, tmp_path: Path) -> None:
    """`dvc push --run-cache` alone would leave the metrics behind, and the stage would run again."""
    other_split = {"split.train": 0.6, "split.val": 0.2, "split.test": 0.2}
    teammate.run("dvc", "pull", "split", "fetch")
    teammate.set(other_split)
    assert ran(teammate.run("dvc", "repro", "split").stdout) == ["split"]
    assert re.fullmatch(r"\d+ files pushed\n", teammate.run("redarte", "push-runs").stdout)
    other = finished.clone(tmp_path / "other")
    shutil.copy2(teammate.path / ".dvc/config.local", other.path / ".dvc/config.local")
    other.set(other_split)
    other.run("dvc", "fetch", "--run-cache", "fetch")
    output = other.run("dvc", "repro", "--pull", "split").stdout
    assert ran(output) == []
    assert "Stage 'split' is cached - skipping run" in output
    for root in ("data/split", "metrics"):
        assert tree_bytes(other.path / root) == tree_bytes(teammate.path / root)


def test_pushing_runs_needs_a_remote(finished: Workspace) -> None:
    done = finished.run("redarte", "push-runs", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("redarte: the runs could not be pushed: ")
    assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("kind", ["hardlink", "symlink"])
def test_stages_run_on_links_into_the_cache(finished: Workspace, tmp_path: Path, kind: str) -> None:
    """As docs/remotes.md advises where disk is short: a stage replaces links, and never writes through one."""
    clone = finished.clone(tmp_path / "clone")
    cache = clone.path / ".dvc/cache"
    shutil.copytree(finished.path / ".dvc/cache", cache)
    clone.run("dvc", "config", "--local", "cache.type", kind)
    clone.run("dvc", "checkout")
    image = next((clone.path / "data/raw").rglob("*.jpg"))
    assert image.is_symlink() if kind == "symlink" else image.stat().st_nlink > 1
    clone.set({"augment.quality": 60})
    assert ran(clone.run("dvc", "repro", "resize").stdout) == ["augment", "resize"]
    assert tree_bytes(clone.path / "data/resized") != tree_bytes(finished.path / "data/resized")
    clone.run("git", "checkout", "-q", ".")
    assert ran(clone.run("dvc", "repro", "resize").stdout) == []
    assert tree_bytes(clone.path / "data/resized") == tree_bytes(finished.path / "data/resized")
    for file in (cache / "files/md5").rglob("*"):
        if file.is_file() and file.suffix != ".dir":
            assert hashlib.md5(file.read_bytes()).hexdigest() == file.parent.name + file.name


def test_dvc_get_of_one_model(finished: Workspace, remote: Path, tmp_path: Path) -> None:
    here = Workspace(tmp_path)
    here.run("dvc", "get", str(finished.path), "models/red2.keras")
    model, artists = saved.load(tmp_path / "red2.keras")
    assert model.name == "red2"
    assert len(artists) == 3
    # The version of an artifact is an annotated git tag.
    finished.run("git", "tag", "-a", "red3@v1.0.0", "-m", "Red 3")
    try:
        here.run("dvc", "artifacts", "get", str(finished.path), "red3")
    finally:
        finished.run("git", "tag", "-d", "red3@v1.0.0")
    image = str(next((finished.path / "data/raw").rglob("*.jpg")))
    assert "School of" in here.run("redarte", "predict", image, "--model", "red3.onnx").stdout


@pytest.mark.long
def test_the_demo() -> None:
    output = Workspace(ROOT).run("python", "docs/remote_demo.py").stdout
    assert ran(output) == [
        "fetch", "split", "augment", "resize", "train_red1", "export@red1", "evaluate", "evaluate",
    ]  # fmt: skip
    assert "Data and pipelines are up to date." in output


def as_teammate(user: int, umask: int, folder: Path, *command: str) -> None:
    """Runs a command in a teammate's own folder, as the teammate."""
    masked = f"import os, sys; os.umask({umask}); os.execvp(sys.argv[1], sys.argv[1:])"
    done = Workspace(folder).run(
        *users.as_user(user), sys.executable, "-c", masked, *command, check=False, HOME=str(folder)
    )
    assert done.returncode == 0, f"{user} {' '.join(command)}\n{done.stdout}{done.stderr}"


@pytest.mark.long
@pytest.mark.skipif(not users.can_be_others(), reason="only root can run commands as two other users")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_two_users_push_and_pull_through_one_folder(tmp_path: Path, umask: int) -> None:
    """As docs/remotes.md sets it up: treeverse/dvc#3838."""
    users.let_others_enter(tmp_path)
    team = tmp_path / "team"
    team.mkdir()
    os.chown(team, 0, users.GROUP)
    team.chmod(0o2770)
    places = {}
    for user in (20_001, 20_002):
        places[user] = tmp_path / str(user)
        places[user].mkdir()
        os.chown(places[user], user, user)
        for command in (
            "init --no-scm", f"remote add --default team {team}", "remote modify team verify true",
            "remote modify team shared group",
        ):  # fmt: skip
            as_teammate(user, umask, places[user], "dvc", *command.split())
    ana, ben = places
    # Enough files for both to write into folders of the other.
    for author, reader in ((ana, ben), (ben, ana), (ana, ben)):
        own, other = places[author], places[reader]
        data = own / "data"
        data.mkdir(exist_ok=True)
        for number in range(300):
            (data / f"{author} {number}").write_text(f"{author} {number} {len(list(data.iterdir()))}")
        subprocess.run(["chown", "-R", f"{author}:{author}", data], check=True)
        as_teammate(author, umask, own, "dvc", "add", "data")
        as_teammate(author, umask, own, "dvc", "push")
        shutil.copyfile(own / "data.dvc", other / "data.dvc")
        os.chown(other / "data.dvc", reader, reader)
        as_teammate(reader, umask, other, "dvc", "pull", "--force")
        assert tree_bytes(other / "data") == tree_bytes(own / "data")


def test_the_page_and_the_demo_share_with_the_group() -> None:
    for file in ("docs/remotes.md", "docs/remote_demo.py"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(r'remote modify team shared group|"team", "shared", "group"', text), file
