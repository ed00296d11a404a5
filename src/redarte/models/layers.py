"""Custom Keras layers: statistics of feature maps, and Fisher vectors."""

from typing import Any

import numpy as np

from redarte.devices.backend import WIDEST, keras

MIN_VARIANCE = 1e-6  # so that the standard deviation of a constant map has a gradient
# Gradients below 1e-6 are rounding noise, which the square root would make a thousand times as large.
_MIN_GRADIENT = 1e-6
_EPSILON = 1e-12  # added to divisors that may be zero
_STEPS = 5  # of the iteration to a matrix square root, as in Li et al.

ops = keras.ops


@keras.saving.register_keras_serializable(package="redarte")
class Deviation(keras.layers.Layer):
    """The standard deviation over positions: (batch, rows, columns, channels) -> (batch, channels)."""

    def call(self, maps: Any) -> Any:
        return ops.sqrt(ops.var(maps, axis=(1, 2)) + MIN_VARIANCE)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], shape[3]


@keras.saving.register_keras_serializable(package="redarte")
class CovarianceRoot(keras.layers.Layer):
    """The square root of the covariance of the channels over positions.

    The matrix square root reduces the dominance of the few directions with the largest variance. It is computed by five
    steps of the Newton-Schulz iteration, which needs only matrix products (Li et al., "Towards faster training of
    global covariance pooling networks by iterative matrix square root normalization", 2018, equations 4 to 6), of a
    covariance that is scaled to a trace of 1. (batch, rows, columns, channels) -> (batch, channels * (channels + 1) /
    2): the upper triangle, with the entries above the diagonal times √2, which preserves distances.

    Args:
        border: how many positions at each edge of the map are ignored.
        options: of `keras.layers.Layer`.
    """

    def __init__(self, border: int = 0, **options: Any):
        super().__init__(**options)
        self.border = border

    def call(self, maps: Any) -> Any:
        return self.regions(maps, 1, 1)[:, 0, 0]

    def regions(self, maps: Any, rows: int, columns: int) -> Any:
        """Returns the contribution of each region to the root: (batch, rows, columns, features).

        A root R of a covariance C is Z C, where Z is the root of its inverse, and C is a sum over positions.

        Args:
            maps: (batch, height, width, channels).
        """
        edge, channels = self.border, maps.shape[3]
        inner = maps[:, edge : maps.shape[1] - edge, edge : maps.shape[2] - edge]
        centred = inner - ops.mean(inner, axis=(1, 2), keepdims=True)
        centred = centred / ops.sqrt(ops.sum(ops.square(centred), axis=(1, 2, 3), keepdims=True) + _EPSILON)
        positions = ops.reshape(centred, (-1, inner.shape[1] * inner.shape[2], channels))
        inverse = _inverse_root(ops.matmul(ops.swapaxes(positions, 1, 2), positions))
        padding = [(0, 0), (edge, edge), (edge, edge), (0, 0)]
        transformed, centred = (
            by_region(ops.pad(values, padding), rows, columns)
            for values in (ops.matmul(centred, inverse[:, None]), centred)
        )
        product = ops.matmul(ops.swapaxes(transformed, -1, -2), centred)
        symmetric = (product + ops.swapaxes(product, -1, -2)) / 2
        return _upper_triangle(symmetric)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        channels = shape[3] or 0
        return shape[0], channels * (channels + 1) // 2

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "border": self.border}


