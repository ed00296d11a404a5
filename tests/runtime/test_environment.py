"""Settings of a user's machine and other programs change no byte of an output."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from redarte.runtime import console
from tests import users
from tests.conftest import ROOT, Workspace, environment_for, new_workspace, ran, tree_bytes, write_painting

MATPLOTLIBRC = "text.usetex: True\nfigure.facecolor: black\nfont.family: serif\nbackend: qtagg\nnonsense\n"
KERAS_JSON = {"backend": "jax", "floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1}
# As Jupyter and Colab set them for what a cell starts with `!`.
JUPYTER = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline", "JPY_PARENT_PID": "1", "TERM": "xterm-color",
    "CLICOLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1",
}  # fmt: skip
COLAB = {
    "MPLBACKEND": "module://ipykernel.pylab.backend_inline", "PYTHONPATH": "/env/python", "COLAB_GPU": "0",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF2_BEHAVIOR": "1", "PYTHONWARNINGS": "ignore",
    "COLAB_JUPYTER_TRANSPORT": "ipc", "SHELL": "/bin/bash", "DEBIAN_FRONTEND": "noninteractive",
}  # fmt: skip


def home_of_somebody(root: Path) -> dict[str, str]:
    """A home with settings of Keras and matplotlib for other work."""
    for name, text in {
        ".keras/keras.json": json.dumps(KERAS_JSON),
        ".config/matplotlib/matplotlibrc": MATPLOTLIBRC,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return {"HOME": str(root)}


def long_folder(root: Path) -> dict[str, str]:
    """A TMPDIR in which the address of a socket has too many bytes (unix(7): 107)."""
    folder = root / ("x" * 90) / ("y" * 90)
    folder.mkdir(parents=True)
    return {"TMPDIR": str(folder)}


def its_own_rc(root: Path) -> dict[str, str]:
    (root / "rc").write_text(MATPLOTLIBRC)
    return {"MATPLOTLIBRC": str(root / "rc"), "MPLBACKEND": "QtAgg"}


# A variable that is empty here is not set at all.
HOSTILE: dict[str, Callable[[Path], dict[str, str]]] = {
    "jupyter": lambda root: JUPYTER,
    "colab": lambda root: COLAB,
    "home": home_of_somebody,
    "matplotlibrc": its_own_rc,
    "backend": lambda root: {"KERAS_BACKEND": "", "TF_USE_LEGACY_KERAS": "1"},
    "flags": lambda root: {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_XLA_FLAGS": "--tf_xla_auto_jit=2"},
    "no home": lambda root: {"HOME": "", "USER": "", "LOGNAME": ""},
    "read-only home": lambda root: {"HOME": "/proc/nothing"},
    "long TMPDIR": long_folder,
    "no TMPDIR": lambda root: {"TMPDIR": str(root / "nowhere")},
    "proxy": lambda root: {"ALL_PROXY": "socks5://127.0.0.1:9", "HTTPS_PROXY": "socks5://127.0.0.1:9"},
    "ascii": lambda root: {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
}


def in_environment(variables: dict[str, str], *command: str) -> list[str]:
    unset = (part for name, value in variables.items() if not value for part in ("-u", name))
    return ["env", *unset, *(f"{name}={value}" for name, value in variables.items() if value), *command]


def check_stage_and_command(workspace: Workspace, variables: dict[str, str]) -> None:
    """evaluate gives the same bytes without warnings, and `redarte predict` works."""
    before = tree_bytes(workspace.path / "plots") | tree_bytes(workspace.path / "metrics")
    done = workspace.run(*in_environment(variables, "sh", "src/stage", "evaluate"))
    assert done.stderr == ""
    assert tree_bytes(workspace.path / "plots") | tree_bytes(workspace.path / "metrics") == before
    image = str(next((workspace.path / "data/raw").glob("*/*.jpg")))
    done = workspace.run(*in_environment(variables, "redarte", "predict", image))
    assert done.stderr == ""


def test_a_stage_and_a_command_with_all_settings_at_once(finished: Workspace, tmp_path: Path) -> None:
    together = {name: value for make in HOSTILE.values() for name, value in make(tmp_path).items()}
    (finished.path / "matplotlibrc").write_text(MATPLOTLIBRC)
    try:
        check_stage_and_command(finished, together)
    finally:
        (finished.path / "matplotlibrc").unlink()


@pytest.mark.long
@pytest.mark.parametrize("name", HOSTILE)
def test_a_stage_and_a_command_with_a_users_settings(finished: Workspace, tmp_path: Path, name: str) -> None:
    check_stage_and_command(finished, HOSTILE[name](tmp_path))


@pytest.mark.long
def test_a_training_with_a_users_settings_gives_the_same_bytes(finished: Workspace, tmp_path: Path) -> None:
    model = finished.path / "models/red1.keras"
    before = hashlib.sha256(model.read_bytes()).digest()
    for name in ("home", "backend", "flags"):
        finished.run(*in_environment(HOSTILE[name](tmp_path), "sh", "src/stage", "train", "red1"))
        assert hashlib.sha256(model.read_bytes()).digest() == before, name


@pytest.mark.skipif(not users.can_be_others(), reason="only root can run commands as another user")
def test_a_user_id_without_name_and_home(workspace: Workspace, tmp_path: Path) -> None:
    """As `docker run --user` makes one."""
    users.let_others_enter(tmp_path)
    subprocess.run(["chown", "-R", "31415:31415", workspace.path], check=True)
    nobody = in_environment({"HOME": "", "USER": "", "LOGNAME": "", "LNAME": "", "USERNAME": ""})
    for command in (("sh", "src/stage", "fetch"), ("redarte", "check")):
        done = workspace.run(*users.as_user(31_415), *nobody, *command, TMPDIR=str(workspace.path / "data"))
        assert done.stderr == ""


def in_namespace(*command: str) -> list[str]:
    """A command on a machine with a read-only /dev/shm."""
    return ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none /dev/shm && exec "$@"', "sh", *command]


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or subprocess.run(in_namespace("true"), capture_output=True).returncode != 0,
    reason="needs the right to mount",
)
def test_no_shared_memory_is_one_sentence_before_any_work(workspace: Workspace) -> None:
    done = workspace.run(*in_namespace("sh", "src/stage", "fetch"), check=False)
    assert done.returncode == 1
    assert "worker processes need /dev/shm, which cannot be used here" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (workspace.path / "data/raw").exists()


def without_activation() -> dict[str, str]:
    """An environment in which no `python` on the path has redarte."""
    return {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": "", "PYTHONPATH": "", "PYTHONHOME": ""}


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_a_python_without_tensorflow_packages(workspace: Workspace, version: tuple[int, int]) -> None:
    other = workspace.path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = {version}; $2"\n')
    other.chmod(0o755)
    done = workspace.run("make", "install", f"PYTHON={other}", check=False)
    assert done.returncode
    assert "redarte needs Python 3.11, 3.12 or 3.13" in done.stdout
    assert not (workspace.path / ".venv").exists()


@pytest.mark.skipif(
    subprocess.run(
        ["python3", "-c", "import redarte"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, cwd="/"
    ).returncode
    == 0,
    reason="this machine's own Python has redarte",
)
def test_a_stage_finds_the_python_of_the_project(workspace: Workspace) -> None:
    """`.venv/bin/dvc repro` in a shell in which nothing is activated, also in a folder of `dvc exp run --temp`."""
    done = workspace.run(*in_environment(without_activation(), "sh", "src/stage", "fetch"), check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "redarte fetch: no Python here has redarte; type: make install, and then: source .venv/bin/activate\n"
    )
    (workspace.path / ".venv").symlink_to(Path(sys.prefix))
    deeper = workspace.path / "deeper/and deeper"
    deeper.mkdir(parents=True)
    (deeper / "src").symlink_to(workspace.path / "src")
    for folder in (workspace.path, deeper):
        done = subprocess.run(
            in_environment(without_activation(), "sh", "src/stage", "fetch", "extra"),
            cwd=folder,
            capture_output=True,
            text=True,
        )
        message = "params.yaml does not exist here" if folder == deeper else ""
        assert (done.returncode, message in done.stderr) == (1 if message else 0, True), done.stderr


def cell(typed: str) -> dict[str, object]:
    return {"cell_type": "code", "source": typed, "metadata": {}, "outputs": [], "execution_count": None}


@pytest.mark.long
@pytest.mark.parametrize("variables", [JUPYTER, COLAB], ids=["jupyter", "colab"])
def test_the_readmes_commands_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Notebook cells, with the settings of Jupyter and Colab."""
    workspace = new_workspace(tmp_path / "redarte", {})
    (workspace.path / ".venv").symlink_to(Path(sys.prefix))
    for name, value in environment_for(variables).items():
        monkeypatch.setenv(name, value)
    write_painting(tmp_path / "an image.jpg")
    typed = [
        "%matplotlib inline",
        "!redarte check",
        "!.venv/bin/dvc repro",
        "!git add -A && git commit -qm run",
        "!dvc exp run -S evaluate.gallery=3",
        "!dvc metrics diff",
        "!dvc plots show",
        "!redarte experiments",
        f"!redarte predict '{tmp_path}/an image.jpg'",
        "from IPython.display import Image; Image('plots/confusion.png')",
    ]
    notebook = nbformat.from_dict(  # type: ignore[no-untyped-call]
        {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": list(map(cell, typed))}
    )
    client = NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(workspace.path)}}
    )
    client.execute()
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
    assert "Traceback" not in "".join(printed) and "ERROR" not in "".join(printed), "\n".join(printed)
    assert ran(printed[2])[0] == "fetch" and ran(printed[2])[-1] == "report"
    assert ran(printed[4]) == ["evaluate", "report"]
    assert "School of" in printed[8]
    assert (workspace.path / "plots/report.html").is_file()
    assert notebook.cells[-1].outputs[0].data["image/png"]


