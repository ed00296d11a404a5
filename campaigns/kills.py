"""Stages that are killed in every possible way: outputs are absent or complete afterwards.

An attack kills one stage ten times, at random moments and in different ways, and then lets DVC finish it. After each
kill every output is absent or has the bytes of an undisturbed run; at the end every output exists, dvc.lock is
unchanged, and no temporary file is left.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from tests.conftest import FISHER, Workspace, finetuning_params, new_workspace, save_backbone, tree_bytes

ENDS = 10
_FILES = "mkdir,rename,unlink,unlinkat,rmdir,ftruncate"  # calls that change what is on the disk
_LONGEST = 120  # seconds for a stage of these sizes that is not stopped
_WAITED = "OpenBLAS waited for ever"

Content = dict[str, bytes] | bytes | None  # of a folder by path, or of a file, or of what is not there
Ended = tuple[int, str]  # its exit code, and what it said on stderr


@dataclass(frozen=True)
class Life:
    """A stage that nothing disturbs: how long it runs, its calls that change the disk, and the bytes that it leaves."""

    seconds: float
    calls: int
    made: int


@dataclass
class Reference:
    """Workspaces on a small disk in which everything has run, and the outputs of each stage."""

    disk: Path
    stages: dict[str, Workspace]
    lives: dict[str, Life] = field(default_factory=dict)


@contextmanager
def prepared(folder: Path) -> Iterator[Reference]:
    backbone = save_backbone(folder / "tiny.keras")
    with small_disk(folder / "disk") as disk:
        stages: dict[str, Workspace] = {}
        for name, changes in (("red", {}), ("fisher", FISHER), ("finetuned", finetuning_params(backbone))):
            workspace = new_workspace(disk / name, {"train.epochs": 3, **changes})
            workspace.run("dvc", "repro")
            workspace.commit("a run")
            # A model beyond the study is trained only where `extra_models` names it.
            stages |= {stage: workspace for stage in locked(workspace) if name == "red" or stage.endswith(f"@{name}")}
        yield Reference(disk, stages)


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A small file system, which can be filled; an ordinary folder if this process may not mount one."""
    path.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path]).returncode
    try:
        yield path
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", path], check=True)


def attack(reference: Reference, seed: int) -> Counter[str]:
    """Ends stage number seed (counted round and round) ten times, and finishes it."""
    stage = list(reference.stages)[seed % len(reference.stages)]
    try:
        return ended_and_finished(reference, stage, random.Random(seed))
    except Exception:
        # The next attack begins with complete outputs.
        workspace = reference.stages[stage]
        workspace.run("git", "checkout", "-q", ".")
        workspace.run("dvc", "checkout", "--force")
        raise


def ended_and_finished(reference: Reference, stage: str, rng: random.Random) -> Counter[str]:
    workspace = reference.stages[stage]
    outs = outputs_of(workspace, stage)
    whole = {out: contents(workspace.path / out) for out in outs}
    before = everything_else(workspace, outs)
    if stage not in reference.lives:
        reference.lives[stage] = undisturbed(workspace, stage, outs)
    happened: Counter[str] = Counter()
    for _ in range(ENDS):
        way = rng.choice(ways(reference))
        code, message = way(
            Ending(workspace, command_of(workspace, stage), outs, reference, rng, reference.lives[stage])
        )
        for out in outs:
            found = contents(workspace.path / out)
            assert is_complete(out, found, whole[out]), f"{stage}, {way.__name__}: {out} is there, and not whole"
            assert code or found is not None, f"{stage}, {way.__name__}: it ended well without {out}"
        traceback = "with a traceback" if "Traceback" in message else "without a traceback"
        assert way not in SPOKEN or traceback.startswith("without"), f"{stage}, {way.__name__}: {message}"
        came = "went on to its end" if code == 0 else f"{way.__name__}, {_WAITED if message == _WAITED else traceback}"
        happened[came] += 1
        happened[f"in {stage}"] += 1
    workspace.run("dvc", "repro", "--force", "--single-item", stage)
    assert {out: contents(workspace.path / out) for out in outs} == whole, f"{stage} finished with other bytes"
    assert everything_else(workspace, outs) == before, f"{stage} left something behind"
    assert workspace.run("git", "status", "--porcelain").stdout == "", f"{stage}: git sees a difference"
    return happened


