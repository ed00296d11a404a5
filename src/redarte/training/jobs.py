"""What is to be learned, and by which rule: Adam on the categorical cross-entropy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from redarte.params import Train
from redarte.training import batches
from redarte.training.backend import keras
from redarte.training.dataset import Pictures


@dataclass(frozen=True)
class TrainingJob:
    """One network to train, and everything that its weights depend on.

    Attributes:
        build: gives the network as it is before training, by its dtype policy.
        origin: what `build` depends on, as JSON takes it: a training goes on only where this is the same.
    """

    name: str
    settings: Train
    seed: int
    train: Pictures
    val: Pictures
    build: Callable[[str], keras.Model]
    origin: list[Any]

    def batch_size(self, devices: int) -> int:
        """How many pictures all devices together see in a step."""
        return max(devices, self.settings.batch_size - self.settings.batch_size % devices)

    def steps(self, devices: int) -> int:
        """How many steps an epoch has."""
        return batches.steps(self.train, self.batch_size(devices), devices)


def compile_network(network: keras.Model, settings: Train, policy: str, steps: int, jit: bool = False) -> keras.Model:
    """A network, ready to fit: Adam on the categorical cross-entropy.

    Args:
        policy: the dtype policy that it was built with.
        steps: in an epoch.
        jit: whether its steps are compiled, as `devices.prepare` decides.
    """
    adam = keras.optimizers.Adam(_learning_rate(settings, steps))
    network.compile(
        # Without scaling, most gradients are too small for 16 bits with a 5-bit exponent.
        optimizer=keras.optimizers.LossScaleOptimizer(adam) if policy == "mixed_float16" else adam,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        jit_compile=jit,
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


def class_weights(train: Pictures, settings: Train) -> np.ndarray | None:
    """What a picture of each artist counts: (artists,) float32, 1 on the mean of the pictures.

    Returns:
        None where train.class_weight is `none`.
    """
    if settings.class_weight == "none":
        return None
    counts = np.bincount(train.labels, minlength=len(train.artists))
    # An artist without a picture has a weight too, which is of no consequence.
    return (len(train) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
