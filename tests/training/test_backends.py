"""The same training by JAX and PyTorch, whose CPU builds `make test-all` installs; and what is told of a backend."""

import importlib.util
import json
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

from redarte.runtime.errors import UserError
from redarte.training import devices, trial
from redarte.training.accelerator import Accelerator, Gpu
from redarte.training.backend import keras
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
from tests.training.test_loop import MakeSettings, epochs_written, folder_of

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
    """A workspace with pictures to train on: 26 squares and the originals that they were made of."""
    workspace = new_workspace(path, {"train.precision": "float32"} | changes)
    for split, each in (("train", 13), ("val", 3)):
        for place in ("resized", "split"):
            folder_of(workspace.path / "data" / place / split, {"Ana": each, "Bente": each}, side=32)
    return workspace


def losses(workspace: Workspace) -> list[float]:
    """Of train and val in the first two epochs, before what was rounded elsewhere has grown."""
    rows = (workspace.path / "plots/train_red1.csv").read_text().splitlines()[1:5]
    return [float(row.rpartition(",")[2]) for row in rows]


def outputs(workspace: Workspace) -> dict[str, bytes]:
    return {name: (workspace.path / name).read_bytes() for name in OUTPUTS}


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_backend_learns_what_tensorflow_does_and_is_exported(tmp_path: Path, backend: str) -> None:
    workspace = ready(tmp_path / "redarte", {"train.epochs": 6, "red1.l2": 0.0001, "train.class_weight": "balanced"})
    workspace.stage("train", "red1")
    by_tensorflow = losses(workspace)
    out = workspace.stage("train", "red1", KERAS_BACKEND=backend).stdout
    assert f"red1: 26 pictures, 1 × CPU, float32, by {backend}\n" in out
    metrics = workspace.metrics("train_red1")
    assert (metrics["backend"], metrics["device"]) == (backend, "CPU")
    # Each backend draws other weights to begin with.
    assert losses(workspace)[0] == pytest.approx(by_tensorflow[0], rel=0.3)
    rows = (workspace.path / "plots/train_red1.csv").read_text().splitlines()
    assert float(rows[-2].rpartition(",")[2]) < 0.95 * float(rows[1].rpartition(",")[2])
    first = outputs(workspace)
    workspace.stage("train", "red1", KERAS_BACKEND=backend)
    assert outputs(workspace) == first
    # The export, which is TensorFlow's, compares every val picture's probabilities with those of the network.
    assert "agrees with Keras" in workspace.stage("export", "red1", KERAS_BACKEND=backend).stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path: Path, backend: str) -> None:
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
    assert re.fullmatch(r"redarte train red1: interrupted; \d+ whole epochs are kept for `dvc repro`\.\n", err), err
    # Another backend does not go on with it.
    assert "going on" in workspace.stage("train", "red1", KERAS_BACKEND=backend).stdout
    assert outputs(workspace) == undisturbed


@pytest.mark.parametrize("backend", BACKENDS)
def test_everything_switched_on(tmp_path: Path, backend: str) -> None:
    switched_on = {
        "train.epochs": 4,
        "train.schedule": "cosine",
        "train.label_smoothing": 0.1,
        "train.class_weight": "balanced",
        "train.online": True,
        "train.patience": 3,
    }
    workspace = ready(tmp_path / "redarte", switched_on)
    for precision in ("mixed_bfloat16", "mixed_float16"):
        workspace.set({"train.precision": precision})
        workspace.stage("train", "red1", KERAS_BACKEND=backend, REDARTE_MEMORY="0")
        metrics = workspace.metrics("train_red1")
        assert metrics["precision"] == precision
        assert np.isfinite([metrics["loss"], metrics["val_loss"]]).all()


