"""The state of a training after every epoch, so that an interrupted training resumes."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from redarte.devices.backend import keras
from redarte.runtime import outputs, paths
from redarte.runtime.console import say
from redarte.runtime.errors import first_line
from redarte.training.history import Row, best_epoch

_STATE, _MODEL, _VARIABLES, _BEST = "state.json", "model.keras", "variables.npz", "best.weights.h5"
# Checkpoints of the same model with other parameters or code: how many are kept, and how many bytes they may take
# together. The oldest are deleted first.
_MAX_OTHERS = 3
_MAX_BYTES = 4 * 2**30


class Checkpoint:
    """models/.checkpoints/<model>/<fingerprint>/<epochs done>/: the model with its optimizer and whole state,
    history, best weights.

    The folder is outside of DVC's outputs, which are deleted before a stage runs. Only a training with the same
    fingerprint uses a checkpoint. Those with other fingerprints stay, so that an interrupted training resumes after
    another value of a parameter has been tried.

    Args:
        fingerprint: a hash of everything that the weights depend on except the number of epochs.
        epochs: a checkpoint with more epochs is not used, and stays.

    Attributes:
        model: the model after the last complete epoch; None where there is no usable checkpoint.
        history: one row for each epoch done.
    """

    def __init__(self, name: str, fingerprint: str, epochs: int, keep_best: bool):
        self.model: keras.Model | None = None
        self.history: list[Row] = []
        self._name, self._root = name, paths.CHECKPOINTS / name / fingerprint[:16]
        self._fingerprint, self._epochs = fingerprint, epochs
        self._keep_best = keep_best
        if not self._find():
            self.delete()
        _delete_oldest(self._root)

    def write(self, model: keras.Model, row: Row) -> None:
        """Adds an epoch: writes the new state beside the previous one, and deletes the previous one afterwards."""
        previous = self._folder
        self.history.append(row)
        with outputs.atomic_folder(self._folder) as folder:
            model.save(folder / _MODEL)
            np.savez(folder / _VARIABLES, *map(keras.ops.convert_to_numpy, _variables(model)))
            if self._keep_best and best_epoch(self.history) == len(self.history):
                model.save_weights(folder / _BEST)
            elif self._keep_best:
                shutil.copyfile(previous / _BEST, folder / _BEST)
            digests = {file.name: _digest(file) for file in sorted(folder.iterdir())}
            state = {"fingerprint": self._fingerprint, "history": self.history, "digests": digests}
            outputs.write_text(folder / _STATE, json.dumps(state))
        shutil.rmtree(previous, ignore_errors=True)

    def restore_best(self, model: keras.Model) -> None:
        """Loads the weights of the best epoch into a model."""
        model.load_weights(self._folder / _BEST)

    def delete(self) -> None:
        """Deletes the checkpoints of this training, except those with more epochs than it has."""
        if not self._root.is_dir():
            return
        for folder in self._root.iterdir():
            if not self._has_more_epochs(folder):
                shutil.rmtree(folder, ignore_errors=True)
        for parent in (self._root, self._root.parent):
            if not any(parent.iterdir()):
                parent.rmdir()

    @property
    def _folder(self) -> Path:
        return self._root / f"{len(self.history):05d}"

    def _has_more_epochs(self, folder: Path) -> bool:
        return folder.name.isdecimal() and int(folder.name) > self._epochs

    def _find(self) -> bool:
        for folder in sorted(self._root.glob("[0-9]*"), reverse=True):
            if self._has_more_epochs(folder):
                continue
            try:
                self.model, self.history = self._load(folder)
                return True
            except Exception as error:
                # After a power cut, a full disk or an upgrade: JSON, HDF5 and Keras raise different exceptions.
                say(f"{self._name}: the checkpoint {folder} is corrupt and not used ({first_line(error)})")
        return False

    def _load(self, folder: Path) -> tuple[keras.Model, list[Row]]:
        """Loads the model and the history of a checkpoint; raises exceptions of any kind where it is corrupt."""
        state: dict[str, Any] = outputs.read_json(folder / _STATE)
        history: list[Row] = state["history"]
        if state["fingerprint"] != self._fingerprint or len(history) != int(folder.name):
            raise ValueError(f"{_STATE} belongs to another training")
        if any(not {"epoch", "accuracy", "loss", "val_accuracy", "val_loss"} <= set(row) for row in history):
            raise ValueError(f"{_STATE} has no history")
        for name in (_MODEL, _VARIABLES, *((_BEST,) if self._keep_best else ())):
            if _digest(folder / name) != state["digests"][name]:
                raise ValueError(f"{name} has changed since it was written")
        model = keras.saving.load_model(folder / _MODEL, safe_mode=True)
        with np.load(folder / _VARIABLES) as stored:
            for variable, value in zip(_variables(model), stored.values(), strict=True):
                variable.assign(value)
        return model, history


def _variables(model: keras.Model) -> list[Any]:
    """What Keras 3.15 does not store completely with a model: the states of the random generators of dropout, and
    weights that a layer stores in another shape, as DINOv2 its position embeddings.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()[:32]


def _delete_oldest(root: Path) -> None:
    """Deletes old checkpoints of other trainings of the same model."""
    if not root.parent.is_dir():
        return
    others = [folder for folder in root.parent.iterdir() if folder.is_dir() and folder != root]
    total = 0
    for number, folder in enumerate(sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True)):
        total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if number >= _MAX_OTHERS or total > _MAX_BYTES:
            shutil.rmtree(folder, ignore_errors=True)
