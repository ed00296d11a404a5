"""The layer `patches` of a model: a convolution whose kernel is fitted by a principal component analysis."""

import numpy as np
from sklearn.decomposition import PCA

from redarte.devices.backend import keras
from redarte.images.dataset import Dataset
from redarte.models import base
from redarte.runtime.errors import UserError

_IMAGES, _PATCHES = 200, 100_000  # that the components are fitted to


def fit_projection(model: keras.Model, train: Dataset, seed: int) -> np.ndarray:
    """Fits the layer `patches` to the principal components of its input.

    Args:
        model: has a Conv2D layer `patches`.

    Returns:
        Some patches of the training images, projected: (n, components), float32.

    Raises:
        UserError: there are fewer patches than components.
    """
    projection = model.get_layer("patches")
    patches = _sample_patches(model, train, seed)
    check_enough(patches, model, "principal_components", projection.filters)
    components = PCA(projection.filters, svd_solver="covariance_eigh").fit(patches)
    kernel = components.components_.T.reshape(projection.kernel.shape)
    projection.set_weights([kernel, -components.components_ @ components.mean_])
    return np.asarray(components.transform(patches))


def check_enough(patches: np.ndarray, model: keras.Model, parameter: str, components: int) -> None:
    """Checks that there are more patches than components.

    Args:
        patches: (n, features).

    Raises:
        UserError: there are not.
    """
    if len(patches) <= components:
        raise UserError(
            f"the training images have {len(patches)} patches, too few for {components} components "
            f"({model.name}.{parameter}): lower it, or raise {model.name}.input_size."
        )


def _sample_patches(model: keras.Model, train: Dataset, seed: int) -> np.ndarray:
    """Random patches of some of the training images, equally many of each: (n, features), float32."""
    projection = model.get_layer("patches")
    (rows, columns), (down, right) = projection.kernel_size, projection.strides
    rng = np.random.default_rng(seed)
    sample = train.subset(np.sort(rng.permutation(len(train))[:_IMAGES]))
    per_image = -(-_PATCHES // len(sample))
    found = []
    for maps in base.predict(keras.Model(model.input, projection.input), sample, f"{model.name}, patches"):
        windows = np.lib.stride_tricks.sliding_window_view(maps, (rows, columns), (0, 1))[::down, ::right]
        flat = windows.transpose(0, 1, 3, 4, 2).reshape(-1, rows * columns * maps.shape[-1])
        found.append(flat[rng.permutation(len(flat))[:per_image]])
    return np.concatenate(found)
