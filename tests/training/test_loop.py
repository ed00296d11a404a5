"""Training on a few images: batches, early stopping, interruption, precision."""

import csv
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from redarte import devices
from redarte.devices.backend import keras
from redarte.images import dataset
from redarte.images.dataset import Dataset
from redarte.models.study import training_job
from redarte.params import Params
from redarte.runtime.errors import UserError
from redarte.training import batches, history, jobs, loop
from redarte.training.batches import Batch
from redarte.training.history import Row
from redarte.training.jobs import TrainingJob
from tests.conftest import Workspace, new_workspace, write_painting

MakeSettings = Callable[..., Params]


def folder_of(tmp_path: Path, counts: dict[str, int], side: int = 16) -> Path:
    for artist, count in counts.items():
        for number in range(count):
            write_painting(tmp_path / artist / f"{number:03}.jpg", side, side, seed=len(artist) * 100 + number)
    return tmp_path


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    return dataset.load(folder_of(tmp_path / "train", {"Ana": 5, "Bente": 6}))


def labels_of(batches: Iterator[Batch]) -> list[list[int]]:
    return [np.argmax(labels, axis=1).tolist() for _, labels in batches]


def test_ordered_batches(images: Dataset) -> None:
    read = list(batches.ordered_batches(images, 4))
    assert [len(pixels) for pixels, _ in read] == [4, 4, 3]
    pixels = np.concatenate([pixels for pixels, _ in read])
    assert pixels.dtype == np.uint8
    assert pixels.shape == (11, 16, 16, 3)
    assert labels_of(batches.ordered_batches(images, 11)) == [[0] * 5 + [1] * 6]


def test_each_epoch_has_every_image_once_in_a_different_order(images: Dataset) -> None:
    drawn = list(batches.training_batches(images, 11, 0, range(3)))
    sums = [pixels.astype(int).sum(axis=(1, 2, 3)).tolist() for pixels, _ in drawn]
    assert sorted(sums[0]) == sorted(sums[1]) == sorted(sums[2])
    assert len(set(map(tuple, sums))) == 3


def test_resumed_batches_equal_uninterrupted_ones(images: Dataset) -> None:
    whole = labels_of(batches.training_batches(images, 4, 7, range(4)))
    assert labels_of(batches.training_batches(images, 4, 7, range(2, 4))) == whole[6:]
    assert labels_of(batches.training_batches(images, 4, 8, range(4))) != whole


def test_batches_are_split_among_devices(images: Dataset) -> None:
    whole, parts = (labels_of(batches.training_batches(images, 6, 0, range(2), 3, split)) for split in (False, True))
    assert [len(labels) for labels in parts] == [2, 2, 2, 1, 1, 1] * 2
    assert [[*one, *two, *three] for one, two, three in zip(*[iter(parts)] * 3, strict=True)] == whole
    assert batches.steps(images, 6, devices=3) == 2


