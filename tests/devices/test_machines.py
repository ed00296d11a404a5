"""Training on several machines, which are processes of this machine, connected by TF_CONFIG."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from redarte.devices import machines
from redarte.runtime.errors import UserError
from tests.conftest import Workspace, new_workspace, write_painting
from tests.servers import HOST, free_port

EPOCHS = 25


@pytest.fixture
def ready(tmp_path: Path) -> Workspace:
    """A workspace with images to learn from."""
    changes = {"train.epochs": EPOCHS, "train.patience": EPOCHS, "train.precision": "float32", "seed": 3}
    workspace = new_workspace(tmp_path / "redarte", changes)
    for split, count in (("train", 13), ("val", 4), ("test", 4)):
        for number in range(count):
            for artist in ("Ana", "Bente"):
                path = workspace.path / f"data/resized/{split}/{artist}/{number}.jpg"
                write_painting(path, 32, 32, seed=len(artist) * 1000 + len(split) * 100 + number)
    return workspace


def start(*workspaces: Workspace) -> list["subprocess.Popen[str]"]:
    """train_red1 on as many machines, each in its workspace."""
    addresses = [f"{HOST}:{free_port()}" for _ in workspaces]
    return [
        workspace.start(
            "python", "-m", "redarte.stages.train", "red1",
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
            ),
        )
        for number, workspace in enumerate(workspaces)
    ]  # fmt: skip


def messages_of(machine: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = machine.communicate(timeout=120)
    return machine.returncode, out, err


def first_losses(workspace: Workspace) -> list[float]:
    """Of train and val in the first three epochs, before rounding differences grow."""
    rows = (workspace.path / "plots/train_red1.csv").read_text().splitlines()[1:7]
    return [float(row.rpartition(",")[2]) for row in rows]


def epochs_kept(workspace: Workspace) -> int:
    return max(
        (int(file.parent.name) for file in workspace.path.glob("models/.checkpoints/red1/*/*/state.json")), default=0
    )


@pytest.mark.long
def test_two_machines_train_like_one_and_resume_after_one_is_lost(ready: Workspace) -> None:
    ready.stage("train", "red1")
    alone = first_losses(ready)
    for machine in start(ready, ready):
        code, out, err = messages_of(machine)
        assert code == 0, err
        assert "red1: 26 images, 2 × CPU, float32, by tensorflow" in out
    assert first_losses(ready) == pytest.approx(alone, rel=1e-3)
    names = ("models/red1.keras", "metrics/train_red1.json", "plots/train_red1.csv")
    undisturbed = {name: (ready.path / name).read_bytes() for name in names}

    first, second = start(ready, ready)
    deadline = time.monotonic() + 100
    while epochs_kept(ready) < 2:
        assert first.poll() is None, messages_of(first)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second.kill()
    second.wait()
    code, _, err = messages_of(first)
    kept = epochs_kept(ready)
    assert (code, 2 <= kept < EPOCHS) == (1, True)
    assert "another machine of TF_CONFIG was lost; start the stage again on all machines" in err
    assert f": the training resumes after epoch {kept}.\n" in err
    assert "Traceback" not in err

    for machine in start(ready, ready):
        code, out, err = messages_of(machine)
        assert code == 0, err
        assert f"red1: resuming after epoch {kept}" in out
    assert {name: (ready.path / name).read_bytes() for name in names} == undisturbed
    assert not (ready.path / "models/.checkpoints/red1").exists()


@pytest.mark.long
def test_machines_with_other_parameters_do_not_train_together(ready: Workspace, tmp_path: Path) -> None:
    shutil.copytree(ready.path, tmp_path / "other")
    other = Workspace(tmp_path / "other")
    other.set({"train.learning_rate": 0.002})
    for machine in start(ready, other):
        code, _, err = messages_of(machine)
        assert code == 1
        assert "red1: the machines of TF_CONFIG do not have the same images, parameters, code, precision and" in err


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_malformed_tf_config_is_refused(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match=r"TF_CONFIG is not of the form \{"):
        machines.machine()


def test_the_machines_are_numbered_chief_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for kind, index, number in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
        assert machines.machine() == (number, 3)
        assert machines.is_first() == (number == 0)