def is_complete(out: str, found: Content, whole: Content) -> bool:
    """Whether an output is absent or equal to that of an undisturbed run."""
    if out.startswith("plots/train_") and isinstance(found, bytes) and isinstance(whole, bytes):
        # The curves grow while a model learns, so that one can watch it.
        return whole.startswith(found)
    return found is None or found == whole


@dataclass
class Ending:
    """A stage that is about to be ended."""

    workspace: Workspace
    command: list[str]
    outs: list[str]
    reference: Reference
    rng: random.Random
    life: Life

    def start(self, *before: str) -> "subprocess.Popen[str]":
        """Starts the stage as DVC does: without earlier outputs."""
        for out in self.outs:
            remove(self.workspace.path / out)
        return self.workspace.start(*before, *self.command)

    def wait(self, process: "subprocess.Popen[str]") -> None:
        """Waits for a moment of its life: any, or one while it writes."""
        ends = time.monotonic() + self.rng.uniform(0, self.life.seconds)
        if self.rng.random() < 0.5:
            while process.poll() is None and time.monotonic() < ends and not self.writes():
                time.sleep(0.001)
            ends = time.monotonic() + self.rng.expovariate(1 / 0.05)
        while process.poll() is None and time.monotonic() < ends:
            time.sleep(0.001)

    def writes(self) -> bool:
        return any(
            next((self.workspace.path / out).parent.glob(f".*-{Path(out).name}"), None) is not None for out in self.outs
        )


def killed(ending: Ending) -> Ended:
    """SIGKILL to the stage and its workers at once, as when the machine goes down."""
    process = ending.start()
    ending.wait(process)
    return ended(process, lambda: os.killpg(process.pid, signal.SIGKILL))


def killed_alone(ending: Ending) -> Ended:
    """SIGKILL to the stage, and its workers live on: the machine was in want of memory."""
    process = ending.start()
    ending.wait(process)
    return ended(process, process.kill)


def killed_at_a_call(ending: Ending) -> Ended:
    """SIGKILL as the stage makes or renames or deletes its nth file."""
    nth = ending.rng.randint(1, ending.life.calls)
    return ended(ending.start(*injecting(f"signal=KILL:when={nth}")))


def a_worker_killed(ending: Ending) -> Ended:
    process = ending.start()
    ending.wait(process)
    children = [child for child in descendants(process.pid) if is_worker(child)]
    return ended(process, ending.rng.choice(children).kill if children else None)


def terminated(ending: Ending) -> Ended:
    process = ending.start()
    ending.wait(process)
    return ended(process, process.terminate)


def interrupted(ending: Ending) -> Ended:
    """Ctrl-C, which a terminal sends to the process group."""
    process = ending.start()
    ending.wait(process)
    return ended(process, lambda: os.killpg(process.pid, signal.SIGINT))


def out_of_memory(ending: Ending) -> Ended:
    """No process of it gets more than so many bytes."""
    limit = ending.rng.randint(250, 1200) * 10**6
    return ended(ending.start("prlimit", f"--data={limit}"))


def a_write_failed(ending: Ending) -> Ended:
    """The disk gives an error as the stage makes or renames or deletes its nth file."""
    nth = ending.rng.randint(1, ending.life.calls)
    error = ending.rng.choice(["EIO", "ENOSPC", "EDQUOT"])
    return ended(ending.start(*injecting(f"error={error}:when={nth}")))


def disk_full(ending: Ending) -> Ended:
    """The disk has space for a part of the output."""
    for out in ending.outs:
        remove(ending.workspace.path / out)
    disk = ending.reference.disk
    used, room = shutil.disk_usage(disk).used // 1024, ending.rng.randint(4, 4 + ending.life.made // 1024)
    subprocess.run(["mount", "-o", f"remount,size={used + room}k", disk], check=True)
    try:
        return ended(ending.start())
    finally:
        subprocess.run(["mount", "-o", "remount,size=4g", disk], check=True)


