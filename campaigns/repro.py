"""`dvc repro` that is killed with all of its processes, DVC, stage and workers, at any moment.

An attack kills it three times and lets the fourth finish, up to `resize`: the outputs are those of an undisturbed run,
dvc.lock is unchanged, and DVC's cache is complete.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Workspace, new_workspace, tree_bytes

from redarte.history import dvc_cache

_KILLS = 3
_LASTS = 12.0  # seconds at most until it is killed


@dataclass(frozen=True)
class Undisturbed:
    """A workspace in which the stages have run, and their outputs."""

    workspace: Workspace
    made: dict[str, bytes]


@contextmanager
def prepared(folder: Path) -> Iterator[Undisturbed]:
    workspace = new_workspace(folder / "redarte", {})
    workspace.run("dvc", "repro", "resize")
    workspace.commit("a run")
    yield Undisturbed(workspace, tree_bytes(workspace.path / "data"))


def attack(undisturbed: Undisturbed, seed: int) -> Counter[str]:
    rng, workspace = random.Random(seed), undisturbed.workspace
    happened: Counter[str] = Counter()
    for path in (".dvc/cache", ".dvc/tmp", "data"):
        shutil.rmtree(workspace.path / path)
    workspace.run("git", "checkout", "-q", ".")
    for _ in range(_KILLS):
        process = workspace.start("dvc", "repro", "resize")
        ends = time.monotonic() + rng.uniform(0, _LASTS)
        while process.poll() is None and time.monotonic() < ends:
            time.sleep(0.001)
        running = process.poll() is None
        if running:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        happened["killed" if running else f"ended with {process.returncode}"] += 1
    done = workspace.run("dvc", "repro", "resize", check=False)
    if done.returncode:
        # docs/guarantees.md: DVC's lock file is corrupt if DVC is killed while it writes the file.
        assert "rwlock" in done.stderr, done.stderr
        (workspace.path / ".dvc/tmp/rwlock").unlink()
        happened["DVC's own lock was broken"] += 1
        workspace.run("dvc", "repro", "resize")
    assert tree_bytes(workspace.path / "data") == undisturbed.made
    assert workspace.run("git", "status", "--porcelain").stdout == ""
    check_cache(workspace.path / ".dvc/cache/files/md5")
    return happened


def check_cache(files: Path) -> None:
    """Every file has the hash that it is named by."""
    assert [path for path in files.glob("??/*") if not dvc_cache.is_complete(path)] == []