def test_images_that_do_not_fit_in_memory_are_read_each_time(
    tmp_path: Path, images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDARTE_MEMORY", "0")
    from_disk = dataset.load(tmp_path / "train")
    assert from_disk._decoded is None
    assert images._decoded is not None
    one, other = (batches.training_batches(p, 4, 0, range(2)) for p in (images, from_disk))
    for (pixels, labels), (pixels_again, labels_again) in zip(one, other, strict=True):
        assert (pixels == pixels_again).all()
        assert (labels == labels_again).all()


@pytest.mark.parametrize("requested", ["much", "-1", "nan", "inf"])
def test_an_invalid_redarte_memory_is_refused(requested: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDARTE_MEMORY", requested)
    with pytest.raises(UserError, match=f"REDARTE_MEMORY is '{requested}'; set it to a number of gigabytes"):
        dataset.memory_limit()


def test_random_resized_crops_differ_between_epochs_and_are_deterministic(images: Dataset) -> None:
    def drawn(epochs: range) -> list[np.ndarray]:
        got = batches.training_batches(images, 4, 7, epochs, crop=True)
        return [pixels for pixels, _ in got]

    whole = drawn(range(3))
    assert all(pixels.shape[1:] == (16, 16, 3) and pixels.dtype == np.uint8 for pixels in whole)
    for one, other in zip(drawn(range(1, 3)), whole[3:], strict=True):
        np.testing.assert_array_equal(one, other)
    sums = [sorted(np.concatenate(whole[start : start + 3]).sum(axis=(1, 2, 3)).tolist()) for start in (0, 3, 6)]
    assert len(set(map(tuple, sums))) == 3
    # The order of the labels is the same as without crops.
    assert labels_of(batches.training_batches(images, 4, 7, range(3), crop=True)) == labels_of(
        batches.training_batches(images, 4, 7, range(3))
    )


def test_the_area_of_a_random_resized_crop() -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).round().astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    spans = []
    for seed in range(40):
        seen = batches.random_resized_crop(ramp, np.random.default_rng(seed))[0, :, 0].astype(int)
        spans.append(abs(int(seen[-1]) - int(seen[0])) / 255)
        assert (np.diff(seen) >= 0).all() or (np.diff(seen) <= 0).all()
    # 0.4 of the area with sides of 3:4 is 0.55 of the width.
    assert 0.5 < min(spans) < 0.75
    assert max(spans) > 0.9


def test_balanced_class_weights(images: Dataset, settings: MakeSettings) -> None:
    assert jobs.class_weights(images, settings().train) is None
    weights = jobs.class_weights(images, settings({"train.class_weight": "balanced"}).train)
    assert weights == pytest.approx([11 / 10, 11 / 12])
    batch = next(iter(batches.training_batches(images, 11, 0, range(1), weights=weights)))
    assert batch[2] == pytest.approx([11 / 10 if label == 0 else 11 / 12 for label in np.argmax(batch[1], 1)])


def test_the_cosine_schedule(settings: MakeSettings) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    chosen = settings({"train.schedule": "cosine", "train.epochs": 5, "train.learning_rate": 0.01}).train
    rate = jobs.compile_model(model, chosen, "float32", steps=10).optimizer._learning_rate
    steps = [float(rate(step)) for step in range(51)]
    assert steps[0] == 0
    assert steps[10] == pytest.approx(0.01)
    assert steps[50] == pytest.approx(0, abs=1e-9)
    assert (np.diff(steps[:11]) > 0).all()
    assert (np.diff(steps[11:]) < 0).all()


def test_label_smoothing(settings: MakeSettings) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    compiled = jobs.compile_model(model, settings({"train.label_smoothing": 0.2}).train, "float32", steps=1)
    loss = float(compiled.loss(np.array([[1.0, 0.0]]), np.array([[0.8, 0.2]])))
    assert loss == pytest.approx(-0.9 * np.log(0.8) - 0.1 * np.log(0.2), rel=1e-5)


def test_a_cosine_schedule_is_not_resumed_with_other_epochs(
    tmp_path: Path, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message: list[str] = []
    monkeypatch.setattr(loop, "say", message.append)
    for schedule, goes_on in (("constant", True), ("cosine", False)):
        for epochs in (1, 2):
            changes = {"train.schedule": schedule, "train.epochs": epochs, "train.precision": "float32"}
            loop.train(job_of(settings(changes), tmp_path), tmp_path / "history.csv")
        assert any("resuming after epoch 1" in line for line in message) == goes_on
        message.clear()


def test_training_with_all_options_learns(
    tmp_path: Path, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    switched_on = {"schedule": "cosine", "label_smoothing": 0.1, "class_weight": "balanced", "random_crop_flip": True}
    others = {"epochs": 20, "batch_size": 4, "precision": "float32"}
    chosen = settings({f"train.{name}": value for name, value in (switched_on | others).items()})
    result = loop.train(job_of(chosen, tmp_path, {"Ana": 4, "Bente": 9}), tmp_path / "history.csv")
    assert result.history[-1]["loss"] < 0.9 * result.history[0]["loss"]


def test_classes_are_the_models_even_if_a_split_lacks_one(tmp_path: Path) -> None:
    val = dataset.load(folder_of(tmp_path, {"Bente": 2}), ["Ana", "Bente", "Cleo"])
    assert val.labels.tolist() == [1, 1]
    with pytest.raises(UserError, match="was not trained on: Bente"):
        dataset.load(tmp_path, ["Ana"])


def test_the_digest_depends_on_names_and_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"Ana": 2, "Bente": 2})
    before = dataset.load(folder).digest()
    assert dataset.load(folder).digest() == before
    write_painting(folder / "Ana/001.jpg", 16, 16, seed=999)
    assert dataset.load(folder).digest() != before


@pytest.mark.parametrize(
    ("accuracies", "best"), [([0.1], 1), ([0.1, 0.3, 0.2], 2), ([0.3, 0.3, 0.3], 1), ([0.1, 0.2, 0.3], 3)]
)
def test_the_best_epoch(accuracies: list[float], best: int) -> None:
    assert history.best_epoch([{"val_accuracy": value} for value in accuracies]) == best


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    for requested in ("float32", "mixed_bfloat16", "mixed_float16"):
        assert devices.precision(requested) == requested
    cpu = Path("/proc/cpuinfo")
    fast = cpu.exists() and bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", cpu.read_text()))
    if not devices.gpu_names():
        assert devices.precision("auto") == ("mixed_bfloat16" if fast else "float32")


def job_of(settings: Params, tmp_path: Path, counts: dict[str, int] | None = None) -> TrainingJob:
    train = dataset.load(folder_of(tmp_path / "train", counts or {"Ana": 6, "Bente": 6}))
    val = dataset.load(folder_of(tmp_path / "val", {"Ana": 2, "Bente": 2}), train.artists)
    return training_job("red1", settings, train, val)


@pytest.mark.parametrize(
    "precision", ["float32", "mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.long)]
)
def test_a_training_learns_and_writes_its_history(
    tmp_path: Path, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = settings({"train.epochs": 12, "train.batch_size": 4, "train.precision": precision})
    result = loop.train(job_of(chosen, tmp_path), tmp_path / "history.csv")
    assert len(result.history) == result.metrics["epoch"] == 12
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["split"]) for row in rows[:3]] == [("1", "train"), ("1", "val"), ("2", "train")]
    assert float(rows[-1]["accuracy"]) == pytest.approx(result.history[-1]["val_accuracy"], abs=1e-6)
    metrics = result.metrics
    assert metrics["epochs_run"] == 12
    assert metrics["precision"] == precision
    assert metrics["parameters"] == 16 // 8 * 16 // 8 * 128 * 2 + 2 + 896 + 18_496 + 73_856


def test_patience_stops_and_keeps_the_best_weights(
    tmp_path: Path, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = settings({"train.epochs": 40, "train.batch_size": 4, "train.patience": 3, "train.precision": "float32"})
    wanted = job_of(chosen, tmp_path)
    result = loop.train(wanted, tmp_path / "history.csv")
    assert result.metrics["epoch"] == history.best_epoch(result.history)
    assert len(result.history) == int(result.metrics["epoch"]) + 3 < 40
    result.model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    _, accuracy = result.model.evaluate(batches.ordered_batches(wanted.val, 4), steps=1, verbose=0)
    assert accuracy == pytest.approx(result.history[int(result.metrics["epoch"]) - 1]["val_accuracy"])


def test_a_nan_loss_is_one_sentence(tmp_path: Path, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = settings({"train.epochs": 60, "train.learning_rate": 1.0, "red1.l2": 1.0, "train.precision": "float32"})
    wanted = job_of(chosen, tmp_path)
    monkeypatch.setattr(keras.optimizers, "Adam", lambda _rate: keras.optimizers.SGD(1e20))
    with pytest.raises(UserError, match=r"loss is NaN or infinite in epoch \d+; lower train\.learning_rate"):
        loop.train(wanted, tmp_path / "history.csv")


def test_a_nan_validation_loss_is_one_sentence(
    tmp_path: Path, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the training batches may be finite although the weights after the last batch are not."""
    monkeypatch.chdir(tmp_path)
    wanted = job_of(settings({"train.epochs": 1, "train.precision": "float32"}), tmp_path)

    class Breaks(keras.layers.Layer):
        def call(self, values: Any, training: bool = False) -> Any:
            return values if training else values * float("nan")

    def build(policy: str) -> Any:
        model = wanted.build(policy)
        return keras.Sequential([*model.layers[:-1], Breaks(), model.layers[-1]])

    with pytest.raises(UserError, match=r"val_loss is NaN or infinite in epoch 1; lower train\.learning_rate"):
        loop.train(replace(wanted, build=build), tmp_path / "history.csv")
    assert not (tmp_path / "history.csv").exists()


def test_history_csv_has_a_row_for_each_split() -> None:
    rows: list[Row] = [{"epoch": 1, "accuracy": 0.5, "loss": 1.25, "val_accuracy": 0.25, "val_loss": 2.0}]
    assert history.to_csv(rows) == ("epoch,split,accuracy,loss\n1,train,0.500000,1.250000\n1,val,0.250000,2.000000\n")


@pytest.fixture
def ready(tmp_path: Path) -> Workspace:
    """A workspace with images to train on, for more epochs than a test waits for."""
    workspace = new_workspace(tmp_path / "redarte", {"train.epochs": 60, "train.patience": 50})
    resized = workspace.path / "data/resized"
    folder_of(resized / "train", {"Ana": 12, "Bente": 12}, side=32)
    folder_of(resized / "val", {"Ana": 3, "Bente": 3}, side=32)
    return workspace


def epochs_written(workspace: Workspace) -> int:
    history = workspace.path / "plots/train_red1.csv"
    return len(history.read_text().splitlines()) // 2 if history.exists() else 0


def interrupt(workspace: Workspace, after: int, sent: signal.Signals) -> tuple[int, str, str]:
    """Starts the training, and sends it a signal once some epochs are written."""
    process = workspace.start("python", "-m", "redarte.stages.train", "red1")
    deadline = time.monotonic() + 120
    while epochs_written(workspace) < after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for child in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
        os.kill(child.pid, sent)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.long
def test_an_interrupted_training_resumes_to_the_same_bytes(ready: Workspace, tmp_path: Path) -> None:
    ready.stage("train", "red1")
    undisturbed = {name: (ready.path / name).read_bytes() for name in ("models/red1.keras", "plots/train_red1.csv")}
    for name in undisturbed:
        (ready.path / name).unlink()

    code, _, err = interrupt(ready, 5, signal.SIGINT)
    kept = int(re.findall(r"(\d+) complete epochs", err)[0])
    assert code == 130
    assert re.fullmatch(r"redarte train red1: interrupted; `dvc repro` resumes after \d+ complete epochs\.\n", err), err
    assert not (ready.path / "models/red1.keras").exists()
    assert not (ready.path / "plots/train_red1.csv").exists()

    assert interrupt(ready, kept + 5, signal.SIGKILL)[0] != 0
    again = ready.stage("train", "red1")
    assert re.search(r"red1: resuming after epoch \d+", again.stdout)
    for name, content in undisturbed.items():
        assert (ready.path / name).read_bytes() == content
    assert not (ready.path / "models/.checkpoints/red1").exists()


@pytest.mark.long
def test_a_checkpoint_of_other_parameters_is_not_used(ready: Workspace) -> None:
    interrupt(ready, 3, signal.SIGKILL)
    ready.set({"train.learning_rate": 0.002, "train.epochs": 2})
    assert "resuming" not in ready.stage("train", "red1").stdout
    ready.set({"train.learning_rate": 0.001, "train.epochs": 60})
    assert "resuming after epoch" in ready.stage("train", "red1").stdout


# Two logical CPUs stand for two GPUs: the strategy, the dealing out of batches and the checkpoints are the same.
TWO_DEVICES = """
import json, sys
from pathlib import Path
from redarte.devices.backend import native as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from redarte.images import dataset
from redarte import devices
from redarte.training import loop
from redarte import params
from redarte.models.study import training_job
if sys.argv[1] == "2":
    devices.accelerator.strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
settings = params.load()
train = dataset.load(Path("data/resized/train"))
val = dataset.load(Path("data/resized/val"), train.artists)
result = loop.train(training_job("red1", settings, train, val), Path("plots/train_red1.csv"))
print("RESULT" + json.dumps(result.history))
"""


def learn_on(count: int, ready: Workspace) -> list[Row]:
    done = ready.run("python", "-c", TWO_DEVICES, str(count), PYTHONPATH=str(ready.path / "src"))
    assert f"{count} × CPU" in done.stdout
    history: list[Row] = json.loads(done.stdout.rpartition("RESULT")[2])
    return history


@pytest.mark.long
def test_two_devices_train_like_one(ready: Workspace) -> None:
    ready.set({"train.epochs": 3, "train.patience": 0, "train.precision": "float32"})
    for one, two in zip(learn_on(1, ready), learn_on(2, ready), strict=True):
        assert two == pytest.approx(one, rel=0.02, abs=0.02)


@pytest.mark.long
def test_no_device_is_left_without_an_image(ready: Workspace) -> None:
    """25 and 7 images in batches of 8 leave one image for the last batch, which two devices cannot share."""
    write_painting(ready.path / "data/resized/train/Ana/more.jpg", 32, 32, seed=7)
    write_painting(ready.path / "data/resized/val/Ana/more.jpg", 32, 32, seed=8)
    ready.set({"train.epochs": 6, "train.patience": 0})
    rows = learn_on(2, ready)
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert rows[-1]["loss"] < rows[0]["loss"]