# A GPU holds the pictures as this tensor does.
RESIDENT = """
import runpy, sys
from redarte.training import devices
devices.resident = devices._own.put
sys.argv = ["train", "red1"]
runpy.run_module("redarte.stages.train", run_name="__main__")
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_pictures_that_lie_on_the_device_teach_the_same(tmp_path: Path, backend: str) -> None:
    workspace = ready(tmp_path / "redarte", {"train.epochs": 2})
    workspace.stage("train", "red1", KERAS_BACKEND=backend)
    before = outputs(workspace)
    source = str(workspace.path / "src")
    workspace.run("python", "-c", RESIDENT, KERAS_BACKEND=backend, PYTHONPATH=source)
    assert outputs(workspace) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_beyond_the_study(tmp_path: Path, backend: str) -> None:
    backbone = save_backbone(tmp_path / "tiny.keras")
    both = FISHER | finetuning_params(backbone) | {"beyond": ["fisher", "finetuned"]}
    workspace = ready(tmp_path / "redarte", both)
    for name in ("fisher", "finetuned"):
        workspace.stage("train", name, KERAS_BACKEND=backend)
        assert workspace.metrics(f"train_{name}")["backend"] == backend
        assert "agrees with Keras" in workspace.stage("export", name, KERAS_BACKEND=backend).stdout


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed: make test-all")
def test_two_devices_of_jax_learn_what_one_does(tmp_path: Path) -> None:
    """25 pictures in batches of 8 leave one for the last batch, which two devices cannot share."""
    workspace = ready(tmp_path / "redarte", {"train.epochs": 2})
    workspace.stage("train", "red1", KERAS_BACKEND="jax")
    alone = losses(workspace)
    two: Any = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert "26 pictures, 2 × CPU, float32, by jax" in workspace.stage("train", "red1", **two).stdout
    assert losses(workspace) == pytest.approx(alone, rel=1e-3)
    write_painting(workspace.path / "data/resized/train/Ana/more.jpg", 32, 32, seed=7)
    write_painting(workspace.path / "data/resized/val/Ana/more.jpg", 32, 32, seed=8)
    workspace.stage("train", "red1", **two)
    assert np.isfinite(losses(workspace)).all()


LACKING = "tensorflow tf2onnx onnx onnxruntime gradio dvc albumentations matplotlib imagehash"
IMPORTS = (
    f"import sys; sys.modules.update(dict.fromkeys({LACKING!r}.split())); "
    "import redarte.stages.train, redarte.networks.study, benchmarks.gpu"
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_benchmark_for_gpus_runs_on_a_cpu_and_without_what_a_gpu_machine_lacks(backend: str) -> None:
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
    assert f"{backend} on CPU: Red 1, 56 pictures of 16 px, 10 epochs, batch 32," in done.stdout
    rows = [line.split(" | ")[:4] for line in done.stdout.splitlines() if line.startswith(f"| {backend} ")]
    assert [row[1:] for row in rows] == [
        [name, "8", precision] for name in ("red1", "red3") for precision in ("mixed_bfloat16", "float32")
    ]
    assert done.stdout.count(f"| plain Keras, {backend} ") == 2


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        ("mxnet", "KERAS_BACKEND is 'mxnet'; set it to tensorflow, jax or torch, or unset it."),
        ("openvino", "KERAS_BACKEND is 'openvino'; set it to tensorflow, jax or torch, or unset it."),
        pytest.param(
            "jax",
            "KERAS_BACKEND is jax, which is not installed; type `make install BACKEND=jax`, or unset it.",
            marks=pytest.mark.skipif(importlib.util.find_spec("jax") is not None, reason="it is installed"),
        ),
    ],
)
def test_a_backend_that_is_none_is_one_sentence(workspace: Workspace, backend: str, told: str) -> None:
    for command in (("python", "-m", "redarte.stages.train", "red1"), ("redarte", "doctor")):
        done = workspace.run(*command, check=False, KERAS_BACKEND=backend)
        assert (done.returncode, done.stderr) == (1, f"redarte: {told}\n")


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_machines_are_tensorflows_alone(tmp_path: Path, backend: str) -> None:
    workspace = ready(tmp_path / "redarte", {})
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    done = workspace.stage("train", "red1", check=False, KERAS_BACKEND=backend, TF_CONFIG=json.dumps(config))
    assert done.returncode == 1
    assert done.stderr == (
        f"redarte train red1: TF_CONFIG names 2 machines, and {backend} learns on one; unset TF_CONFIG, or "
        "KERAS_BACKEND.\n"
    )


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed: make test-all")
def test_a_compiler_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    workspace = ready(tmp_path / "redarte", {"train.jit": True})
    done = workspace.stage("train", "red1", check=False, KERAS_BACKEND="torch", CXX="/nowhere/c++", PATH=BARE)
    assert done.returncode == 1
    assert re.fullmatch(
        r"redarte train red1: train\.jit is true, and torch cannot compile steps for the CPU \(.*\); set it to auto\.",
        done.stderr.strip(),
    ), done.stderr


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed: make test-all")
def test_jax_without_xla_is_refused(tmp_path: Path) -> None:
    workspace = ready(tmp_path / "redarte", {"train.jit": False})
    done = workspace.stage("train", "red1", check=False, KERAS_BACKEND="jax")
    assert done.stderr == (
        "redarte train red1: train.jit is false, and jax has no steps that are not compiled; set it to auto.\n"
    )


@pytest.mark.skipif(bool(devices.gpu_names()), reason="there is a GPU")
def test_a_gpu_that_is_wished_for_and_not_there_stops(settings: MakeSettings) -> None:
    with pytest.raises(UserError, match=r"train\.device is gpu, and tensorflow sees none here: `redarte"):
        devices.prepare(0, settings({"train.device": "gpu"}).train)


@pytest.mark.long
def test_a_step_is_tried_in_a_process_of_its_own(settings: MakeSettings) -> None:
    outcome = trial.run(trial.small, settings({"train.batch_size": 4}).train, "float32")
    assert outcome.plain is not None
    assert outcome.compiled is not None
    assert outcome.plain > 0
    assert outcome.reason == ""


class Card(Accelerator):
    """Stands in for a backend with a GPU, whose steps are tried on the CPU."""

    def __init__(self) -> None:
        self.found = [Gpu("Card", 7.0)]

    def gpus(self) -> list[Gpu]:
        return self.found

    def tries(self, wish: bool | str, on_gpu: bool) -> bool:
        return on_gpu

    def use_cpu(self) -> None:
        self.found = []


def dying(mark: Path, on_call: int) -> trial.Build:
    """A network whose process ends while it is built so many times: as LLVM ends it for a GPU that it does not know."""

    def build(policy: str) -> Any:
        with mark.open("a") as file:
            file.write("x")
        if mark.stat().st_size == on_call:
            print("LLVM ERROR: PTX 8.5 does not support sm_120", file=sys.stderr, flush=True)
            os.abort()
        return trial.small(policy)

    return build


@pytest.mark.parametrize(
    ("on_call", "on_gpu"),
    [pytest.param(1, False, id="no kernels"), pytest.param(2, True, id="no XLA", marks=pytest.mark.long)],
)
def test_a_gpu_that_cannot_compute_and_one_that_xla_does_not_know(
    tmp_path: Path,
    settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    on_call: int,
    on_gpu: bool,
) -> None:
    monkeypatch.setattr(devices, "_own", Card())
    reason = "LLVM ERROR: PTX 8.5 does not support sm_120"
    jit = devices.prepare(0, settings().train, dying(tmp_path / "auto", on_call))
    assert not jit
    assert devices.gpu_names() == (["Card"] if on_gpu else [])
    assert capsys.readouterr().out == (
        f"tensorflow cannot compile steps for the Card ({reason}): training without\n"
        if on_gpu
        else f"tensorflow cannot compute on the Card here ({reason}): training on the CPU\n"
    )
    monkeypatch.setattr(devices, "_own", Card())
    asked = {"train.jit": True} if on_gpu else {"train.device": "gpu"}
    with pytest.raises(UserError, match=rf"{'|'.join(asked)} is .*\({reason}\); set it to auto"):
        devices.prepare(0, settings(asked).train, dying(tmp_path / "asked", on_call))


@pytest.mark.long
def test_too_little_memory_in_a_trial_is_left_to_the_training(settings: MakeSettings) -> None:
    def too_large(policy: str) -> Any:
        return keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(2**40)])

    assert trial.run(too_large, settings().train, "float32") == trial.Outcome(0.0, 0.0)


ALLOCATE = """
from redarte.training import devices
from redarte.training.backend import keras
try:
    keras.ops.convert_to_numpy(keras.ops.ones((2**46,)))
except Exception as error:
    print(devices.is_out_of_memory(error), devices.is_out_of_memory(ValueError()))
"""


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.long), *BACKENDS])
def test_too_little_memory_is_known_as_such(workspace: Workspace, backend: str) -> None:
    source = str(workspace.path / "src")
    done = workspace.run("python", "-c", ALLOCATE, KERAS_BACKEND=backend, PYTHONPATH=source)
    assert done.stdout == "True False\n", done.stderr


def test_xla_is_used_where_it_is_quicker(settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, used in ((0.5, True), (1.05, True), (1.2, False)):
        monkeypatch.setattr(devices, "_own", Card())
        monkeypatch.setattr(trial, "run", lambda *_, seconds=seconds: trial.Outcome(1.0, seconds))
        assert devices.prepare(0, settings().train) == used
        assert devices.prepare(0, settings({"train.jit": True}).train)
        assert not devices.prepare(0, settings({"train.jit": False}).train)