WAYS: list[Callable[[Ending], Ended]] = [
    killed,
    killed_alone,
    killed_at_a_call,
    a_worker_killed,
    terminated,
    interrupted,
    out_of_memory,
    a_write_failed,
    disk_full,
]


def ways(reference: Reference) -> list[Callable[[Ending], Ended]]:
    """Those that this machine has the means for."""
    impossible = set() if os.path.ismount(reference.disk) else {disk_full}
    if shutil.which("strace") is None:
        impossible |= {killed_at_a_call, a_write_failed}
    return [way for way in WAYS if way not in impossible]


# Reported in one sentence. Ctrl-C is not: during its own start the interpreter handles it.
SPOKEN = (a_worker_killed, terminated, disk_full)


def injecting(what: str) -> list[str]:
    """strace, which acts at one of the system calls of the stage's main process."""
    return ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={_FILES}", "-e", f"inject={_FILES}:{what}"]


def ended(process: "subprocess.Popen[str]", end: Callable[[], None] | None = None) -> Ended:
    """Kills a stage and waits until its workers have ended too."""
    children = descendants(process.pid)
    if end is not None and process.poll() is None:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            end()
    try:
        _, message = process.communicate(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        known = any(waits_in_openblas(pid) for pid in (process.pid, *(child.pid for child in descendants(process.pid))))
        os.killpg(process.pid, signal.SIGKILL)
        if not known:
            raise
        process.communicate()
        message = _WAITED
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, f"workers outlive their stage by 30 s: {alive}"
    return process.returncode, message


def waits_in_openblas(pid: int) -> bool:
    """Whether a process waits for memory forever, as OpenBLAS does (docs/guarantees.md)."""
    if shutil.which("strace") is None:
        return False
    tracing = ["timeout", "2", "strace", "-f", "-e", "trace=mmap", "-p", str(pid)]
    calls = subprocess.run(tracing, capture_output=True, text=True).stderr
    return len(re.findall(r"mmap\(NULL, 33554432, .* ENOMEM", calls)) > 10


def descendants(pid: int) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def is_worker(process: psutil.Process) -> bool:
    """Whether a process does more than clean up after the others."""
    try:
        return "resource_tracker" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def undisturbed(workspace: Workspace, stage: str, outs: list[str]) -> Life:
    """A stage from its start to its end."""
    for out in outs:
        remove(workspace.path / out)
    command = command_of(workspace, stage)
    started = time.monotonic()
    workspace.run(*command)
    seconds = time.monotonic() - started
    made = sum((workspace.path / out).stat().st_size for out in outs if (workspace.path / out).is_file())
    made += sum(len(content) for out in outs for content in tree_bytes(workspace.path / out).values())
    for out in outs:
        remove(workspace.path / out)
    traced = ["strace", "-qq", "-e", f"trace={_FILES}"] if shutil.which("strace") else []
    calls = workspace.run(*traced, *command).stderr.count(") = ")
    return Life(seconds, max(calls, 1), made)


def locked(workspace: Workspace) -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((workspace.path / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return stages


def command_of(workspace: Workspace, stage: str) -> list[str]:
    command: str = locked(workspace)[stage]["cmd"]
    return command.split()


def outputs_of(workspace: Workspace, stage: str) -> list[str]:
    return [str(out["path"]) for out in locked(workspace)[stage]["outs"]]


def contents(path: Path) -> Content:
    if path.is_dir():
        return tree_bytes(path)
    return path.read_bytes() if path.exists() else None


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def everything_else(workspace: Workspace, outs: list[str]) -> set[str]:
    """The files that the stage has no business with."""
    found = set()
    for path in workspace.path.rglob("*"):
        name = path.relative_to(workspace.path).as_posix()
        ours = any(name == out or name.startswith(f"{out}/") for out in outs)
        if path.is_file() and not ours and not name.startswith((".dvc/", ".git/")) and "__pycache__" not in name:
            found.add(name)
    return found
