"""Learns what a job says, on all devices, and goes on after an interruption."""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from redarte.runtime.console import say
from redarte.runtime.errors import UserError
from redarte.training import batches, callbacks, checkpoints, dataset, devices, jobs, machines
from redarte.training.backend import NAME, VERSION, keras
from redarte.training.callbacks import TrainingCallback
from redarte.training.checkpoints import Checkpoint, Row, best_epoch
from redarte.training.jobs import TrainingJob, class_weights, compile_network

Metrics = dict[str, float | int | str]


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        network: in float32 whatever it was trained in, so that every machine can use it.
        metrics: the content of metrics/train_<network>.json.
        history: a row an epoch; one row where it was fitted at once.
        checkpoint: to be deleted once the network is saved; None where there was none.
        embeddings: of the training pictures that are no copies, (features,) float32 each, by "<artist>/<stem>.jpg", as
            `decompose` gives them; None where they were not computed on the way.
    """

    network: keras.Model
    metrics: Metrics
    history: list[Row]
    checkpoint: Checkpoint | None = None
    embeddings: dict[str, np.ndarray] | None = None


def train(job: TrainingJob, history_file: Path) -> Trained:
    """Trains a network, or goes on with a training that was interrupted.

    Args:
        history_file: the CSV that grows by two rows (train, val) with every epoch; it is deleted where the
            training ends before its time.

    Raises:
        UserError: the loss is no longer a number, the device has too little memory, or of several machines one is
            lost or has other pictures, parameters or code.
        KeyboardInterrupt: Ctrl-C, with a message that says what is kept.
    """
    settings = job.settings
    jit = devices.prepare(job.seed, settings, job.build)
    policy = devices.precision(settings.precision)
    count = devices.count()
    say(f"{job.name}: {len(job.train)} pictures, {count} × {devices.facts()['device']}, {policy}, by {NAME}")
    fingerprint = _fingerprint(job, policy, jit)
    with devices.scope():
        checkpoint = Checkpoint(
            job.name, fingerprint, settings.epochs, settings.resume,
            keep_best=settings.patience > 0, write=machines.is_first(),
        )  # fmt: skip
        network = checkpoint.network or compile_network(job.build(policy), settings, policy, job.steps(count), jit)
    if checkpoint.history:
        say(f"{job.name}: going on after epoch {len(checkpoint.history)}")
    keeping = TrainingCallback(job, policy, checkpoint, history_file, jit)
    try:
        _agree(job, fingerprint, checkpoint)
        _fit(job, network, keeping)
    except BaseException:
        if machines.is_first():
            history_file.unlink(missing_ok=True)
        raise
    epoch = len(checkpoint.history)
    if settings.patience:
        epoch = best_epoch(checkpoint.history)
        if machines.is_first():
            checkpoint.restore_best(network)
    twin = _in_float32(job, network)
    metrics = _metrics(checkpoint.history, epoch) | {"parameters": twin.count_params(), "precision": policy}
    return Trained(twin, metrics, checkpoint.history, checkpoint)


def _metrics(history: list[Row], epoch: int) -> Metrics:
    """What metrics/train_<network>.json says of the epoch, from 1, whose weights are kept; accuracy and val_accuracy
    are the study's Table I."""
    row = history[epoch - 1]
    names = ("accuracy", "val_accuracy", "loss", "val_loss")
    return {
        **{name: round(row[name], 6) for name in names},
        "epoch": epoch,
        "best_epoch": best_epoch(history),
        "epochs_run": len(history),
    }


def _agree(job: TrainingJob, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Makes sure that several machines are about to learn the same, from the same epoch on."""
    # Of the fingerprint as much as a float32 can hold, twice.
    seen = devices.gathered([len(checkpoint.history), int(fingerprint[:6], 16), int(fingerprint[6:12], 16)])
    if any(other != seen[0] for other in seen):
        raise UserError(
            f"{job.name}: the machines of TF_CONFIG do not have the same pictures, parameters, code, precision and "
            "models/.checkpoints; let them share the project's folder, and set train.precision if their devices differ."
        )


def _fit(job: TrainingJob, network: keras.Model, keeping: TrainingCallback) -> None:
    if keeping.is_over():
        keeping.write_history()
        return
    first, count = len(keeping.checkpoint.history), devices.count()
    batch_size = job.batch_size(count)
    if min(job.settings.batch_size, len(job.train)) < count:
        raise UserError(f"{count} devices need at least as many pictures in a batch; raise train.batch_size.")
    try:
        train = job.train if job.settings.online else job.train.moved(devices.resident)
        weights = class_weights(train, job.settings)
        network.fit(
            devices.deal(
                lambda mine: batches.training_batches(
                    train, batch_size, job.seed, range(first, job.settings.epochs), count, mine,
                    job.settings.online, weights,
                )
            ),
            initial_epoch=first,
            epochs=job.settings.epochs,
            steps_per_epoch=job.steps(count),
            shuffle=False,
            callbacks=[keeping],
            verbose=0,
        )  # fmt: skip
    except KeyboardInterrupt:
        kept = len(keeping.checkpoint.history) if job.settings.resume else 0
        raise KeyboardInterrupt(f"interrupted; {kept} whole epochs are kept for `dvc repro`.") from None
    except Exception as error:
        # Each backend has exceptions of its own.
        if devices.is_out_of_memory(error):
            raise UserError(
                f"{job.name} needs more memory than the device has; lower train.batch_size (now {batch_size}) "
                "or resize.side."
            ) from None
        if devices.is_lost(error):
            raise UserError(
                f"{job.name}: another machine of TF_CONFIG was lost; start it again on all of them: it goes on after "
                f"epoch {len(keeping.checkpoint.history) if job.settings.resume else 0}."
            ) from None
        raise


def _in_float32(job: TrainingJob, network: keras.Model) -> keras.Model:
    twin = job.build("float32")
    twin.set_weights(network.get_weights())
    return twin


def code_of(module: ModuleType) -> str:
    """The text of a module, for `TrainingJob.origin`."""
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def _fingerprint(job: TrainingJob, policy: str, jit: bool) -> str:
    # More epochs are a longer way along the same path, unless the step falls to none by the last.
    free = {"resume"} if job.settings.schedule == "cosine" else {"epochs", "resume"}
    parts: list[Any] = [
        job.settings.model_dump(exclude=free),
        job.origin,
        job.seed,
        policy,
        jit,
        job.train.digest(),
        job.val.digest(),
        keras.version(),
        NAME,
        VERSION,
        *(code_of(module) for module in (dataset, batches, checkpoints, jobs, callbacks, sys.modules[__name__])),
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
