"""A user's mistake, or the state of a machine, gives one sentence and never a traceback."""

import json
import os
import shutil
import signal
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console

from redarte.commands import estimates
from redarte.commands.predict import SAMPLE_ONLY
from redarte.history import experiments
from redarte.ingestion.collection import files
from redarte.params import Params
from redarte.runtime.errors import UserError
from redarte.serving import service
from tests.conftest import ROOT, Workspace, write_painting


def refused(workspace: Workspace, *command: str, **environment: str) -> str:
    """The one sentence that a command prints before it exits with 1."""
    done = workspace.run("redarte", *command, check=False, COLUMNS="120", **environment)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("redarte: ").strip()


@pytest.fixture
def downloaded(workspace: Workspace) -> Workspace:
    """A workspace as GitHub's "Download ZIP" gives it."""
    shutil.rmtree(workspace.path / ".git")
    return workspace


def test_a_project_without_git_is_reported_with_what_to_type(downloaded: Workspace) -> None:
    for command in (["check"], ["experiments"], ["push-runs"]):
        message = refused(downloaded, *command)
        assert message.startswith(f"{downloaded.path} is not a git repository, which DVC needs")
        assert message.endswith("type: git init && git add -A && git commit -m start")
    (downloaded.path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    downloaded.run("redarte", "check")


@pytest.mark.parametrize("left", ["", pytest.param('{"write": {"data/raw": {"pid"', marks=pytest.mark.long)])
def test_a_corrupt_lock_of_a_killed_dvc_is_reported_with_what_to_type(workspace: Workspace, left: str) -> None:
    lock = workspace.path / ".dvc/tmp/rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(left)
    for command in ("check", "push-runs"):
        assert refused(workspace, command).endswith("when no other DVC runs in this folder, type: rm .dvc/tmp/rwlock")
    lock.unlink()
    workspace.run("redarte", "check")


def test_another_running_dvc_is_named(workspace: Workspace) -> None:
    lock = workspace.path / ".dvc/tmp/rwlock"
    lock.parent.mkdir(exist_ok=True)
    works = {"pid": os.getpid(), "cmd": "dvc repro train_red2"}
    lock.write_text(json.dumps({"write": {str(workspace.path / "metrics/fetch.json"): works}, "read": {}}))
    workspace.run("redarte", "check")
    assert refused(workspace, "check", "--lock") == (
        f"`dvc status` failed: another DVC process runs in this folder (PID {os.getpid()}: dvc repro train_red2); "
        "wait until it has ended."
    )


def test_a_folder_that_is_not_a_project_is_reported(tmp_path: Path, workspace: Workspace) -> None:
    shutil.rmtree(workspace.path / ".dvc")
    assert "you are not inside of a DVC repository" in refused(workspace, "experiments")


def test_experiments_print_dvcs_reason(workspace: Workspace) -> None:
    (workspace.path / ".dvc/config.local").write_text("[nonsense]\n    a = b\n")
    message = refused(workspace, "experiments")
    assert (
        message.startswith("`dvc exp show --json` failed: ") and "extra keys not allowed @ data['nonsense']" in message
    )
    assert "Having any troubles" not in message


def test_brackets_in_values_are_shown() -> None:
    """rich takes [bold] for markup."""

    def revision(path: str) -> dict[str, Any]:
        return {
            "rev": "a" * 40, "name": "main",
            "data": {
                "params": {"params.yaml": {"data": {"fetch": {"path": path}, "extra_models": []}}},
                "metrics": {"metrics/evaluate.json": {"data": {"data": "[/red]", "model": "red1"}}},
            },
        }  # fmt: skip

    changed = revision("[bold]/[/x]")
    changed["data"]["params"]["params.yaml"]["data"]["extra_models"] = ["[a]"]
    experiment = {"name": "[dim]one", "executor": None, "revs": [changed]}
    shown = [{**revision("a"), "experiments": [experiment]}]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(experiments.table(experiments.revisions(shown)))
    lines = captured.get().splitlines()
    assert "[dim]one" in lines[-2] and "'fetch.path=\"[bold]/[/x]\"'" in lines[-2]
    assert lines[-1].strip() == "'extra_models=[\"[a]\"]'"


def test_doctor_reports_a_bad_archive(settings: Callable[..., Params], tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(broken, "w") as opened:
        opened.writestr("Ana/1.jpg", b"x" * 100)
    data = bytearray(broken.read_bytes())
    data[data.index(b"PK\1\2")] = 0
    broken.write_bytes(data)
    source = settings({"fetch.source": "archive", "fetch.archive.path": str(broken)})
    with pytest.raises(UserError, match=r"broken\.zip cannot be unpacked \(Bad magic number"):
        estimates.source_amount(source)


def test_explain_reports_an_unwritable_file(finished: Workspace, tmp_path: Path) -> None:
    image = str(write_painting(tmp_path / "a.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    assert refused(finished, "explain", image, "--out", str(tmp_path / "folder.jpg")).endswith(
        "is not a .jpg file name; choose one with --out."
    )
    (tmp_path / "file").touch()
    message = refused(finished, "explain", image, "--out", str(tmp_path / "file/a.jpg"))
    assert message == f"{tmp_path}/file/a.jpg cannot be written (File exists); choose another file with --out."


@pytest.mark.parametrize("out", ["a.jpg", "./a.jpg", "link.jpg"])
def test_explain_does_not_overwrite_the_image(finished: Workspace, tmp_path: Path, out: str) -> None:
    image = write_painting(tmp_path / "a.jpg")
    (tmp_path / "link.jpg").symlink_to(image)
    before = image.read_bytes()
    message = refused(finished, "explain", str(image), "--out", str(tmp_path / out))
    assert message.endswith("is the image itself, and would be overwritten: choose another file with --out.")
    assert image.read_bytes() == before


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml", "params.yaml"])
def test_a_merge_conflict_is_named(workspace: Workspace, name: str) -> None:
    file = workspace.path / name
    file.write_text("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> theirs\n" + file.read_text(encoding="utf-8"))
    for command in (["check"], ["experiments"]):
        assert refused(workspace, *command).startswith(f"merge conflict in {name}")


@pytest.mark.long
def test_a_users_images_in_an_output_are_not_deleted(workspace: Workspace, tmp_path: Path) -> None:
    """DVC deletes outputs before it starts a stage: `make repro` begins with this check."""
    own = write_painting(workspace.path / "data/raw/Ana/mine.jpg")
    message = refused(workspace, "check")
    assert message.startswith(
        "data/raw has 1 files that DVC does not know (Ana/mine.jpg), and the next run would delete"
    )
    own.unlink()
    workspace.run("redarte", "check")
    workspace.run("dvc", "repro", "split")
    workspace.run("redarte", "check")
    # The files of an earlier run are DVC's own.
    workspace.set({"fetch.sample.images": 4})
    workspace.run("dvc", "repro", "split")
    workspace.run("git", "restore", "dvc.lock", "params.yaml")
    workspace.run("redarte", "check")
    # And those that a stage has written, before DVC has recorded them.
    for stage in ("fetch", "split", "augment", "resize"):
        workspace.stage(stage)
    shutil.rmtree(workspace.path / ".dvc/cache")
    workspace.run("redarte", "check")
    (workspace.path / "data/split/train/notes.txt").write_text("mine")
    assert refused(workspace, "check").startswith("data/split/train has ")
    assert "redarte check" in (ROOT / "Makefile").read_text(encoding="utf-8").partition("dvc repro\n")[0]


@pytest.mark.skipif(os.name != "posix", reason="names of other systems have no such bytes")
def test_predict_of_odd_names_and_of_folders_that_change(finished: Workspace, tmp_path: Path) -> None:
    for odd in (b"a\nb.jpg", b"\x1b[31mred.jpg", b"caf\xe9.jpg", b"tab\t.jpg"):
        shutil.copy(write_painting(tmp_path / "whole.jpg"), tmp_path / os.fsdecode(odd))
    done = finished.run("redarte", "predict", str(tmp_path), check=False)
    assert "Traceback" not in done.stderr and "\x1b" not in done.stdout
    assert "\\x1b[31mred.jpg" in done.stdout and "a\\nb.jpg" in done.stdout and "\\udce9" in done.stdout
    lines = finished.run("redarte", "predict", str(tmp_path), "--json", check=False).stdout.splitlines()
    assert len(lines) == 5 and all("path" in json.loads(line) for line in lines)

    gone = tmp_path / "gone"
    (gone / "inner").mkdir(parents=True)
    seen = []
    for name, _ in files.walk(tmp_path):
        seen.append(name)
        shutil.rmtree(gone, ignore_errors=True)
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:7860"),
        ("::1", "http://[::1]:7860"),
        ("::", "http://localhost:7860"),
        ("0.0.0.0", "http://localhost:7860"),
        ("fe80::1", "http://[fe80::1]:7860"),
        ("painters.example", "http://painters.example:7860"),
    ],
)
def test_an_address_can_be_opened(host: str, address: str) -> None:
    assert service.address(host, 7860) == address


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").is_file(), reason="this machine has no IPv6")
def test_serve_on_every_address_behind_a_proxy_leaves_nothing_when_it_is_ended(
    finished: Workspace, tmp_path: Path
) -> None:
    """A proxy for downloads is not used; a service manager sends SIGTERM."""
    process = finished.start(
        "redarte", "serve", "--host", "::", "--port", "0",
        TMPDIR=str(tmp_path), ALL_PROXY="socks5://127.0.0.1:9", all_proxy="socks5://127.0.0.1:9",
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    address = line.split()[1]
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{address}/health", timeout=30).json()["status"] == "ok"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


def test_predict_of_a_name_that_the_terminal_cannot_show(finished: Workspace, tmp_path: Path) -> None:
    write_painting(tmp_path / "葛飾.jpg")
    done = finished.run("redarte", "predict", str(tmp_path), PYTHONIOENCODING="ascii")
    assert "\\u845b\\u98fe.jpg" in done.stdout
    assert done.stderr == f"redarte: {SAMPLE_ONLY}\n"


@pytest.mark.skipif(os.name != "posix" or not Path("/dev/shm").is_dir(), reason="needs another disk")
def test_data_raw_may_be_a_link_to_another_disk(workspace: Workspace, tmp_path: Path) -> None:
    disk = Path("/dev/shm") / f"redarte-{os.getpid()}"
    try:
        (disk / "raw").mkdir(parents=True)
        (workspace.path / "data").mkdir(exist_ok=True)
        (workspace.path / "data/raw").symlink_to(disk / "raw")
        for seed in range(6):
            write_painting(tmp_path / f"images/{'Ana' if seed % 2 else 'Ben'}/{seed}.jpg", 200, 150, seed)
        archive = shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path / "images")
        workspace.set({"fetch.source": "archive", "fetch.archive.path": archive})
        workspace.run("dvc", "repro", "split")
        assert (workspace.path / "data/raw").is_symlink()
        assert len(list(disk.glob("raw/*/*.jpg"))) == 6
        assert [entry.name for entry in disk.iterdir()] == ["raw"]
        assert (workspace.path / "data/split/train/Ana").is_dir()
    finally:
        shutil.rmtree(disk, ignore_errors=True)


@pytest.mark.parametrize("folder", ["data", "models", "plots"])
def test_a_link_that_dvc_refuses_is_refused_before_the_work(workspace: Workspace, tmp_path: Path, folder: str) -> None:
    shutil.rmtree(workspace.path / folder, ignore_errors=True)
    (workspace.path / folder).symlink_to(tmp_path)
    done = workspace.stage("fetch", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"redarte fetch: {folder} is a symbolic link, and DVC takes no outputs below one")


@pytest.mark.parametrize("stage", ["split", "augment", "resize", "evaluate"])
def test_a_stage_that_is_started_without_its_inputs(workspace: Workspace, stage: str) -> None:
    done = workspace.stage(stage, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "is missing; create it with `dvc repro`" in done.stderr
