"""Stages as programs: atomic outputs, the same bytes, one-sentence errors."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from redarte.images import dataset, folders
from tests.conftest import ROOT, Workspace, new_workspace, tree_bytes, write_painting


def fill(folder: Path, artists: int = 2, each: int = 6, side: int = 60) -> None:
    for artist in range(artists):
        for number in range(each):
            write_painting(folder / f"Artist {artist}" / f"{number} é.jpg", side, side, seed=artist * 1000 + number)


def test_the_unpacked_files_of_resize_are_a_keras_image_folder(finished: Workspace, tmp_path: Path) -> None:
    from redarte.devices.backend import keras

    for shard in (finished.path / "data/resized/train").iterdir():
        subprocess.run(["tar", "-xf", shard, "-C", tmp_path], check=True)
    batches = keras.utils.image_dataset_from_directory(tmp_path, image_size=(32, 32), batch_size=8, verbose=False)
    pixels, _ = next(iter(batches))
    assert pixels.shape == (8, 32, 32, 3)
    assert len(batches.class_names) == 3


def test_wrong_params_stop_every_stage_before_any_work(workspace: Workspace) -> None:
    workspace.set({"red2.l1": 7.0})
    for command in (["fetch"], ["train", "red1"], ["evaluate"]):
        done = workspace.stage(*command, check=False)
        assert done.returncode == 1
        message = f"redarte {' '.join(command)}: params.yaml: red2.l1 is 7.0 and must be less than or equal to 1.\n"
        assert done.stderr == message
    assert not (workspace.path / "data/raw").exists()


def test_workers_must_be_a_number(workspace: Workspace) -> None:
    done = workspace.stage("fetch", check=False, REDARTE_WORKERS="many")
    assert (done.returncode, done.stderr) == (
        1,
        "redarte fetch: REDARTE_WORKERS is 'many'; set it to a number of processes, 1 or more.\n",
    )


def partials(workspace: Workspace) -> list[Path]:
    return [*(workspace.path / "data").glob(".partial-*"), *(workspace.path / "data").glob(".scratch-*")]


def start_and_signal(workspace: Workspace, sent: signal.Signals) -> tuple[int, str]:
    """Starts augment, and sends it a signal in the middle of its work."""
    process = workspace.start("python", "-m", "redarte.stages.augment")
    deadline = time.monotonic() + 60
    while sum(1 for _ in workspace.path.glob("data/.partial-*-augmented/*/*.jpg")) < 5:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    if sent == signal.SIGKILL:
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that augment works on for seconds."""
    root = tmp_path_factory.mktemp("many")
    fill(root, each=60, side=600)
    return root


@pytest.fixture
def long_augment(many: Path, tmp_path: Path) -> Workspace:
    workspace = new_workspace(tmp_path / "redarte", {"augment.max_side": 600})
    shutil.copytree(many, workspace.path / "data/split/train", copy_function=os.link)
    return workspace


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        (signal.SIGINT, 130, "redarte augment: interrupted; `dvc repro` starts this stage again.\n"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_an_interrupted_augment_leaves_no_output(
    long_augment: Workspace, sent: signal.Signals, code: int, message: str
) -> None:
    assert start_and_signal(long_augment, sent) == (code, message)
    assert not (long_augment.path / "data/augmented").exists()
    if sent != signal.SIGKILL:
        assert partials(long_augment) == []


@pytest.mark.long
def test_an_empty_list_of_copies(workspace: Workspace, tmp_path: Path) -> None:
    """A folder without a file, which a teammate's pull restores and resize reads."""
    workspace.set({"augment.copies": []})
    assert "0 copies of 9 training images" in workspace.run("dvc", "repro", "resize").stdout
    resized = tree_bytes(workspace.path / "data/resized")
    assert [len(dataset.image_files(workspace.path / "data/resized" / split)) for split in ("train", "val")] == [9, 3]
    workspace.run("dvc", "remote", "add", "--default", "team", str(tmp_path / "remote"))
    workspace.commit("no copies")
    workspace.run("dvc", "push")
    teammate = workspace.clone(tmp_path / "teammate")
    teammate.run("dvc", "pull", "fetch", "split", "augment", "resize")
    assert "Running stage" not in teammate.run("dvc", "repro", "resize").stdout
    teammate.run("dvc", "repro", "--force", "--single-item", "resize")
    assert tree_bytes(teammate.path / "data/resized") == resized


def test_ctrl_c_during_imports_has_no_traceback(workspace: Workspace) -> None:
    process = workspace.start("python", "-m", "redarte.stages.augment")
    maps = Path(f"/proc/{process.pid}/maps")
    deadline = time.monotonic() + 60
    while "numpy" not in maps.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-signal.SIGINT, "")


