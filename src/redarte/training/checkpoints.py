"""The history of a training, and its state after every epoch, so that it can go on after an interruption."""

import csv
import io
import json
import shutil
from pathlib import Path

from redarte.runtime import outputs
from redarte.training.backend import keras

FOLDER = Path("models/.checkpoints")
_BEST = "best.weights.h5"

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
    """models/.checkpoints/<network>/<epochs done>/: the network with its optimizer, the history, the best weights.

    It lies outside of DVC's outputs, which are deleted before a stage runs, and is used only by a training
    with the same fingerprint.

    Attributes:
        network: as it was after the last whole epoch; None where there is nothing to go on from.
        history: one row for each epoch done.
    """

    def __init__(self, name: str, fingerprint: str, epochs: int, resume: bool, keep_best: bool, write: bool):
        """Looks for a state to go on from, and drops those that cannot be used.

        Args:
            name: the network's.
            fingerprint: of everything that the weights depend on but the number of epochs.
            epochs: a state of more epochs than this is of no use.
            resume: keep what a later run needs to go on, and use what an earlier one kept.
            keep_best: keep the weights of the best epoch.
            write: false on all but one of several machines, which share the folder.
        """
        self.network: keras.Model | None = None
        self.history: list[Row] = []
        self._place = FOLDER / name
        self._fingerprint, self._resume, self._keep_best, self._write = fingerprint, resume, keep_best, write
        if not resume or not self._find(epochs):
            self.forget()

    def write(self, network: keras.Model, row: Row) -> None:
        """Adds an epoch: writes the new state beside the one before, and only then deletes that."""
        before = self._folder
        self.history.append(row)
        if not self._write:
            return
        with outputs.atomic_folder(self._folder) as folder:
            if self._resume:
                network.save(folder / "network.keras")
            if self._keep_best and best_epoch(self.history) == len(self.history):
                network.save_weights(folder / _BEST)
            elif self._keep_best:
                shutil.copyfile(before / _BEST, folder / _BEST)
            state = {"fingerprint": self._fingerprint, "history": self.history}
            outputs.write_text(folder / "state.json", json.dumps(state))
        shutil.rmtree(before, ignore_errors=True)

    def restore_best(self, network: keras.Model) -> None:
        """Gives a network the weights of the best epoch."""
        network.load_weights(self._folder / _BEST)

    def forget(self) -> None:
        """Drops every state of this network."""
        if self._write:
            shutil.rmtree(self._place, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self._place / f"{len(self.history):05d}"

    def _find(self, epochs: int) -> bool:
        for file in sorted(self._place.glob("[0-9]*/state.json"), reverse=True):
            state = outputs.read_json(file)
            if state["fingerprint"] == self._fingerprint and len(state["history"]) <= epochs:
                self.network = keras.saving.load_model(file.with_name("network.keras"), safe_mode=True)
                self.history = state["history"]
                return True
        return False
