"""Checkpoints of an interrupted training: used, or reported and ignored; and kept while other parameters are tried."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from redarte.devices.backend import keras
from redarte.training import checkpoints
from redarte.training.checkpoints import Checkpoint
from redarte.training.history import Row

A, B = "a" * 32, "b" * 32


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models/.checkpoints/red1"


@pytest.fixture(scope="module")
def model() -> keras.Model:
    built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    built.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return built


def row(epoch: int) -> Row:
    return {"epoch": epoch, "accuracy": 0.5, "loss": 1.0, "val_accuracy": epoch / 100, "val_loss": 1.0}


def opened(fingerprint: str = A, epochs: int = 60) -> Checkpoint:
    return Checkpoint("red1", fingerprint, epochs, keep_best=True)


def interrupted(model: keras.Model, fingerprint: str = A, epochs: int = 3) -> None:
    checkpoint = opened(fingerprint)
    for epoch in range(1, epochs + 1):
        checkpoint.write(model, row(epoch))


def test_a_complete_checkpoint_is_used(root: Path, model: keras.Model) -> None:
    interrupted(model)
    found = opened()
    assert found.history == [row(1), row(2), row(3)]
    assert found.model is not None
    for one, other in zip(found.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    found.delete()
    assert not root.exists()


@pytest.fixture
def dropout() -> keras.Model:
    """Two layers that draw random numbers, one of them in an inner model, and an optimizer with a state."""
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dropout(0.5, seed=1)])
    model = keras.Sequential([keras.Input((4,)), inner, layers.GaussianNoise(0.5, seed=2), layers.Dense(2)])
    model.compile(optimizer="adam", loss="mse", metrics=["accuracy"])
    return model


def state(model: keras.Model) -> list[tuple[str, list[float]]]:
    """Every variable of a model and its optimizer, except those of metrics, which each epoch sets to zero."""
    metrics = {id(variable) for variable in model.metrics_variables}
    return [
        (variable.name, np.asarray(keras.ops.convert_to_numpy(variable)).ravel().tolist())
        for variable in (*model.variables, *model.optimizer.variables)
        if id(variable) not in metrics
    ]


def test_a_resumed_training_draws_the_same_random_numbers(root: Path, dropout: keras.Model) -> None:
    """Keras does not store the state of dropout: the third epoch had the masks of the first."""
    x, y = np.random.default_rng(0).normal(size=(2, 64, 4)).astype("float32")
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    dropout.fit(x, y[:, :2], epochs=2, **fit)
    opened().write(dropout, row(1))
    resumed = opened().model
    assert resumed is not None

    assert [values for _, values in state(resumed)] == [values for _, values in state(dropout)]
    assert [name for name, _ in state(dropout)].count("seed_generator_state") == 2
    for model in (dropout, resumed):
        model.fit(x, y[:, :2], epochs=1, **fit)
    for one, other in zip(dropout.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def zero_the_middle(file: Path) -> None:
    content = file.read_bytes()
    third = len(content) // 3
    file.write_bytes(content[:third] + bytes(third) + content[2 * third :])


@pytest.mark.parametrize("name", ["state.json", "model.keras", "variables.npz", "best.weights.h5"])
@pytest.mark.parametrize("damage", [truncate, zero_the_middle, Path.unlink, lambda file: os.truncate(file, 0)])
def test_a_corrupt_checkpoint_is_reported_and_training_starts_at_epoch_1(
    root: Path, model: keras.Model, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    interrupted(model)
    damage(next(root.glob(f"*/00003/{name}")))
    found = opened()
    assert (found.model, found.history) == (None, [])
    message = capsys.readouterr().out
    assert message.startswith(
        "red1: the checkpoint models/.checkpoints/red1/aaaaaaaaaaaaaaaa/00003 is corrupt and not used ("
    )
    assert message.count("\n") == 1
    assert not root.exists()


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"fingerprint": 1}', '{"history": 3}', "[" * 99999])
def test_another_json_is_reported(root: Path, model: keras.Model, content: str) -> None:
    interrupted(model)
    next(root.glob("*/00003/state.json")).write_text(content)
    assert opened().history == []


def test_a_checkpoint_of_other_parameters_stays_until_its_model_is_saved(root: Path, model: keras.Model) -> None:
    interrupted(model, A, epochs=5)
    other = opened(B)
    assert other.history == []
    other.write(model, row(1))
    other.delete()
    assert len(opened(A).history) == 5


def test_only_the_newest_checkpoints_of_other_parameters_stay(
    root: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        interrupted(model, f"{number}" * 32, epochs=1)
        os.utime(root / (f"{number}" * 16), (number, number))
    opened("f" * 32)
    assert sorted(folder.name[0] for folder in root.iterdir()) == ["3", "4", "5"]
    size = sum(file.stat().st_size for file in (root / ("5" * 16)).rglob("*") if file.is_file())
    monkeypatch.setattr(checkpoints, "_MAX_BYTES", size)
    opened("f" * 32)
    assert [folder.name[0] for folder in root.iterdir()] == ["5"]


def test_fewer_epochs_than_were_done_do_not_delete_them(root: Path, model: keras.Model) -> None:
    interrupted(model, epochs=5)
    short = opened(epochs=2)
    assert short.history == []
    for epoch in (1, 2):
        short.write(model, row(epoch))
    short.delete()
    assert len(opened(epochs=60).history) == 5
    assert json.loads(next(root.glob("*/00005/state.json")).read_text())["fingerprint"] == A
    shutil.rmtree(root)
