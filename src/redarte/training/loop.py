"""Trains a model on all devices, and resumes an interrupted training."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from redarte import devices
from redarte.devices.backend import NAME, VERSION, keras
from redarte.runtime import provenance
from redarte.runtime.console import say
from redarte.runtime.errors import UserError
from redarte.training import batches, history
from redarte.training.callbacks import TrainingCallback
from redarte.training.checkpoints import Checkpoint
from redarte.training.history import Metrics, Row
from redarte.training.jobs import TrainingJob, class_weights, compile_model


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        model: in float32, whatever the precision of the training, so that every machine can use it.
        history: one row an epoch; a single row for a model without epochs.
        checkpoint: to be deleted once the model is saved; None where there is none.
        embeddings: "<artist>/<stem>" -> (features,), float32, of the training images without copies, as `decompose`
            computes them; None where the training did not compute them.
    """

    model: keras.Model
    metrics: Metrics
    history: list[Row]
    checkpoint: Checkpoint | None = None
    embeddings: dict[str, np.ndarray] | None = None


def train(job: TrainingJob, history_file: Path) -> Trained:
    """Trains a model, or resumes an interrupted training.

    Args:
        history_file: the CSV that grows by two rows (train, val) with every epoch; it is deleted if the training fails.
    """
    settings = job.settings
    devices.prepare(job.seed, settings)
    policy = devices.precision(settings.precision)
    count = devices.accelerator.count()
    say(f"{job.name}: {len(job.train)} images, {count} × {devices.facts()['device']}, {policy}, by {NAME}")
    if not job.train.in_memory:
        say(
            f"{job.name}: reading images from the disk in every epoch: decoded they take "
            f"{job.train.decoded_size / 1e9:.1f} GB, more than REDARTE_MEMORY or half of the free memory"
        )
    fingerprint = _fingerprint(job, policy)
    with devices.accelerator.scope():
        checkpoint = Checkpoint(job.name, fingerprint, settings.epochs, keep_best=settings.patience > 0)
        model = checkpoint.model or compile_model(job.build(policy), settings, policy, job.steps(count))
    if checkpoint.history:
        say(f"{job.name}: resuming after epoch {len(checkpoint.history)}")
    callback = TrainingCallback(job, checkpoint, history_file)
    try:
        _fit(job, model, callback)
    except BaseException:
        history_file.unlink(missing_ok=True)
        raise
    epoch = len(checkpoint.history)
    if settings.patience:
        epoch = history.best_epoch(checkpoint.history)
        checkpoint.restore_best(model)
    float32_model = job.build("float32")
    float32_model.set_weights(model.get_weights())
    metrics = _metrics(checkpoint.history, epoch) | {
        "learning_rate": settings.learning_rate,
        "parameters": float32_model.count_params(),
        "precision": policy,
    }
    return Trained(float32_model, metrics, checkpoint.history, checkpoint)


def _metrics(rows: list[Row], epoch: int) -> Metrics:
    """The content of metrics/train_<model>.json for the epoch (from 1) whose weights are kept.

    accuracy and val_accuracy are the columns of the study's Table I.
    """
    row = rows[epoch - 1]
    names = ("accuracy", "val_accuracy", "loss", "val_loss")
    return {
        **{name: round(row[name], 6) for name in names},
        "epoch": epoch,
        "best_epoch": history.best_epoch(rows),
        "epochs_run": len(rows),
    }


def _fit(job: TrainingJob, model: keras.Model, callback: TrainingCallback) -> None:
    if callback.is_over():
        callback.write_history()
        return
    first, count = len(callback.checkpoint.history), devices.accelerator.count()
    batch_size, crop = job.batch_size(count), job.settings.random_crop_flip
    if min(job.settings.batch_size, len(job.train)) < count:
        raise UserError(f"{count} devices need at least as many images in a batch; raise train.batch_size.")
    try:
        # Crops are made on the CPU.
        train = job.train if crop else job.train.with_decoded(devices.to_device)
        weights, epochs = class_weights(train, job.settings), range(first, job.settings.epochs)
        model.fit(
            devices.accelerator.distribute(
                lambda split: batches.training_batches(train, batch_size, job.seed, epochs, count, split, crop, weights)
            ),
            initial_epoch=first,
            epochs=job.settings.epochs,
            steps_per_epoch=job.steps(count),
            shuffle=False,
            callbacks=[callback],
            verbose=0,
        )
    except KeyboardInterrupt:
        kept = len(callback.checkpoint.history)
        raise KeyboardInterrupt(f"interrupted; `dvc repro` resumes after {kept} complete epochs.") from None
    except Exception as error:
        # Each backend has its own exceptions.
        if devices.accelerator.is_out_of_memory(error):
            raise UserError(
                f"{job.name} needs more memory than the device has; lower train.batch_size (now {batch_size}) "
                "or resize.side."
            ) from None
        raise


def _fingerprint(job: TrainingJob, policy: str) -> str:
    # A training with more epochs continues one with fewer, unless the learning rate depends on the last epoch.
    ignored = set() if job.settings.schedule == "cosine" else {"epochs"}
    parts: list[Any] = [
        job.settings.model_dump(exclude=ignored),
        job.origin,
        job.seed,
        policy,
        job.train.digest(),
        job.val.digest(),
        keras.version(),
        NAME,
        VERSION,
        provenance.code_digest("images", "inference", "models", "training"),
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
