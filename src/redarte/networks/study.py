"""Red 1, Red 2 and Red 3, as the study published them (its figures 13 to 15).

Three blocks of 3×3 "same" convolutions (32, 64 and 128 filters, ReLU), each followed by 2×2 max pooling;
Flatten; one dense layer with a softmax over the artists. Red 2 is Red 1 with an L1L2 penalty on its
kernels; Red 3 has a second 64-filter convolution. The study says that pictures are 224×224 while its
figures show 244×244: any side of 8 px or more works.

The one layer that the figures do not show divides 0–255 by 255. It has no parameters, and is inside the
network so that a saved network needs nothing beside it: pictures go in as they are.
"""

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from redarte.networks.base import Decomposition
from redarte.params import Params, Penalty, StudyName
from redarte.training import dataset, loop
from redarte.training.backend import keras
from redarte.training.dataset import Pictures
from redarte.training.jobs import TrainingJob
from redarte.training.loop import Trained

DESCRIPTION = (
    'One of the three networks of the student study "Redes Neuronales Convolucionales – Una aplicación práctica a '
    'obras de arte" (J. M. García Criado and F. M. Hidalgo Aguilar, Universidad de Sevilla), trained from new random '
    "weights by redarte: blocks of 32, 64 and 128 convolutional filters, then one dense layer with a softmax."
)
LICENSE = "mit"
READS_RESIZED = True

_FILTERS: dict[StudyName, tuple[tuple[int, ...], ...]] = {
    "red1": ((32,), (64,), (128,)),
    "red2": ((32,), (64,), (128,)),
    "red3": ((32,), (64, 64), (128,)),
}


def pictures(_settings: Params) -> tuple[Pictures, Pictures]:
    """The squares of data/resized: originals and copies in train, originals in val."""
    return dataset.resized()


def fit(name: str, settings: Params, train: Pictures, val: Pictures, history_file: Path) -> Trained:
    """Trains one of the three from new random weights, or goes on with a training that was interrupted.

    Raises:
        UserError: see `loop.train`.
    """
    return loop.train(training_job(cast(StudyName, name), settings, train, val), history_file)


def training_job(name: StudyName, settings: Params, train: Pictures, val: Pictures) -> TrainingJob:
    """What is to be trained, and everything that its weights depend on."""
    penalty: Penalty = getattr(settings, name)
    return TrainingJob(
        name, settings.train, settings.seed, train, val,
        build=lambda policy: build(name, train.side, len(train.artists), penalty, policy),
        origin=[penalty.model_dump(), loop.code_of(sys.modules[__name__])],
    )  # fmt: skip


def build(name: StudyName, side: int, artists: int, penalty: Penalty, precision: str = "float32") -> keras.Sequential:
    """Builds one of the study's networks, with new random weights.

    Args:
        name: red1, red2 or red3.
        side: of the square pictures, in px; 8 or more.
        artists: the number of classes.
        penalty: the L1L2 penalty on every kernel; all zero for none.
        precision: a Keras dtype policy; the dense layer and its softmax stay float32 under each.

    Returns:
        A network that takes RGB pictures of shape (batch, side, side, 3) with values of 0 to 255 and gives
        probabilities of shape (batch, artists), float32.
    """

    def regularizer() -> keras.Regularizer | None:
        return keras.regularizers.L1L2(penalty.l1, penalty.l2) if penalty.l1 or penalty.l2 else None

    layers: list[keras.Layer] = [
        keras.Input((side, side, 3), name="picture"),
        keras.layers.Rescaling(1 / 255, dtype=precision, name="rescaling"),
    ]
    for block, convolutions in enumerate(_FILTERS[name], start=1):
        for number, filters in enumerate(convolutions, start=1):
            layers.append(
                keras.layers.Conv2D(
                    filters, 3, padding="same", activation="relu", kernel_regularizer=regularizer(),
                    dtype=precision, name=f"conv{block}_{number}",
                )
            )  # fmt: skip
        layers.append(keras.layers.MaxPooling2D(2, dtype=precision, name=f"pool{block}"))
    layers += [
        keras.layers.Flatten(dtype=precision, name="flatten"),
        keras.layers.Dense(
            artists, activation="softmax", kernel_regularizer=regularizer(), dtype="float32", name="artists"
        ),
    ]
    return keras.Sequential(layers, name=name)


def decompose(network: keras.Model) -> Decomposition:
    """The last block's feature maps, and the dense layer's weights for each place and channel of them."""
    flatten, dense = network.layers[-2:]
    shape = tuple(flatten.input.shape[1:])
    trunk = keras.Model(network.inputs, flatten.input)

    def forward(picture: Any) -> tuple[Any, Any, Any]:
        feature_maps = trunk(picture, training=False)
        flat = keras.ops.reshape(feature_maps, (-1, int(np.prod(shape))))
        return feature_maps, flat, keras.ops.mean(feature_maps, axis=(1, 2))

    return Decomposition(forward, dense.kernel.numpy(), dense.bias.numpy(), shape)
