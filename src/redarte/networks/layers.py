"""Layers that Keras does not have: statistics of feature maps, and Fisher vectors."""

from typing import Any

import numpy as np

from redarte.training.backend import WIDEST, keras

LEAST_VARIANCE = 1e-6  # so that a map of one value has a slope
# Nearer to nothing a slope is only rounding, which its root would make a thousand times as large.
_LEAST_SLOPE = 1e-6
_SMALLEST = 1e-12  # to divide by, where a picture is like the average of all, or the same everywhere
_STEPS = 5  # of the iteration to a matrix's root, as in Li et al.

ops = keras.ops


@keras.saving.register_keras_serializable(package="redarte")
class Deviation(keras.layers.Layer):
    """The standard deviation over the places of a map: (batch, rows, columns, channels) -> (batch, channels)."""

    def call(self, maps: Any) -> Any:
        return ops.sqrt(ops.var(maps, axis=(1, 2)) + LEAST_VARIANCE)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], shape[3]


@keras.saving.register_keras_serializable(package="redarte")
class CovarianceRoot(keras.layers.Layer):
    """How the channels of a map vary together: the square root of their covariance over its places.

    The root is for a matrix what it is for a number: it keeps the few directions in which a picture varies most from
    drowning the others. By five steps of Newton and Schulz's iteration, which needs nothing but products (Li et al.,
    "Towards faster training of global covariance pooling networks by iterative matrix square root normalization", 2018,
    equations 4 to 6); of a covariance with a trace of 1, so that the answer is about one long. (batch, rows, columns,
    channels) -> (batch, channels * (channels + 1) / 2): the matrix from its diagonal on, the rest of it times the root
    of 2, which says the same of distances as the whole.

    Args:
        border: how many places at each edge of the map are passed over.
    """

    def __init__(self, border: int = 0, **options: Any):
        super().__init__(**options)
        self.border = border

    def call(self, maps: Any) -> Any:
        return self.regions(maps, 1, 1)[:, 0, 0]

    def regions(self, maps: Any, rows: int, columns: int) -> Any:
        """What each of rows × columns regions gives to the root: (batch, rows, columns, numbers).

        A root R of a covariance C is Z C, where Z is the root of its inverse, and C is a sum over places.
        """
        edge, channels = self.border, maps.shape[3]
        inner = maps[:, edge : maps.shape[1] - edge, edge : maps.shape[2] - edge]
        centred = inner - ops.mean(inner, axis=(1, 2), keepdims=True)
        centred = centred / ops.sqrt(ops.sum(ops.square(centred), axis=(1, 2, 3), keepdims=True) + _SMALLEST)
        places = ops.reshape(centred, (-1, inner.shape[1] * inner.shape[2], channels))
        inverse = _inverse_root(ops.matmul(ops.swapaxes(places, 1, 2), places))
        around = [(0, 0), (edge, edge), (edge, edge), (0, 0)]
        turned, centred = (
            by_region(ops.pad(values, around), rows, columns)
            for values in (ops.matmul(centred, inverse[:, None]), centred)
        )
        given = ops.matmul(ops.swapaxes(turned, -1, -2), centred)
        symmetric = (given + ops.swapaxes(given, -1, -2)) / 2
        return _upper(symmetric)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        channels = shape[3] or 0
        return shape[0], channels * (channels + 1) // 2

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "border": self.border}