@keras.saving.register_keras_serializable(package="redarte")
class Cells(keras.layers.Layer):
    """The mean and the standard deviation of every channel in square cells of an image.

    (batch, side, side, channels) -> (batch, side // size, side // size, 2 * channels). Incomplete cells are left out.

    Args:
        size: of a cell, in px.
        options: of `keras.layers.Layer`.
    """

    def __init__(self, size: int, **options: Any):
        super().__init__(**options)
        self.size = size

    def call(self, image: Any) -> Any:
        # The strides are explicit: Keras 3.15's default is wrong under JAX.
        mean, square = (ops.average_pool(values, self.size, self.size) for values in (image, ops.square(image)))
        variance = ops.maximum(square - ops.square(mean), 0)
        return ops.concatenate([mean, ops.sqrt(variance + MIN_VARIANCE)], axis=-1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        rows, columns = (side // self.size if side else None for side in shape[1:3])
        return shape[0], rows, columns, 2 * (shape[3] or 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="redarte")
class FisherVector(keras.layers.Layer):
    """The Fisher vector of the positions of a map, for a mixture of Gaussians that was fitted to other maps.

    It is the gradient of the mean log-likelihood of the positions by the mixture's priors, means and deviations, each
    normalised (Sánchez et al., "Image classification with the Fisher vector: theory and practice", 2013, equations 16
    to 18), followed by a signed square root and L2 normalisation. (batch, rows, columns, channels) -> (batch,
    components * (1 + 2 * channels)): priors, means, deviations.

    Args:
        components: the number of Gaussians, with a diagonal covariance each.
        trainable: whether the mixture is trainable.
        options: of `keras.layers.Layer`.
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
        """Returns the contribution of each region to the gradient: (batch, rows, columns, features).

        Args:
            maps: (batch, height, width, channels).
        """
        positions = maps.shape[1] * maps.shape[2]
        # Paper and plain walls are so close to the mean of a Gaussian with a small deviation that most digits of these
        # sums cancel out: in 32 bits, two libraries' probabilities differed by 0.003.
        maps, priors, means, deviations = (
            ops.cast(values, WIDEST) for values in (maps, self.priors, self.means, self.deviations)
        )
        posteriors = _posteriors(maps, priors, means, deviations)
        posteriors, maps = (by_region(values, rows, columns) for values in (posteriors, maps))
        transposed = ops.swapaxes(posteriors, -1, -2)
        count = ops.sum(transposed, axis=-1, keepdims=True)
        first, second = ops.matmul(transposed, maps), ops.matmul(transposed, ops.square(maps))
        root = ops.sqrt(priors)[:, None]
        by_means = (first - count * means) / deviations / root
        squares = second - 2 * means * first + count * ops.square(means)
        by_deviations = (squares / ops.square(deviations) - count) / (2**0.5 * root)
        by_priors = count[..., 0] / root[:, 0] - ops.sum(count, axis=-2) * root[:, 0]
        shape = (-1, rows, columns, self.components * maps.shape[-1])
        flat = [ops.reshape(part, shape) for part in (by_means, by_deviations)]
        return ops.cast(ops.concatenate([by_priors, *flat], axis=-1) / positions, "float32")

    def scale(self, gradient: Any) -> Any:
        """Returns the factors that turn a gradient into its L2-normalised signed square root: (batch, features).

        Args:
            gradient: (batch, features), of whole images.
        """
        size = ops.sqrt(ops.abs(gradient) + _MIN_GRADIENT)
        length = ops.sqrt(ops.sum(ops.square(gradient / size), axis=-1, keepdims=True) + _EPSILON)
        return 1 / (size * length)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], self.components * (1 + 2 * (shape[3] or 0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "components": self.components}


def by_region(values: Any, rows: int, columns: int) -> Any:
    """Groups the positions of a map into regions of about equal size, padded with zeros.

    Args:
        values: (batch, height, width, channels).

    Returns:
        (batch, rows, columns, positions of a region, channels).
    """
    down, right = _region_indices(values.shape[1], rows), _region_indices(values.shape[2], columns)
    channels = values.shape[3]
    # The padding is the zeros after the last position.
    padded = ops.pad(values, [(0, 0), (0, 1), (0, 1), (0, 0)])
    taken = ops.take(ops.take(padded, down.ravel(), axis=1), right.ravel(), axis=2)
    taken = ops.reshape(taken, (-1, rows, down.shape[1], columns, right.shape[1] * channels))
    return ops.reshape(
        ops.transpose(taken, (0, 1, 3, 2, 4)), (-1, rows, columns, down.shape[1] * right.shape[1], channels)
    )


def sum_regions(values: Any, rows: int, columns: int) -> Any:
    """Sums a map over regions: (batch, height, width, channels) -> (batch, rows, columns, channels).

    Returns:
        (batch, rows, columns, channels).
    """
    return ops.sum(by_region(values, rows, columns), axis=3)


def _posteriors(maps: Any, priors: Any, means: Any, deviations: Any) -> Any:
    """The posterior of each component at each position: (batch, rows, columns, components), adding up to 1."""
    precision = 1 / ops.square(deviations)
    constant = ops.log(priors) - ops.sum(ops.log(deviations), axis=1)
    constant = constant - ops.sum(ops.square(means) * precision, axis=1) / 2
    linear = ops.matmul(maps, ops.transpose(means * precision))
    return ops.softmax(constant + linear - ops.matmul(ops.square(maps), ops.transpose(precision)) / 2, axis=-1)


def _region_indices(positions: int, regions: int) -> np.ndarray:
    """The positions of each region, padded with `positions`: (regions, largest region), int64."""
    region_of = np.arange(positions) * regions // positions
    members = [np.flatnonzero(region_of == region) for region in range(regions)]
    largest = max(map(len, members))
    return np.array([np.pad(group, (0, largest - len(group)), constant_values=positions) for group in members])


def _inverse_root(covariance: Any) -> Any:
    """Approximates the square root of the inverse of matrices (batch, channels, channels) with a trace of 1."""
    unit = ops.eye(covariance.shape[-1])
    root, inverse = covariance, ops.zeros_like(covariance) + unit
    for _ in range(_STEPS):
        step = (3 * unit - ops.matmul(inverse, root)) / 2
        root, inverse = ops.matmul(root, step), ops.matmul(step, inverse)
    return inverse


def _upper_triangle(matrices: Any) -> Any:
    """Symmetric matrices (..., channels, channels) as vectors (..., features)."""
    channels = matrices.shape[-1]
    down, right = np.triu_indices(channels)
    scale = np.where(down == right, 1, 2**0.5).astype(np.float32)
    flat = ops.reshape(matrices, (-1, *matrices.shape[1:-2], channels * channels))
    return ops.take(flat, down * channels + right, axis=-1) * ops.convert_to_tensor(scale)
