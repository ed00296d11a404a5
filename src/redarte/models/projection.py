"""Layers that project patches or positions on their principal components."""

import numpy as np
from sklearn.decomposition import PCA

from redarte.devices.backend import keras
from redarte.images.dataset import Dataset
from redarte.inference import features
from redarte.models import base, frozen
from redarte.models.layers import without_border
from redarte.runtime.errors import UserError

_IMAGES, _PATCHES = 200, 100_000  # that the components are fitted to


def fit_projection(model: keras.Model, train: Dataset, seed: int) -> np.ndarray:
    """Fits the layer `patches` to the principal components of its input.

    Args:
        model: has a Conv2D layer `patches`.

    Returns:
        Some patches of the training images, projected: (n, components), float32.
    """
    projection = model.get_layer("patches")
    patches = _sample_patches(model, train, seed)
    check_enough(len(patches), model, "principal_components", projection.filters)
    components = PCA(projection.filters, svd_solver="covariance_eigh").fit(patches)
    kernel = components.components_.T.reshape(projection.kernel.shape)
    projection.set_weights([kernel, -components.components_ @ components.mean_])
    return np.asarray(components.transform(patches))


def fit_components(model: keras.Model, train: Dataset, seed: int) -> None:
    """Fits the principal components of the layer `descriptor` to the positions of some training images."""
    layer, moments = model.get_layer("descriptor"), model.get_layer(features.MOMENTS)
    sample = _sample(train, np.random.default_rng(seed))
    positions = np.prod(without_border(moments.maps[0], moments.border).shape[1:3])
    check_enough(len(sample) * int(positions), model, "principal_components", layer.components)
    channels = layer.channels[0]
    mean, covariance = np.zeros(channels), np.zeros((channels, channels))
    for group, count in frozen.moments(model, sample, f"{model.name}, principal components"):
        means, covariances = (keras.ops.convert_to_numpy(part)[:count] for part in layer.inner(group))
        mean += means.sum(axis=0, dtype=np.float64) / len(sample)
        covariance += (covariances.sum(axis=0, dtype=np.float64) + means.T @ means) / len(sample)
    _, vectors = np.linalg.eigh(covariance - np.outer(mean, mean))
    kernel = vectors[:, ::-1][:, : layer.components]
    # Of the two directions of a component, the one whose largest entry is positive.
    layer.set_weights([kernel * np.sign(kernel[np.abs(kernel).argmax(axis=0), np.arange(kernel.shape[1])])])


def check_enough(patches: int, model: keras.Model, parameter: str, components: int) -> None:
    """Checks that there are more patches than components."""
    if patches <= components:
        raise UserError(
            f"the training images have {patches} patches, too few for {components} components "
            f"({model.name}.{parameter}): lower it, or raise {model.name}.input_size."
        )


def _sample_patches(model: keras.Model, train: Dataset, seed: int) -> np.ndarray:
    """Random patches of some of the training images, equally many of each: (n, features), float32."""
    projection = model.get_layer("patches")
    (rows, columns), (down, right) = projection.kernel_size, projection.strides
    rng = np.random.default_rng(seed)
    sample = _sample(train, rng)
    per_image = -(-_PATCHES // len(sample))
    found = []
    for maps in base.predict(keras.Model(model.input, projection.input), sample, f"{model.name}, patches"):
        windows = np.lib.stride_tricks.sliding_window_view(maps, (rows, columns), (0, 1))[::down, ::right]
        flat = windows.transpose(0, 1, 3, 4, 2).reshape(-1, rows * columns * maps.shape[-1])
        found.append(flat[rng.permutation(len(flat))[:per_image]])
    return np.concatenate(found)


def _sample(train: Dataset, rng: np.random.Generator) -> Dataset:
    return train.subset(np.sort(rng.permutation(len(train))[:_IMAGES]))