@keras.saving.register_keras_serializable(package="redarte")
class Cells(keras.layers.Layer):
    """The mean and the standard deviation of every channel in square cells of a picture.

    (batch, side, side, channels) -> (batch, side // size, side // size, 2 * channels). What fills no cell is left out.

    Args:
        size: of a cell, in px.
    """

    def __init__(self, size: int, **options: Any):
        super().__init__(**options)
        self.size = size

    def call(self, picture: Any) -> Any:
        # The strides are named: by default Keras 3.15 gets them wrong under JAX.
        mean, square = (ops.average_pool(values, self.size, self.size) for values in (picture, ops.square(picture)))
        variance = ops.maximum(square - ops.square(mean), 0)
        return ops.concatenate([mean, ops.sqrt(variance + LEAST_VARIANCE)], axis=-1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        rows, columns = (side // self.size if side else None for side in shape[1:3])
        return shape[0], rows, columns, 2 * (shape[3] or 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="redarte")
class FisherVector(keras.layers.Layer):
    """How the places of a map differ from a mixture of Gaussians that was fitted to the places of other maps.

    The gradient of their mean log-likelihood by the mixture's priors, means and deviations, each in units of its own
    spread (Sánchez et al., "Image classification with the Fisher vector: theory and practice", 2013, equations 16 to
    18); the signed square root of it, made one long, so that a component that fills a picture does not drown the
    others. (batch, rows, columns, channels) -> (batch, components * (1 + 2 * channels)): priors, means, deviations.

    Args:
        components: how many Gaussians, each with its own deviation in each channel.
    """

    def __init__(self, components: int, trainable: bool = False, **options: Any):
        super().__init__(trainable=trainable, **options)
        self.components = components

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.priors = self.add_weight(shape=(self.components,), initializer="ones", name="priors")
        self.means = self.add_weight(shape=(self.components, shape[3]), initializer="zeros", name="means")
        self.deviations = self.add_weight(shape=(self.components, shape[3]), initializer="ones", name="deviations")

    def call(self, maps: Any) -> Any:
        gradient = self.gradients(maps, 1, 1)[:, 0, 0]
        return gradient * self.scale(gradient)

    def gradients(self, maps: Any, rows: int, columns: int) -> Any:
        """What each of rows × columns regions gives to the gradient: (batch, rows, columns, numbers)."""
        places = maps.shape[1] * maps.shape[2]
        # Paper and plain walls are so near to the mean of a Gaussian, and its deviation is so small, that most of the
        # digits of these sums cancel out: two libraries' 32 bits gave probabilities that differed by 0.003.
        maps, priors, means, deviations = (
            ops.cast(values, WIDEST) for values in (maps, self.priors, self.means, self.deviations)
        )
        shares = _posteriors(maps, priors, means, deviations)
        shares, maps = (by_region(values, rows, columns) for values in (shares, maps))
        turned = ops.swapaxes(shares, -1, -2)
        count = ops.sum(turned, axis=-1, keepdims=True)
        first, second = ops.matmul(turned, maps), ops.matmul(turned, ops.square(maps))
        root = ops.sqrt(priors)[:, None]
        of_means = (first - count * means) / deviations / root
        spread = second - 2 * means * first + count * ops.square(means)
        of_deviations = (spread / ops.square(deviations) - count) / (2**0.5 * root)
        of_priors = count[..., 0] / root[:, 0] - ops.sum(count, axis=-2) * root[:, 0]
        shape = (-1, rows, columns, self.components * maps.shape[-1])
        flat = [ops.reshape(part, shape) for part in (of_means, of_deviations)]
        return ops.cast(ops.concatenate([of_priors, *flat], axis=-1) / places, "float32")

    def scale(self, gradient: Any) -> Any:
        """What turns a whole gradient (batch, numbers) into the signed square root of it, of length 1."""
        size = ops.sqrt(ops.abs(gradient) + _LEAST_SLOPE)
        length = ops.sqrt(ops.sum(ops.square(gradient / size), axis=-1, keepdims=True) + _SMALLEST)
        return 1 / (size * length)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], self.components * (1 + 2 * (shape[3] or 0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "components": self.components}


def _posteriors(maps: Any, priors: Any, means: Any, deviations: Any) -> Any:
    """The posterior of each component at each place: (batch, rows, columns, components), adding up to 1."""
    precision = 1 / ops.square(deviations)
    constant = ops.log(priors) - ops.sum(ops.log(deviations), axis=1)
    constant = constant - ops.sum(ops.square(means) * precision, axis=1) / 2
    linear = ops.matmul(maps, ops.transpose(means * precision))
    return ops.softmax(constant + linear - ops.matmul(ops.square(maps), ops.transpose(precision)) / 2, axis=-1)


def by_region(values: Any, rows: int, columns: int) -> Any:
    """Cuts a map into regions, each of about as many places as any other, padded with zeros.

    Returns:
        (batch, rows, columns, places of a region, channels).
    """
    down, right = _places_of(values.shape[1], rows), _places_of(values.shape[2], columns)
    channels = values.shape[3]
    # The zeros that stand after the last place.
    padded = ops.pad(values, [(0, 0), (0, 1), (0, 1), (0, 0)])
    cut = ops.take(ops.take(padded, down.ravel(), axis=1), right.ravel(), axis=2)
    cut = ops.reshape(cut, (-1, rows, down.shape[1], columns, right.shape[1] * channels))
    return ops.reshape(
        ops.transpose(cut, (0, 1, 3, 2, 4)), (-1, rows, columns, down.shape[1] * right.shape[1], channels)
    )


def _places_of(places: int, regions: int) -> np.ndarray:
    """The places of each region, filled up with `places`: (regions, most places of a region) int64."""
    region_of = np.arange(places) * regions // places
    of = [np.flatnonzero(region_of == region) for region in range(regions)]
    most = max(map(len, of))
    return np.array([np.pad(these, (0, most - len(these)), constant_values=places) for these in of])


def _inverse_root(covariance: Any) -> Any:
    """About the root of the inverse of matrices (batch, channels, channels) with a trace of 1."""
    unit = ops.eye(covariance.shape[-1])
    root, inverse = covariance, ops.broadcast_to(unit, ops.shape(covariance))
    for _ in range(_STEPS):
        step = (3 * unit - ops.matmul(inverse, root)) / 2
        root, inverse = ops.matmul(root, step), ops.matmul(step, inverse)
    return inverse


def _upper(matrices: Any) -> Any:
    """Symmetric matrices (..., channels, channels) as (..., numbers): from the diagonal on."""
    channels = matrices.shape[-1]
    down, right = np.triu_indices(channels)
    scale = np.where(down == right, 1, 2**0.5).astype(np.float32)
    flat = ops.reshape(matrices, (-1, *matrices.shape[1:-2], channels * channels))
    return ops.take(flat, down * channels + right, axis=-1) * ops.convert_to_tensor(scale)
