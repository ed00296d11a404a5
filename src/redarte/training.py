"""Compile and fit: early stopping, going on after an interruption, the history."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from redarte import batches, checkpoints, dataset, devices, outputs
from redarte.backend import keras, tf
from redarte.checkpoints import Checkpoint, Row, best_epoch, history_csv
from redarte.console import say
from redarte.dataset import Pictures
from redarte.errors import UserError
from redarte.params import NetworkName, Train


@dataclass(frozen=True)
class Job:
    """One network to train, and everything that its weights depend on.

    Attributes:
        build: gives the network as it is before training, by its dtype policy.
        origin: what `build` depends on, as JSON takes it: a training goes on only where this is the same.
    """

    name: NetworkName
    settings: Train
    seed: int
    train: Pictures
    val: Pictures
    build: Callable[[str], keras.Model]
    origin: list[Any]


@dataclass
class Result:
    """A trained network.

    Attributes:
        network: in float32 whatever it was trained in, so that every machine can use it.
        checkpoint: holds its history; to be forgotten once the network is saved.
        epoch: the epoch whose weights it has, from 1.
        precision: what it was trained in.
    """

    network: keras.Model
    checkpoint: Checkpoint
    epoch: int
    precision: str

    @property
    def history(self) -> list[Row]:
        """One row an epoch."""
        return self.checkpoint.history

    def metrics(self) -> dict[str, float | int | str]:
        """The content of metrics/train_redN.json; accuracy and val_accuracy are the study's Table I."""
        row = self.history[self.epoch - 1]
        return {
            "accuracy": round(row["accuracy"], 6),
            "val_accuracy": round(row["val_accuracy"], 6),
            "loss": round(row["loss"], 6),
            "val_loss": round(row["val_loss"], 6),
            "epoch": self.epoch,
            "best_epoch": best_epoch(self.history),
            "epochs_run": len(self.history),
            "parameters": self.network.count_params(),
            "precision": self.precision,
        }


def train(job: Job, history_file: Path) -> Result:
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
    devices.prepare(job.seed, settings.deterministic)
    strategy = devices.strategy()
    policy = devices.precision(settings.precision)
    kind = devices.gpu_names()[0] if devices.gpu_names() else "CPU"
    count = strategy.num_replicas_in_sync
    say(f"{job.name}: {len(job.train)} pictures, {count} × {kind}, {policy}")
    fingerprint = _fingerprint(job, policy)
    with strategy.scope():
        checkpoint = Checkpoint(
            job.name, fingerprint, settings.epochs, settings.resume,
            keep_best=settings.patience > 0, write=devices.is_first(),
        )  # fmt: skip
        network = checkpoint.network or compiled(job.build(policy), settings, policy, _steps(job, count))
    if checkpoint.history:
        say(f"{job.name}: going on after epoch {len(checkpoint.history)}")
    keeper = _Keeper(job, policy, checkpoint, history_file, count)
    try:
        _agree(job, fingerprint, checkpoint)
        _fit(job, network, keeper, strategy)
    except BaseException:
        if devices.is_first():
            history_file.unlink(missing_ok=True)
        raise
    epoch = len(checkpoint.history)
    if settings.patience:
        epoch = best_epoch(checkpoint.history)
        if devices.is_first():
            checkpoint.restore_best(network)
    return Result(_in_float32(job, network), checkpoint, epoch, policy)


def _agree(job: Job, fingerprint: str, checkpoint: Checkpoint) -> None:
    """Makes sure that several machines are about to learn the same, from the same epoch on."""
    # Of the fingerprint as much as a float32 can hold, twice.
    seen = devices.gathered([len(checkpoint.history), int(fingerprint[:6], 16), int(fingerprint[6:12], 16)])
    if any(other != seen[0] for other in seen):
        raise UserError(
            f"{job.name}: the machines of TF_CONFIG do not have the same pictures, parameters, code, precision and "
            "models/.checkpoints; let them share the project's folder, and set train.precision if their devices differ."
        )


