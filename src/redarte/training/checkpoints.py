"""The history of a training, and its state after every epoch, so that it can go on after an interruption."""

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

from redarte.runtime import outputs
from redarte.runtime.console import say
from redarte.runtime.errors import first_line
from redarte.training.backend import keras

FOLDER = Path("models/.checkpoints")
_STATE, _NETWORK, _BEST = "state.json", "network.keras", "best.weights.h5"
# Of the trainings of one network that were interrupted with other parameters or code: how many are kept, and how many
# bytes they may take together. The oldest are deleted first.
_MOST_OTHERS = 3
_MOST_BYTES = 4 * 2**30

# One epoch: epoch (from 1), accuracy, loss, val_accuracy, val_loss.
Row = dict[str, float]


def best_epoch(history: list[Row]) -> int:
    """The first epoch (from 1) with the highest val accuracy."""
    return max(range(len(history)), key=lambda index: (history[index]["val_accuracy"], -index)) + 1


def history_csv(history: list[Row]) -> str:
    """plots/train_redN.csv: epoch, split (train or val), accuracy, loss."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "split", "accuracy", "loss"])
    for row in history:
        for split, prefix in (("train", ""), ("val", "val_")):
            values = (f"{row[prefix + name]:.6f}" for name in ("accuracy", "loss"))
            writer.writerow([int(row["epoch"]), split, *values])
    return text.getvalue()


class Checkpoint:
    """models/.checkpoints/<network>/<fingerprint>/<epochs done>/: the network with its optimizer, the history, the best
    weights.

    It is outside of DVC's outputs, which are deleted before a stage runs, and is used only by a training with the same
    fingerprint. Those of other fingerprints stay, so that a training that was interrupted goes on after another value
    has been tried.

    Attributes:
        network: as it was after the last complete epoch; None where there is nothing to go on from.
        history: one row for each epoch done.
    """

    def __init__(self, name: str, fingerprint: str, epochs: int, resume: bool, keep_best: bool, write: bool):
        """Looks for a state to go on from. One that is damaged is reported, and training starts before it.

        Args:
            name: the network's.
            fingerprint: of everything that the weights depend on but the number of epochs.
            epochs: a state of more epochs than this is of no use, and stays.
            resume: keep what a later run needs to go on, and use what an earlier one kept.
            keep_best: keep the weights of the best epoch.
            write: false on all but one of several machines, which share the folder.
        """
        self.network: keras.Model | None = None
        self.history: list[Row] = []
        self._name, self._place = name, FOLDER / name / fingerprint[:16]
        self._fingerprint, self._epochs = fingerprint, epochs
        self._resume, self._keep_best, self._write = resume, keep_best, write
        if not resume or not self._find():
            self.forget()
        if write:
            _delete_oldest(self._place)

    def write(self, network: keras.Model, row: Row) -> None:
        """Adds an epoch: writes the new state beside the one before, and only then deletes that."""
        before = self._folder
        self.history.append(row)
        if not self._write:
            return
        with outputs.atomic_folder(self._folder) as folder:
            if self._resume:
                network.save(folder / _NETWORK)
            if self._keep_best and best_epoch(self.history) == len(self.history):
                network.save_weights(folder / _BEST)
            elif self._keep_best:
                shutil.copyfile(before / _BEST, folder / _BEST)
            digests = {file.name: _digest(file) for file in sorted(folder.iterdir())}
            state = {"fingerprint": self._fingerprint, "history": self.history, "digests": digests}
            outputs.write_text(folder / _STATE, json.dumps(state))
        shutil.rmtree(before, ignore_errors=True)

    def restore_best(self, network: keras.Model) -> None:
        """Gives a network the weights of the best epoch."""
        network.load_weights(self._folder / _BEST)

    def forget(self) -> None:
        """Drops the states of this training, but for those of more epochs than it has."""
        if not self._write or not self._place.is_dir():
            return
        for folder in self._place.iterdir():
            if not self._has_more_epochs(folder):
                shutil.rmtree(folder, ignore_errors=True)
        for empty in (self._place, self._place.parent):
            if not any(empty.iterdir()):
                empty.rmdir()

    @property
    def _folder(self) -> Path:
        return self._place / f"{len(self.history):05d}"

    def _has_more_epochs(self, folder: Path) -> bool:
        """Whether a state is of more epochs than this training has."""
        return folder.name.isdecimal() and int(folder.name) > self._epochs

    def _find(self) -> bool:
        for folder in sorted(self._place.glob("[0-9]*"), reverse=True):
            if self._has_more_epochs(folder):
                continue
            try:
                self.network, self.history = self._load(folder)
                return True
            except Exception as error:
                # Of a power cut, a full disk or another version: JSON, HDF5 and Keras fail each in its own way.
                say(f"{self._name}: the checkpoint {folder} is damaged and not used ({first_line(error)})")
        return False

    def _load(self, folder: Path) -> tuple[keras.Model, list[Row]]:
        """The network and the history of a state.

        Raises:
            Exception: of any kind, where it is not complete.
        """
        state: dict[str, Any] = outputs.read_json(folder / _STATE)
        history: list[Row] = state["history"]
        if state["fingerprint"] != self._fingerprint or len(history) != int(folder.name):
            raise ValueError(f"{_STATE} is of another training")
        if any(not {"epoch", "accuracy", "loss", "val_accuracy", "val_loss"} <= set(row) for row in history):
            raise ValueError(f"{_STATE} has no history")
        for name in (_NETWORK, _BEST) if self._keep_best else (_NETWORK,):
            if name not in state["digests"]:
                raise ValueError(f"{name} was not saved, because train.resume was false")
            if _digest(folder / name) != state["digests"][name]:
                raise ValueError(f"{name} is not what was written")
        return keras.saving.load_model(folder / _NETWORK, safe_mode=True), history


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()[:32]


def _delete_oldest(own: Path) -> None:
    """Keeps the last few states of other trainings of the same network, within the limit on disk."""
    if not own.parent.is_dir():
        return
    others = [folder for folder in own.parent.iterdir() if folder.is_dir() and folder != own]
    total = 0
    for number, folder in enumerate(sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True)):
        total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if number >= _MOST_OTHERS or total > _MOST_BYTES:
            shutil.rmtree(folder, ignore_errors=True)
