"""Red 1, Red 2 and Red 3, as the study published them (its figures 13 to 15).

Three blocks of 3×3 "same" convolutions (32, 64 and 128 filters, ReLU), each followed by 2×2 max pooling; Flatten; one
dense layer with a softmax over the artists. Red 2 is Red 1 with an L1L2 penalty on its kernels; Red 3 has a second
convolution of 64 filters. The study says that images are 224×224 while its figures show 244×244: any side of 8 px or
more works.

The one layer that the figures do not show divides 0–255 by 255. It has no parameters, and is part of the model so that
a saved model takes images as they are.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from redarte.devices.backend import keras
from redarte.images import dataset
from redarte.images.dataset import Dataset
from redarte.models.base import Decomposition, Parts
from redarte.params import Params, Penalty, StudyName

if TYPE_CHECKING:
    from redarte.training.jobs import TrainingJob
    from redarte.training.loop import Trained

DESCRIPTION = (
    'One of the three models of the student study "Redes Neuronales Convolucionales – Una aplicación práctica a obras '
    'de arte" (J. M. García Criado and F. M. Hidalgo Aguilar, Universidad de Sevilla), trained from random weights by '
    "redarte: blocks of 32, 64 and 128 convolutional filters, then one dense layer with a softmax."
)
LICENSE = "mit"
READS_RESIZED = True

_FILTERS: dict[StudyName, tuple[tuple[int, ...], ...]] = {
    "red1": ((32,), (64,), (128,)),
    "red2": ((32,), (64,), (128,)),
    "red3": ((32,), (64, 64), (128,)),
}


def load_data(_settings: Params) -> tuple[Dataset, Dataset]:
    """Returns train and val of data/resized: originals and copies in train, originals in val."""
    return dataset.load_resized()


def fit(name: str, settings: Params, train: Dataset, val: Dataset, history_file: Path) -> "Trained":
    """Trains one of the three models from random weights, or resumes an interrupted training.

    Args:
        name: red1, red2 or red3.
    """
    from redarte.training import loop

    return loop.train(training_job(cast(StudyName, name), settings, train, val), history_file)


def training_job(name: StudyName, settings: Params, train: Dataset, val: Dataset) -> "TrainingJob":
    """Returns what is trained, with everything that the weights depend on.

    Args:
        name: red1, red2 or red3.
    """
    from redarte.training.jobs import TrainingJob

    penalty: Penalty = getattr(settings, name)
    return TrainingJob(
        name, settings.train, settings.seed, train, val,
        build=lambda policy: build(name, train.side, len(train.artists), penalty, policy),
        origin=[penalty.model_dump()],
    )  # fmt: skip


def build(name: StudyName, side: int, artists: int, penalty: Penalty, precision: str = "float32") -> keras.Sequential:
    """Builds one of the study's models, with random weights.

    Args:
        name: red1, red2 or red3.
        side: of the square images, in px; 8 or more.
        penalty: the L1L2 penalty on every kernel; all zero for none.
        precision: a Keras dtype policy; the dense layer and its softmax are always float32.

    Returns:
        A model that maps RGB images (batch, side, side, 3), 0 to 255, to probabilities (batch, artists), float32.
    """

    def regularizer() -> keras.Regularizer | None:
        return keras.regularizers.L1L2(penalty.l1, penalty.l2) if penalty.l1 or penalty.l2 else None

    layers: list[keras.Layer] = [
        keras.Input((side, side, 3), name="image"),
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


def decompose(model: keras.Model) -> Decomposition:
    """Returns the last block's feature maps, and the dense layer's weights for each position and channel of them."""
    flatten, dense = model.layers[-2:]
    shape = tuple(flatten.input.shape[1:])
    trunk = keras.Model(model.inputs, flatten.input)

    def forward(image: Any) -> Parts:
        feature_maps = trunk(image, training=False)
        flat = keras.ops.reshape(feature_maps, (-1, int(np.prod(shape))))
        return Parts(feature_maps, flat, keras.ops.mean(feature_maps, axis=(1, 2)))

    return Decomposition(forward, dense.kernel.numpy(), dense.bias.numpy(), shape)
