"""What happens beside the steps of a training: the history, the checkpoint, the progress bar, and the end in time."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from redarte.runtime import outputs
from redarte.runtime.errors import UserError
from redarte.training import batches, devices, machines
from redarte.training.backend import keras
from redarte.training.checkpoints import Checkpoint, best_epoch, history_csv
from redarte.training.jobs import TrainingJob, compile_network


class TrainingCallback(keras.callbacks.Callback):
    """Keeps the history, the checkpoint and the progress bar, and ends the training in time."""

    # Keras need not wait for a batch's loss, and so for the device, to tell the progress bar of it.
    async_safe = True

    def __init__(self, job: TrainingJob, policy: str, checkpoint: Checkpoint, history_file: Path, jit: bool):
        super().__init__()
        count = devices.count()
        self.job = job
        self.checkpoint = checkpoint
        # Val pictures are measured on one device, all of them and in order: dealt out among several, the last
        # batch could leave one without a picture.
        with devices.one_device():
            self.measured = compile_network(job.build(policy), job.settings, policy, steps=1, jit=jit)
        self.history_file = history_file
        # On several devices an epoch leaves a few pictures out.
        self._pictures = len(job.train) - len(job.train) % count
        self._batch_size = job.batch_size(count)
        self._bar: tqdm[Any] | None = None
        self._started = 0.0

    def is_over(self) -> bool:
        """Whether the last epoch is done, or patience is at its end."""
        history, patience = self.checkpoint.history, self.job.settings.patience
        waited = len(history) - best_epoch(history) if history else 0
        return len(history) >= self.job.settings.epochs or bool(patience and waited >= patience)

    def write_history(self) -> None:
        if machines.is_first():
            outputs.write_text(self.history_file, history_csv(self.checkpoint.history))

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._bar = tqdm(
            total=self.job.settings.epochs * self._pictures,
            initial=len(self.checkpoint.history) * self._pictures,
            desc=self.job.name,
            unit=" pictures",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._bar is not None:
            missing = (batch + 1) * self._batch_size - self._pictures
            self._bar.update(self._batch_size - max(missing, 0))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        batch_size = self.job.settings.batch_size
        with devices.one_device():
            self.measured.set_weights(self.model.get_weights())
            measured = self.measured.evaluate(
                batches.ordered_batches(self.job.val, batch_size),
                steps=batches.steps(self.job.val, batch_size),
                verbose=0,
                return_dict=True,
            )
        # Machines that measure a little differently must not stop in different epochs.
        measured = dict(zip(measured, devices.of_the_first(list(measured.values())), strict=True))
        row = {"epoch": epoch + 1, **(logs or {}), **{f"val_{name}": value for name, value in measured.items()}}
        row = {name: float(value) for name, value in row.items()}
        wrong = [name for name, value in row.items() if not np.isfinite(value)]
        if wrong:
            raise UserError(
                f"{self.job.name}: {' and '.join(wrong)} is NaN or infinite in epoch {epoch + 1}; lower "
                f"train.learning_rate (now {self.job.settings.learning_rate:g}), or set train.precision to float32."
            )
        self.checkpoint.write(self.model, row)
        self.write_history()
        seconds = time.monotonic() - self._started
        tqdm.write(
            f"{self.job.name} epoch {epoch + 1}/{self.job.settings.epochs}: accuracy {row['accuracy']:.3f}, "
            f"val accuracy {row['val_accuracy']:.3f}, {len(self.job.train) / seconds:.0f} pictures a second"
        )
        if self.is_over():
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._bar is not None:
            self._bar.close()
