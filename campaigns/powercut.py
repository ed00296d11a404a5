"""A power cut during `dvc repro`: unsynced data of the file system are lost.

The workspace, DVC's cache and its state lie on a file system of their own, ext4 or XFS by turns. It is shut down at
any moment as the kernel's own tests of file systems do it (FS_IOC_SHUTDOWN without writing the journal's last part),
unmounted and mounted again. Afterwards the outputs are complete or absent, a checkpoint is used or
reported, and `dvc repro` gives the bytes of an undisturbed run. Needs root, and a machine that can mount a file.
"""

import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Workspace, new_workspace, tree_bytes

from campaigns.repro import check_cache

KINDS = ("ext4", "xfs")
_LASTS = 45.0  # seconds at most until the power goes
_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN of linux/fs.h
_WITHOUT_THE_LOG = 2


@dataclass(frozen=True)
class Machine:
    """A workspace on a separate disk, and the outputs of the stages."""

    image: Path
    mounted: Path
    workspace: Workspace
    made: dict[str, bytes]


@contextmanager
def prepared(root: Path) -> Iterator[list[Machine]]:
    machines = []
    try:
        for kind in filter(lambda kind: shutil.which(f"mkfs.{kind}"), KINDS):
            machines.append(machine(root / kind, kind))
        yield machines
    finally:
        for one in machines:
            subprocess.run(["umount", "--lazy", one.mounted], check=True)


def machine(root: Path, kind: str) -> Machine:
    root.mkdir()
    image, mounted = root / "disk", root / "mounted"
    mounted.mkdir()
    subprocess.run(["truncate", "--size=1G", image], check=True)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    mount(image, mounted)
    workspace = new_workspace(mounted / "redarte", {"train.epochs": 200})
    workspace.run("dvc", "config", "core.site_cache_dir", "../site", "--local")
    workspace.run("dvc", "repro", "train_red1")
    workspace.commit("a run")
    return Machine(image, mounted, workspace, outputs_of(workspace))


def outputs_of(workspace: Workspace) -> dict[str, bytes]:
    model = workspace.path / "models/red1.keras"
    return tree_bytes(workspace.path / "data") | {"red1.keras": model.read_bytes()}


def attack(machines: list[Machine], seed: int) -> Counter[str]:
    rng, one = random.Random(seed), machines[seed % len(machines)]
    workspace, happened = one.workspace, Counter[str]()
    for path in (".dvc/cache", ".dvc/tmp", "data", "models/.checkpoints", "../site"):
        shutil.rmtree(workspace.path / path, ignore_errors=True)
    (workspace.path / "models/red1.keras").unlink(missing_ok=True)
    workspace.run("git", "checkout", "-q", ".")
    os.sync()
    process = workspace.start("dvc", "repro", "train_red1")
    ends = time.monotonic() + rng.uniform(0, _LASTS)
    while process.poll() is None and time.monotonic() < ends:
        time.sleep(0.001)
    happened["cut" if process.poll() is None else "cut after the end"] += 1
    cut(one.mounted)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    mount_again(one)
    message = workspace.run("redarte", "check", "--cache").stdout
    happened["corrupt cache" if "deleted" in message else "complete cache"] += 1
    done = workspace.run("dvc", "repro", "train_red1", check=False)
    assert done.returncode == 0, done.stderr
    assert outputs_of(workspace) == one.made
    for line in ("resuming after epoch", "is corrupt and not used"):
        happened[line] += line in done.stdout
    check_cache(workspace.path / ".dvc/cache/files/md5")
    return happened


def mount(image: Path, mounted: Path) -> None:
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)


def mount_again(one: Machine) -> None:
    # Workers end a second after their stage.
    for _ in range(100):
        if not subprocess.run(["umount", one.mounted], capture_output=True).returncode:
            break
        time.sleep(0.1)
    mount(one.image, one.mounted)


def cut(mounted: Path) -> None:
    """Takes the power away: from now on nothing gets to the disk."""
    folder = os.open(mounted, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _WITHOUT_THE_LOG))
    finally:
        os.close(folder)
