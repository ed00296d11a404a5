"""augment and resize on a real Ray cluster of two machines, which are two sets of processes on this machine."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from redarte.runtime import cluster
from redarte.runtime.errors import UserError
from tests.conftest import Workspace, environment_for, new_workspace, tree_bytes, write_painting
from tests.servers import HOST, free_port, is_open

SILENT = {"RAY_USAGE_STATS_ENABLED": "0"}


@dataclass
class Machine:
    """The processes of one machine of a cluster, each with one core."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Pulls the plug."""
        for process in [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]:
            process.kill()
        self.process.wait()


@dataclass
class Cluster:
    address: str
    head: Machine
    other: Machine

    def stage(self, workspace: Workspace, name: str) -> "subprocess.CompletedProcess[str]":
        done: subprocess.CompletedProcess[str] = workspace.stage(
            name, check=False, RAY_ADDRESS=self.address, REDARTE_WORKERS="none", **SILENT
        )
        return done


def start(*arguments: str) -> Machine:
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", f"--node-ip-address={HOST}"]
    small = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    process = subprocess.Popen(
        [*command, *small, *arguments],
        env=environment_for(SILENT),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return Machine(process)


def wait_for_cores(address: str, count: int) -> None:
    """Waits until the cluster has so many."""
    ask = f"import ray; ray.init({address!r}, log_to_driver=False); print(int(ray.cluster_resources()['CPU']))"
    deadline = time.monotonic() + 90
    while True:
        asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, env=environment_for(SILENT))
        if asked.stdout.split()[-1:] == [str(count)]:
            return
        assert time.monotonic() < deadline, asked.stderr
        time.sleep(0.2)


@pytest.fixture
def two_machines() -> Iterator[Cluster]:
    port = free_port()
    head = start("--head", f"--port={port}", "--include-dashboard=false")
    try:
        deadline = time.monotonic() + 60
        while not is_open(port):
            assert head.process.poll() is None, "Ray did not start"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        other = start(f"--address={HOST}:{port}")
        try:
            wait_for_cores(f"{HOST}:{port}", 2)
            yield Cluster(f"{HOST}:{port}", head, other)
        finally:
            if other.process.poll() is None:
                other.kill()
    finally:
        head.kill()


@pytest.fixture
def paintings_to_copy(tmp_path: Path) -> Workspace:
    """A workspace with 240 paintings to learn from, which take a second or two to copy."""
    workspace = new_workspace(tmp_path / "redarte", {"augment.max_side": 600})
    for number in range(240):
        for split in ("train", "val", "test") if number < 12 else ("train",):
            folder = workspace.path / f"data/split/{split}/Artist_{number % 4}/{split}{number}.jpg"
            write_painting(folder, 400, 300, seed=number)
    return workspace


@pytest.mark.long
def test_two_machines_of_which_one_dies_give_the_same_bytes(
    two_machines: Cluster, paintings_to_copy: Workspace
) -> None:
    workspace = paintings_to_copy
    for stage in ("augment", "resize"):
        workspace.stage(stage)
    alone = {name: tree_bytes(workspace.path / "data" / name) for name in ("augmented", "resized")}
    for stage in ("augment", "resize"):
        done = two_machines.stage(workspace, stage)
        assert done.returncode == 0, done.stderr
    assert {name: tree_bytes(workspace.path / "data" / name) for name in alone} == alone

    # An image that was corrupted after fetch is reported as without Ray.
    bad = workspace.path / "data/split/train/Artist_0/train0.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:100])
    done = two_machines.stage(workspace, "augment")
    assert done.returncode == 1
    assert "redarte augment: data/split/train/Artist_0/train0.jpg cannot be decoded" in done.stderr
    assert "Traceback" not in done.stderr
    bad.write_bytes(whole)

    augmenting = workspace.start("python", "-m", "redarte.stages.augment", RAY_ADDRESS=two_machines.address, **SILENT)
    deadline = time.monotonic() + 60
    while sum(1 for _ in workspace.path.glob("data/.partial-*-augmented/*/*.jpg")) < 100:
        assert augmenting.poll() is None, augmenting.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    two_machines.other.kill()
    assert augmenting.poll() is None, "the machine died too late"
    out, err = augmenting.communicate(timeout=120)
    assert augmenting.returncode == 0, err
    assert out.endswith("1440 copies of 240 training images\n")
    assert tree_bytes(workspace.path / "data/augmented") == alone["augmented"]
    assert list((workspace.path / "data").glob(".*-*")) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"{HOST}:1", f"no Ray cluster responds at {HOST}:1 (RAY_ADDRESS): [Errno 111] Connection refused; start it"),
        ("the cluster", "no Ray cluster responds at the cluster (RAY_ADDRESS): Invalid address format: the cluster; "),
    ],
)
def test_a_missing_cluster_is_one_sentence(workspace: Workspace, address: str, message: str) -> None:
    write_painting(workspace.path / "data/split/train/Ana/1.jpg")
    done = workspace.stage("augment", check=False, RAY_ADDRESS=address)
    assert done.returncode == 1
    assert done.stderr.startswith(f"redarte augment: augmenting: {message}")
    assert done.stderr.count("\n") == 1
    assert not (workspace.path / "data/augmented").exists()


def test_a_machine_without_the_projects_folder_refuses(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"is not the project's folder; every machine of the cluster must share the folder"
    ):
        cluster._run_task(tmp_path, Path("data/.scratch-1-ray"), len, ["a"])