def _fit(job: Job, network: keras.Model, keeper: "_Keeper", strategy: tf.distribute.Strategy) -> None:
    if keeper.is_over():
        keeper.write_history()
        return
    first = len(keeper.checkpoint.history)
    count = strategy.num_replicas_in_sync
    batch_size = _batch_size(job, count)
    if min(batch_size, len(job.train)) < count:
        raise UserError(f"{count} devices need at least as many pictures in a batch; raise train.batch_size.")

    def feed(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = count // context.num_input_pipelines
        mine = range(context.input_pipeline_id * here, (context.input_pipeline_id + 1) * here)
        return batches.training_batches(
            job.train, batch_size, job.seed, range(first, job.settings.epochs), count, mine,
            job.settings.online, weights_of_artists(job.train, job.settings),
        )  # fmt: skip

    try:
        network.fit(
            strategy.distribute_datasets_from_function(feed),
            initial_epoch=first,
            epochs=job.settings.epochs,
            steps_per_epoch=_steps(job, count),
            shuffle=False,
            callbacks=[keeper],
            verbose=0,
        )
    except KeyboardInterrupt:
        kept = len(keeper.checkpoint.history) if job.settings.resume else 0
        raise KeyboardInterrupt(f"interrupted; {kept} whole epochs are kept for `dvc repro`.") from None
    except tf.errors.ResourceExhaustedError:
        raise UserError(
            f"{job.name} needs more memory than the device has; lower train.batch_size (now {batch_size}) "
            "or resize.size."
        ) from None
    except (tf.errors.UnavailableError, tf.errors.AbortedError):
        # What is lost between this machine's own devices is not a person's to mend.
        if devices.machine()[1] == 1:
            raise
        raise UserError(
            f"{job.name}: another machine of TF_CONFIG was lost; start it again on all of them: it goes on after "
            f"epoch {len(keeper.checkpoint.history) if job.settings.resume else 0}."
        ) from None


def weights_of_artists(train: Pictures, settings: Train) -> np.ndarray | None:
    """What a picture of each artist counts: (artists,) float32, 1 on the mean of the pictures.

    Returns:
        None where train.class_weight is `none`.
    """
    if settings.class_weight == "none":
        return None
    counts = np.bincount(train.labels, minlength=len(train.artists))
    # An artist without a picture has a weight too, which is of no consequence.
    return (len(train) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)


def compiled(network: keras.Model, settings: Train, policy: str, steps: int) -> keras.Model:
    """A network, ready to fit: Adam on the categorical cross-entropy.

    Args:
        policy: the dtype policy that it was built with.
        steps: in an epoch.
    """
    adam = keras.optimizers.Adam(_learning_rate(settings, steps))
    network.compile(
        # Without scaling, most gradients are too small for 16 bits with a 5-bit exponent.
        optimizer=keras.optimizers.LossScaleOptimizer(adam) if policy == "mixed_float16" else adam,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        # XLA compiles for the GPU; on CPUs it measured 2 to 5 times slower than TensorFlow's own kernels.
        jit_compile="auto" if devices.gpu_names() else False,
    )
    return network


def _learning_rate(settings: Train, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The step of Adam: one number, or a cosine (Loshchilov and Hutter, "SGDR", 2017) after an epoch of warm-up."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps * (settings.epochs - 1)),
        warmup_target=settings.learning_rate,
        warmup_steps=steps,
    )


def _batch_size(job: Job, device_count: int) -> int:
    return job.settings.batch_size - job.settings.batch_size % device_count


def _steps(job: Job, device_count: int) -> int:
    return batches.steps(job.train, max(_batch_size(job, device_count), device_count), device_count)


def _in_float32(job: Job, network: keras.Model) -> keras.Model:
    twin = job.build("float32")
    twin.set_weights(network.get_weights())
    return twin


def code_of(module: ModuleType) -> str:
    """The text of a module, for `Job.origin`."""
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def _fingerprint(job: Job, policy: str) -> str:
    # More epochs are a longer way along the same path, unless the step falls to none by the last.
    free = {"resume"} if job.settings.schedule == "cosine" else {"epochs", "resume"}
    parts: list[Any] = [
        job.settings.model_dump(exclude=free),
        job.origin,
        job.seed,
        policy,
        job.train.digest(),
        job.val.digest(),
        keras.version(),
        tf.__version__,
        *(code_of(module) for module in (dataset, batches, checkpoints, sys.modules[__name__])),
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


class _Keeper(keras.callbacks.Callback):
    """Keeps the history, the checkpoint and the progress bar, and ends the training in time."""

    # Keras need not wait for a batch's loss, and so for the device, to tell the progress bar of it.
    async_safe = True

    def __init__(self, job: Job, policy: str, checkpoint: Checkpoint, history_file: Path, count: int):
        super().__init__()
        self.job = job
        self.checkpoint = checkpoint
        # Val pictures are measured on one device, all of them and in order: dealt out among several, the last
        # batch could leave one without a picture.
        self.measured = compiled(job.build(policy), job.settings, policy, steps=1)
        self.history_file = history_file
        # On several devices an epoch leaves a few pictures out.
        self._pictures = len(job.train) - len(job.train) % count
        self._batch_size = _batch_size(job, count)
        self._bar: tqdm[Any] | None = None
        self._started = 0.0

    def is_over(self) -> bool:
        """Whether the last epoch is done, or patience is at its end."""
        history, patience = self.checkpoint.history, self.job.settings.patience
        waited = len(history) - best_epoch(history) if history else 0
        return len(history) >= self.job.settings.epochs or bool(patience and waited >= patience)

    def write_history(self) -> None:
        if devices.is_first():
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
        self.measured.set_weights(self.model.get_weights())
        val = batches.ordered_batches(self.job.val, self.job.settings.batch_size)
        measured = self.measured.evaluate(val, verbose=0, return_dict=True)
        # Machines that measure a little differently must not stop in different epochs.
        measured = dict(zip(measured, devices.of_the_first(list(measured.values())), strict=True))
        row = {"epoch": epoch + 1, **(logs or {}), **{f"val_{name}": value for name, value in measured.items()}}
        row = {name: float(value) for name, value in row.items()}
        if not np.isfinite(row["loss"]):
            raise UserError(
                f"{self.job.name}: the loss is no longer a number in epoch {epoch + 1}; lower train.learning_rate "
                f"(now {self.job.settings.learning_rate:g})."
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