def test_the_quickstart_notebook(finished: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(ROOT / "docs/quickstart.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)  # stripped
    for name, value in environment_for({}).items():
        monkeypatch.setenv(name, value)
    folder = {"metadata": {"path": str(finished.path / "docs")}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    outputs = [output for cell in code for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "Data and pipelines are up to date." in printed
    accuracy = finished.metrics("evaluate")["test_accuracy"]
    assert f"red1: {accuracy:.0%} of 3 test images are correct" in printed
    assert re.search(r"data/split/test/School_of_\S+: School_of_\w+, probability \d+%", printed)
    shown = [kind for output in outputs for kind in output.get("data", {}) if kind != "text/plain"]
    # The table, curves, mistakes, the confusion matrix and the predicted image.
    assert shown == ["text/markdown", "image/png", "image/png", "image/png", "image/jpeg"]


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_make_install_deletes_nothing_of_somebody_else(tmp_path: Path, kind: str) -> None:
    """`python -m venv` refuses a link, and the recipe emptied the folder behind it."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    mine = tmp_path / "mine/thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    if kind == "link":
        (tmp_path / ".venv").symlink_to(mine.parent)
    else:
        mine.parent.rename(tmp_path / ".venv")
        mine = tmp_path / ".venv/thesis.txt"
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    done = subprocess.run(["make", "install"], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode and "move it away, and run make again" in done.stdout
    assert [path.name for path in mine.parent.iterdir()] == ["thesis.txt"]
    assert mine.read_text() == "years of work"


def test_a_home_in_the_folder_for_temporary_files_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may create the name first."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    wanted = tmp_path / "redarte-1234"
    wanted.symlink_to(victim)
    assert console._private_folder(wanted) not in (wanted, victim)
    wanted.unlink()
    wanted.mkdir()
    wanted.chmod(0o777)
    assert console._private_folder(wanted) != wanted
    wanted.rmdir()
    wanted.touch()
    assert console._private_folder(wanted) != wanted
    wanted.unlink()
    for _ in range(2):
        assert console._private_folder(wanted) == wanted and wanted.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0:
        os.chown(wanted, 4321, 4321)
        assert console._private_folder(wanted) != wanted
    assert list(victim.iterdir()) == []
