"""A network and pictures -> probabilities."""

import numpy as np

from redarte import dataset
from redarte.backend import keras
from redarte.dataset import Pictures

_BATCH = 32  # pictures at a time; larger gains nothing on a CPU


def probabilities(network: keras.Model, pictures: Pictures) -> np.ndarray:
    """What a network answers to each picture.

    Args:
        network: as `networks.load` gives it.
        pictures: n of them, with the network's artists.

    Returns:
        (n, artists), float64, each row adding up to 1.
    """
    answers = network.predict(dataset.ordered_batches(pictures, _BATCH), verbose=0).astype(np.float64)
    # A softmax in float32 adds up to 1 only nearly.
    return np.asarray(answers / answers.sum(axis=1, keepdims=True))
