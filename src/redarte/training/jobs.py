"""What is trained, and how: Adam on the categorical cross-entropy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from redarte import devices
from redarte.devices.backend import keras
from redarte.images.dataset import Dataset
from redarte.params import Train
from redarte.training import batches


@dataclass(frozen=True)
class TrainingJob:
    """One model to train, and everything that its weights depend on.

    Attributes:
        build: takes a dtype policy, and returns the model before training.
        origin: what `build` depends on beside the code, as JSON values: a training is resumed only where it is the
            same.
    """

    name: str
    settings: Train
    seed: int
    train: Dataset
    val: Dataset
    build: Callable[[str], keras.Model]
    origin: list[Any]

    def batch_size(self, devices: int) -> int:
        """Returns how many images all devices together see in a step: a multiple of the number of devices."""
        return max(devices, self.settings.batch_size - self.settings.batch_size % devices)

    def steps(self, devices: int) -> int:
        """Returns the number of steps in an epoch."""
        return batches.steps(self.train, self.batch_size(devices), devices)


def compile_model(model: keras.Model, settings: Train, policy: str, steps: int) -> keras.Model:
    """Compiles a model for training."""
    adam = keras.optimizers.Adam(_learning_rate(settings, steps))
    model.compile(
        # Without scaling, most gradients underflow in 16-bit numbers with a 5-bit exponent.
        optimizer=keras.optimizers.LossScaleOptimizer(adam) if policy == "mixed_float16" else adam,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        jit_compile=settings.jit or devices.accelerator.always_compiles,
    )
    return model


def class_weights(train: Dataset, settings: Train) -> np.ndarray | None:
    """Returns the weight of an image of each artist: (artists,), float32; the mean over the images is 1.

    Returns:
        None where train.class_weight is `none`.
    """
    if settings.class_weight == "none":
        return None
    counts = np.bincount(train.labels, minlength=len(train.artists))
    # The weight of an artist without images is never used.
    return (len(train) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)


def _learning_rate(settings: Train, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate: constant, or a cosine (Loshchilov and Hutter, "SGDR", 2017) after one epoch of warm-up."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, steps * (settings.epochs - 1)),
        warmup_target=settings.learning_rate,
        warmup_steps=steps,
    )
