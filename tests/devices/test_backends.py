"""The same training by JAX and PyTorch, whose CPU builds `make test-all` installs; and messages about devices."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redarte import devices
from redarte.devices.interface import Accelerator, Gpu
from redarte.runtime.errors import UserError
from redarte.training import loop
from tests.conftest import (
    FISHER,
    ROOT,
    Workspace,
    environment_for,
    finetuning_params,
    new_workspace,
    save_backbone,
    write_painting,
)
from tests.training.test_loop import MakeSettings, epochs_written, folder_of, job_of

BACKENDS = [
    pytest.param(
        name,
        marks=[
            pytest.mark.long,
            pytest.mark.skipif(
                importlib.util.find_spec(name) is None, reason=f"{name} is not installed: make test-all"
            ),
        ],
    )
    for name in ("jax", "torch")
]
# A machine without a C++ compiler.
BARE = str(Path(sys.executable).parent)
OUTPUTS = ("models/red1.keras", "metrics/train_red1.json", "plots/train_red1.csv")


def ready(path: Path, changes: dict[str, Any]) -> Workspace:
    """A workspace with training images: 26 resized images and their originals."""
    workspace = new_workspace(path, {"train.precision": "float32"} | changes)
    for split, each in (("train", 13), ("val", 3)):
        for folder in ("resized", "split"):
            folder_of(workspace.path / "data" / folder / split, {"Ana": each, "Bente": each}, side=32)
    return workspace


def losses(workspace: Workspace) -> list[float]:
    """Of train and val in the first two epochs, before rounding differences grow."""
    rows = (workspace.path / "plots/train_red1.csv").read_text().splitlines()[1:5]
    return [float(row.rpartition(",")[2]) for row in rows]


def outputs(workspace: Workspace) -> dict[str, bytes]:
    return {name: (workspace.path / name).read_bytes() for name in OUTPUTS}


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_backend_trains_like_tensorflow_and_is_exported(tmp_path: Path, backend: str) -> None:
    workspace = ready(tmp_path / "redarte", {"train.epochs": 6, "red1.l2": 0.0001, "train.class_weight": "balanced"})
    workspace.stage("train", "red1")
    by_tensorflow = losses(workspace)
    out = workspace.stage("train", "red1", KERAS_BACKEND=backend).stdout
    assert f"red1: 26 images, 1 × CPU, float32, by {backend}\n" in out
    metrics = workspace.metrics("train_red1")
    assert (metrics["backend"], metrics["device"]) == (backend, "CPU")
    # Each backend draws other weights to begin with.
    assert losses(workspace)[0] == pytest.approx(by_tensorflow[0], rel=0.3)
    rows = (workspace.path / "plots/train_red1.csv").read_text().splitlines()
    assert float(rows[-2].rpartition(",")[2]) < 0.95 * float(rows[1].rpartition(",")[2])
    first = outputs(workspace)
    workspace.stage("train", "red1", KERAS_BACKEND=backend)
    assert outputs(workspace) == first
    # The export fails if the probabilities of a val image differ from Keras's.
    workspace.stage("export", "red1", KERAS_BACKEND=backend)
    assert workspace.metrics("export_red1")["val_accuracy"] == pytest.approx(metrics["val_accuracy"], abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupted_training_resumes_to_the_same_bytes(tmp_path: Path, backend: str) -> None:
    workspace = ready(tmp_path / "redarte", {"train.epochs": 60, "train.patience": 50})
    workspace.stage("train", "red1", KERAS_BACKEND=backend)
    undisturbed = outputs(workspace)
    (workspace.path / "plots/train_red1.csv").unlink()
    process = workspace.start("python", "-m", "redarte.stages.train", "red1", KERAS_BACKEND=backend)
    deadline = time.monotonic() + 120
    while epochs_written(workspace) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"redarte train red1: interrupted; `dvc repro` resumes after \d+ complete epochs\.\n", err), err
    # Another backend does not resume it.
    assert "resuming" in workspace.stage("train", "red1", KERAS_BACKEND=backend).stdout
    assert outputs(workspace) == undisturbed


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_options_together(tmp_path: Path, backend: str) -> None:
    switched_on = {
        "train.epochs": 4,
        "train.schedule": "cosine",
        "train.label_smoothing": 0.1,
        "train.class_weight": "balanced",
        "train.random_crop_flip": True,
        "train.patience": 3,
    }
    workspace = ready(tmp_path / "redarte", switched_on)
    for precision in ("mixed_bfloat16", "mixed_float16"):
        workspace.set({"train.precision": precision})
        out = workspace.stage("train", "red1", KERAS_BACKEND=backend, REDARTE_MEMORY="0").stdout
        assert "red1: reading images from the disk in every epoch: decoded they take" in out
        metrics = workspace.metrics("train_red1")
        assert metrics["precision"] == precision
        assert np.isfinite([metrics["loss"], metrics["val_loss"]]).all()


# A GPU holds the images as this tensor does.
ON_DEVICE = """
import runpy, sys
from redarte import devices
devices.to_device = devices.accelerator.put
sys.argv = ["train", "red1"]
runpy.run_module("redarte.stages.train", run_name="__main__")
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_on_the_device_give_the_same_training(tmp_path: Path, backend: str) -> None:
    workspace = ready(tmp_path / "redarte", {"train.epochs": 2})
    workspace.stage("train", "red1", KERAS_BACKEND=backend)
    before = outputs(workspace)
    source = str(workspace.path / "src")
    workspace.run("python", "-c", ON_DEVICE, KERAS_BACKEND=backend, PYTHONPATH=source)
    assert outputs(workspace) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_extra_models(tmp_path: Path, backend: str) -> None:
    backbone = save_backbone(tmp_path / "tiny.keras")
    both = FISHER | finetuning_params(backbone) | {"extra_models": ["fisher", "finetuned"]}
    workspace = ready(tmp_path / "redarte", both)
    for name in ("fisher", "finetuned"):
        workspace.stage("train", name, KERAS_BACKEND=backend)
        assert workspace.metrics(f"train_{name}")["backend"] == backend
        workspace.stage("export", name, KERAS_BACKEND=backend)
        assert (workspace.path / f"models/{name}.onnx").is_file()


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed: make test-all")
def test_two_devices_of_jax_train_like_one(tmp_path: Path) -> None:
    """With 27 images in batches of 8, one device would get no image of the last batch."""
    workspace = ready(tmp_path / "redarte", {"train.epochs": 2})
    workspace.stage("train", "red1", KERAS_BACKEND="jax")
    alone = losses(workspace)
    two: Any = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert "26 images, 2 × CPU, float32, by jax" in workspace.stage("train", "red1", **two).stdout
    assert losses(workspace) == pytest.approx(alone, rel=1e-3)
    write_painting(workspace.path / "data/resized/train/Ana/more.jpg", 32, 32, seed=7)
    write_painting(workspace.path / "data/resized/val/Ana/more.jpg", 32, 32, seed=8)
    workspace.stage("train", "red1", **two)
    assert np.isfinite(losses(workspace)).all()


