"""What an interrupted training left: used, or reported and ignored; and kept while other parameters are tried."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from redarte.training import checkpoints
from redarte.training.backend import keras
from redarte.training.checkpoints import Checkpoint, Row

A, B = "a" * 32, "b" * 32


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models/.checkpoints/red1"


@pytest.fixture(scope="module")
def network() -> keras.Model:
    built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    built.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return built


def row(epoch: int) -> Row:
    return {"epoch": epoch, "accuracy": 0.5, "loss": 1.0, "val_accuracy": epoch / 100, "val_loss": 1.0}


def opened(fingerprint: str = A, epochs: int = 60, resume: bool = True, keep_best: bool = True) -> Checkpoint:
    return Checkpoint("red1", fingerprint, epochs, resume, keep_best, write=True)


def interrupted(network: keras.Model, fingerprint: str = A, epochs: int = 3, resume: bool = True) -> None:
    checkpoint = opened(fingerprint, resume=resume)
    for epoch in range(1, epochs + 1):
        checkpoint.write(network, row(epoch))


def test_a_complete_one_is_used(place: Path, network: keras.Model) -> None:
    interrupted(network)
    found = opened()
    assert found.history == [row(1), row(2), row(3)]
    assert found.network is not None
    for one, other in zip(found.network.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    found.forget()
    assert not place.exists()


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def zero_the_middle(file: Path) -> None:
    content = file.read_bytes()
    third = len(content) // 3
    file.write_bytes(content[:third] + bytes(third) + content[2 * third :])


@pytest.mark.parametrize("name", ["state.json", "network.keras", "best.weights.h5"])
@pytest.mark.parametrize("damage", [truncate, zero_the_middle, Path.unlink, lambda file: os.truncate(file, 0)])
def test_a_damaged_one_is_reported_and_training_starts_from_epoch_1(
    place: Path, network: keras.Model, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    interrupted(network)
    damage(next(place.glob(f"*/00003/{name}")))
    found = opened()
    assert (found.network, found.history) == (None, [])
    told = capsys.readouterr().out
    assert told.startswith(
        "red1: the checkpoint models/.checkpoints/red1/aaaaaaaaaaaaaaaa/00003 is damaged and not used ("
    )
    assert told.count("\n") == 1
    assert not place.exists()


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"fingerprint": 1}', '{"history": 3}', "[" * 99999])
def test_another_json_is_reported(place: Path, network: keras.Model, content: str) -> None:
    interrupted(network)
    next(place.glob("*/00003/state.json")).write_text(content)
    assert opened().history == []


def test_one_that_was_begun_without_resume_is_not_used(place: Path, network: keras.Model) -> None:
    interrupted(network, resume=False)
    assert list(place.rglob("best.weights.h5")) and not list(place.rglob("network.keras"))
    assert opened().history == []
    assert not place.exists()


def test_one_of_other_parameters_stays_until_its_network_is_saved(place: Path, network: keras.Model) -> None:
    interrupted(network, A, epochs=5)
    other = opened(B)
    assert other.history == []
    other.write(network, row(1))
    other.forget()
    assert len(opened(A).history) == 5


def test_only_the_last_few_of_other_parameters_stay(
    place: Path, network: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        interrupted(network, f"{number}" * 32, epochs=1)
        os.utime(place / (f"{number}" * 16), (number, number))
    opened("f" * 32)
    assert sorted(folder.name[0] for folder in place.iterdir()) == ["3", "4", "5"]
    size = sum(file.stat().st_size for file in (place / ("5" * 16)).rglob("*") if file.is_file())
    monkeypatch.setattr(checkpoints, "_MOST_BYTES", size)
    opened("f" * 32)
    assert [folder.name[0] for folder in place.iterdir()] == ["5"]


def test_fewer_epochs_than_were_done_do_not_delete_them(place: Path, network: keras.Model) -> None:
    interrupted(network, epochs=5)
    short = opened(epochs=2)
    assert short.history == []
    for epoch in (1, 2):
        short.write(network, row(epoch))
    short.forget()
    assert len(opened(epochs=60).history) == 5
    assert json.loads(next(place.glob("*/00005/state.json")).read_text())["fingerprint"] == A
    shutil.rmtree(place)
