"""The Keras callback of a training: validation, history, checkpoint, progress bar and early stopping."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from redarte import devices
from redarte.devices.backend import keras
from redarte.runtime import outputs
from redarte.runtime.errors import UserError
from redarte.training import batches, history
from redarte.training.checkpoints import Checkpoint
from redarte.training.jobs import TrainingJob


class TrainingCallback(keras.callbacks.Callback):
    """Validates after every epoch, writes history and checkpoint, and stops when patience is exhausted."""

    # Keras need not wait for a batch's loss, and thus for the device, before it calls this callback.
    async_safe = True

    def __init__(self, job: TrainingJob, checkpoint: Checkpoint, history_file: Path):
        super().__init__()
        count = devices.accelerator.count()
        self.job = job
        self.checkpoint = checkpoint
        self.history_file = history_file
        self._images = batches.images_per_epoch(job.train, count)
        self._batch_size = job.batch_size(count)
        self._bar: tqdm[Any] | None = None
        self._started = 0.0

    def is_over(self) -> bool:
        """Returns whether the last epoch is done, or patience is exhausted."""
        rows, patience = self.checkpoint.history, self.job.settings.patience
        waited = len(rows) - history.best_epoch(rows) if rows else 0
        return len(rows) >= self.job.settings.epochs or bool(patience and waited >= patience)

    def write_history(self) -> None:
        """Writes the history so far."""
        outputs.write_text(self.history_file, history.to_csv(self.checkpoint.history))

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._bar = tqdm(
            total=self.job.settings.epochs * self._images,
            initial=len(self.checkpoint.history) * self._images,
            desc=self.job.name,
            unit=" images",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._bar is not None:
            missing = (batch + 1) * self._batch_size - self._images
            self._bar.update(self._batch_size - max(missing, 0))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        row = {"epoch": epoch + 1, **(logs or {}), **self._validate()}
        row = {name: float(value) for name, value in row.items()}
        wrong = [name for name, value in row.items() if not np.isfinite(value)]
        if wrong:
            raise UserError(
                f"{self.job.name}: {' and '.join(wrong)} is NaN or infinite in epoch {epoch + 1}; lower "
                f"train.learning_rate (now {self.job.settings.learning_rate:g}), or set train.precision to float32."
            )
        self.checkpoint.write(self.model, row)
        self.write_history()
        seconds, epochs = time.monotonic() - self._started, self.job.settings.epochs
        left = f", {tqdm.format_interval((epochs - epoch - 1) * seconds)} left" if epoch + 1 < epochs else ""
        tqdm.write(
            f"{self.job.name} epoch {epoch + 1}/{epochs}: accuracy {row['accuracy']:.3f}, "
            f"val accuracy {row['val_accuracy']:.3f}, {len(self.job.train) / seconds:.0f} images a second{left}"
        )
        if self.is_over():
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._bar is not None:
            self._bar.close()

    def _validate(self) -> dict[str, float]:
        """Accuracy and loss on val.

        Every device sees whole batches: split among devices, the last batch could leave one without an image.
        """
        val, totals = self.job.val, {"loss": 0.0, "accuracy": 0.0}
        with devices.one_device():
            for pixels, labels in batches.ordered_batches(val, self.job.settings.batch_size):
                measured = self.model.test_on_batch(pixels, labels, return_dict=True)
                for name in totals:
                    totals[name] += float(measured[name]) * len(pixels)
        return {f"val_{name}": total / len(val) for name, total in totals.items()}