LACKING = "tensorflow tf2onnx onnx onnxruntime fastapi dvc albumentations matplotlib"
IMPORTS = (
    f"import sys; sys.modules.update(dict.fromkeys({LACKING!r}.split())); "
    "import redarte.stages.train, redarte.models.study, benchmarks.gpu"
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gpu_benchmark_runs_on_a_cpu_and_without_the_packages_that_a_gpu_machine_lacks(backend: str) -> None:
    environment = environment_for({"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT / "src")})
    imported = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    assert imported.returncode == 0, imported.stderr
    small = ["--device", "cpu", "--side", "16", "--count", "56", "--batches", "8", "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *small, "--backends", backend],
        cwd=ROOT, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{backend} on CPU: Red 1, 56 images of 16 px, 10 epochs, batch 32," in done.stdout
    rows = [line.split(" | ")[:4] for line in done.stdout.splitlines() if line.startswith(f"| {backend} ")]
    assert [row[1:] for row in rows] == [
        [name, "8", precision] for name in ("red1", "red3") for precision in ("mixed_bfloat16", "float32")
    ]
    assert done.stdout.count(f"| plain Keras, {backend} ") == 2


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("mxnet", "KERAS_BACKEND is 'mxnet'; set it to tensorflow, jax or torch, or unset it."),
        ("openvino", "KERAS_BACKEND is 'openvino'; set it to tensorflow, jax or torch, or unset it."),
        pytest.param(
            "jax",
            "the Keras backend jax (train.backend or KERAS_BACKEND) is not installed; type `make install BACKEND=jax`, "
            "or choose another.",
            marks=pytest.mark.skipif(importlib.util.find_spec("jax") is not None, reason="it is installed"),
        ),
    ],
)
def test_an_unknown_or_missing_backend_is_one_sentence(workspace: Workspace, backend: str, message: str) -> None:
    for command in (("python", "-m", "redarte.stages.train", "red1"), ("redarte", "doctor")):
        done = workspace.run(*command, check=False, KERAS_BACKEND=backend)
        assert (done.returncode, done.stderr) == (1, f"redarte: {message}\n")


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed: make test-all")
def test_a_missing_compiler_is_one_sentence(tmp_path: Path) -> None:
    workspace = ready(tmp_path / "redarte", {"train.jit": True})
    done = workspace.stage("train", "red1", check=False, KERAS_BACKEND="torch", CXX="/nowhere/c++", PATH=BARE)
    assert done.returncode == 1
    assert re.fullmatch(
        r"redarte train red1: train\.jit is true, and torch cannot compile steps here \(.*\); "
        r"set train\.jit to false\.",
        done.stderr.strip(),
    ), done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_backend_is_a_parameter(tmp_path: Path, backend: str) -> None:
    """train.backend overrides KERAS_BACKEND, and the metrics name the backend."""
    workspace = ready(tmp_path / "redarte", {"train.backend": backend})
    workspace.stage("train", "red1", KERAS_BACKEND="tensorflow")
    assert workspace.metrics("train_red1")["backend"] == backend


@pytest.mark.skipif(bool(devices.gpu_names()), reason="there is a GPU")
def test_a_requested_gpu_that_does_not_exist_is_refused(settings: MakeSettings) -> None:
    with pytest.raises(UserError, match=r"train\.device is gpu, and tensorflow finds no GPU: `redarte"):
        devices.prepare(0, settings({"train.device": "gpu"}).train)


class Card(Accelerator):
    """Stands in for a backend with a GPU that cannot compute."""

    def __init__(self, can_leave_gpu: bool = True) -> None:
        self.found = [Gpu("Card", 7.0)]
        self.can_leave_gpu = can_leave_gpu

    def gpus(self) -> list[Gpu]:
        return self.found

    def use_cpu(self) -> None:
        self.found = []


def broken(jit: bool) -> None:
    raise RuntimeError("no kernel image is available\nfor execution on the device")


def test_a_gpu_that_cannot_compute(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "_step", broken)
    monkeypatch.setattr(devices, "accelerator", Card())
    devices.prepare(0, settings().train)
    assert devices.gpu_names() == []
    problem = "tensorflow cannot compute on the Card (no kernel image is available)"
    assert capsys.readouterr().out == f"{problem}: training on the CPU\n"
    for card, device in ((Card(), "gpu"), (Card(can_leave_gpu=False), "auto")):
        monkeypatch.setattr(devices, "accelerator", card)
        with pytest.raises(UserError) as caught:
            devices.prepare(0, settings({"train.device": device}).train)
        assert str(caught.value).startswith(f"train.device is {device}, and {problem}; set train.device to cpu, or")


def test_a_compiler_that_fails(settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_step", broken)
    with pytest.raises(UserError, match=r"train\.jit is true, and .* cannot compile steps here \(no kernel .*to false"):
        devices.prepare(0, settings({"train.jit": True}).train)


@pytest.mark.long
def test_compiled_steps_train(tmp_path: Path, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = job_of(settings({"train.epochs": 6, "train.batch_size": 4, "train.jit": True}), tmp_path)
    history = loop.train(job, tmp_path / "history.csv").history
    assert history[-1]["loss"] < history[0]["loss"]


ALLOCATE = """
from redarte import devices
from redarte.devices.backend import keras
try:
    keras.ops.convert_to_numpy(keras.ops.ones((2**46,)))
except Exception as error:
    print(devices.accelerator.is_out_of_memory(error), devices.accelerator.is_out_of_memory(ValueError()))
"""


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.long), *BACKENDS])
def test_out_of_memory_errors_are_recognised(workspace: Workspace, backend: str) -> None:
    source = str(workspace.path / "src")
    done = workspace.run("python", "-c", ALLOCATE, KERAS_BACKEND=backend, PYTHONPATH=source)
    assert done.stdout == "True False\n", done.stderr