def test_workers_end_with_their_stage(long_augment: Workspace) -> None:
    process = long_augment.start("python", "-m", "redarte.stages.augment")
    deadline = time.monotonic() + 60
    while not list(long_augment.path.glob("data/.partial-*-augmented/*/*.jpg")):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert children
    assert not alive


def test_dvc_repro_after_a_killed_augment_gives_the_same_bytes(finished: Workspace) -> None:
    augmented = finished.path / "data/augmented"
    before = tree_bytes(augmented)
    process = finished.start("dvc", "repro", "--force", "--single-item", "augment")
    deadline = time.monotonic() + 60
    while augmented.exists() or not list(finished.path.glob("data/.partial-*-augmented")):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    # The stage and its workers, and not DVC: killed while it writes its own lock file, DVC leaves it broken.
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "failed to reproduce 'augment'" in err
    assert not augmented.exists()
    finished.run("dvc", "repro")
    assert tree_bytes(augmented) == before
    # A killed stage's partial folder is cleared by the stage's next real run.
    finished.run("dvc", "repro", "--force", "--single-item", "augment")
    assert partials(finished) == []
    assert finished.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    root = tmp_path / "disk"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield root
    subprocess.run(["umount", str(root)], check=True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_in_the_middle_of_augment(small_disk: Path, long_augment: Workspace, workers: str) -> None:
    shutil.copy(long_augment.path / "params.yaml", small_disk)
    fill(small_disk / "data/split/train", each=30, side=400)
    disk = Workspace(small_disk)
    command = ("python", "-m", "redarte.stages.augment")
    done = disk.run(*command, check=False, PYTHONPATH=str(ROOT / "src"), REDARTE_WORKERS=workers)
    assert done.returncode == 1
    assert done.stderr.startswith("redarte augment: the disk is full (")
    assert done.stderr.endswith("; free some space and run the stage again.\n")
    assert len(done.stderr.splitlines()) == 1
    assert not (small_disk / "data/augmented").exists()
    assert partials(disk) == []


def test_bad_images_are_counted_and_the_others_are_used(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, each=4)
    whole = (source / "Artist 0/0 é.jpg").read_bytes()
    malicious = {
        "Artist 0/truncated.jpg": whole[: len(whole) // 2],
        "Artist 0/text.JPG": b"this is text",
        "Artist 1/empty.png": b"",
        "Artist 1/twice.jpg": whole,
    }
    for name, content in malicious.items():
        (source / name).write_bytes(content)
    workspace.set({"fetch.source": "folder", "fetch.folder.path": str(source)})
    for stage in ("fetch", "split", "augment", "resize"):
        workspace.stage(stage)
    metrics = (workspace.path / "metrics/fetch.json").read_text(encoding="utf-8")
    for message in ('"truncated_or_corrupt": 1', '"not_an_image": 1', '"empty_file": 1', '"files": 5'):
        assert message in metrics
    assert '"same_image_under_two_artists": 2' in metrics
    assert len(tree_bytes(workspace.path / "data/raw")) == 7


def test_images_are_found_by_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = ["a.1.jpg", "a.2.jpg", "a.3.webp", "a.png"]
    for name in files:
        write_painting(Path("data/split/train/Ana", name), 32, 32)
    found = folders.files_by_id(Path("data/split/train"))
    assert {image_id: file.name for image_id, file in found.items()} == {
        "Ana/a.1": "a.1.jpg", "Ana/a.2": "a.2.jpg", "Ana/a.3": "a.3.webp", "Ana/a": "a.png",
    }  # fmt: skip
