"""The layers of a model up to its layer `moments`: computed once for each image, as long as their weights stay."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np

from redarte import devices
from redarte.devices import backend
from redarte.devices.backend import keras
from redarte.images.dataset import Dataset
from redarte.inference import features
from redarte.models import backbones


def moments(model: keras.Model, images: Dataset, label: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the moments of all images, as `features.groups`."""
    stored = features.cache(digest(model, features.MOMENTS), _engine())
    compute = keras.Model(model.input, model.get_layer(features.MOMENTS).output).predict_on_batch
    yield from features.groups(images, stored, compute, label)


def keep_descriptors(model: keras.Model, images: Dataset, descriptors: np.ndarray, embeddings: np.ndarray) -> None:
    """Keeps what the layer `descriptor` has computed, for `redarte label-issues`.

    Args:
        descriptors: (n, features), float32, of n images.
        embeddings: (n, channels), float32.
    """
    stored = features.cache(digest(model, "descriptor"), _engine())
    for name, row in zip(images.content_hashes, np.concatenate([descriptors, embeddings], axis=1), strict=True):
        stored.write(name, row)


def digest(model: keras.Model, last: str) -> str:
    """Returns a hash of everything that decides what a model computes up to a layer: layers, settings and weights."""
    layers = keras.Model(model.input, model.get_layer(last).output)
    kinds = [(type(layer).__name__, _settings(layer)) for layer in backbones.all_layers(layers)]
    text = json.dumps([list(layers.input_shape), kinds], sort_keys=True)
    return hashlib.blake2b((text + backbones.digest(layers)).encode(), digest_size=16).hexdigest()


def _engine() -> str:
    return f"keras {keras.__version__}, {backend.NAME} {backend.VERSION}, {devices.facts()['device']}"


def _settings(layer: keras.Layer) -> dict[str, object]:
    """The settings of a layer that are the same before and after a model is saved."""
    try:
        config = layer.get_config()
    except NotImplementedError:  # a part of another layer, whose settings have it
        return {}
    return {key: value for key, value in config.items() if key != "name" and isinstance(value, (bool, int, float, str))}
