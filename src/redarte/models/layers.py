"""Custom Keras layers: statistics of feature maps."""

from typing import Any

import numpy as np

from redarte.devices.backend import keras

MIN_VARIANCE = 1e-6  # so that the standard deviation of a constant map has a gradient
_EPSILON = 1e-12  # added to divisors that may be zero
_STEPS = 5  # of the iteration to a matrix square root, as in Li et al.

ops = keras.ops


@keras.saving.register_keras_serializable(package="redarte")
class Moments(keras.layers.Layer):
    """The moments of feature maps over positions: one vector for each image, from which `Descriptor` is computed.

    [maps (batch, rows, columns, channels), ...] -> (batch, features): the mean and the standard deviation of the
    channels of each map; then the mean of the first map's channels without its border, and their covariance (the upper
    triangle).

    Args:
        border: how many positions at each edge of the first map are ignored for the covariance.
    """

    def __init__(self, border: int = 0, **options: Any):
        super().__init__(**options)
        self.border = border

    @property
    def maps(self) -> list[Any]:
        """The symbolic feature maps."""
        return as_list(self.input)

    def call(self, maps: Any) -> Any:
        maps = as_list(maps)
        parts = []
        for values in maps:
            parts += [ops.mean(values, axis=(1, 2)), ops.sqrt(ops.var(values, axis=(1, 2)) + MIN_VARIANCE)]
        inner = without_border(maps[0], self.border)
        mean = ops.mean(inner, axis=(1, 2), keepdims=True)
        count, channels = inner.shape[1] * inner.shape[2], inner.shape[3]
        positions = ops.reshape(inner - mean, (-1, count, channels))
        covariance = ops.matmul(ops.swapaxes(positions, 1, 2), positions) / count
        return ops.concatenate([*parts, mean[:, 0, 0], _upper_triangle(covariance)], axis=-1)

    def compute_output_shape(self, shapes: Any) -> tuple[int | None, ...]:
        shapes = as_list(shapes)
        channels = [shape[3] or 0 for shape in shapes]
        return shapes[0][0], 2 * sum(channels) + channels[0] + channels[0] * (channels[0] + 1) // 2

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "border": self.border}


@keras.saving.register_keras_serializable(package="redarte")
class Descriptor(keras.layers.Layer):
    """The means and deviations of `Moments`, and the square root of the covariance of principal components.

    The matrix square root reduces the dominance of the few directions with the largest variance. It is computed by five
    steps of the Newton-Schulz iteration, which needs only matrix products (Li et al., "Towards faster training of
    global covariance pooling networks by iterative matrix square root normalization", 2018, equations 4 to 6), of a
    covariance that is scaled to a trace of 1. Its upper triangle, with the entries above the diagonal times √2, has the
    distances of the matrices. (batch, moments) -> (batch, 2 * sum(channels) + components * (components + 1) / 2)

    Args:
        components: the number of principal components, the columns of the weight `kernel`.
    """

    def __init__(self, channels: list[int], components: int, trainable: bool = False, **options: Any):
        super().__init__(trainable=trainable, **options)
        self.channels, self.components = list(channels), components

    def build(self, _shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(
            shape=(self.channels[0], self.components), initializer="orthogonal", trainable=False, name="kernel"
        )

    @property
    def root_size(self) -> int:
        """The number of features that are the root's, at the end of the descriptor."""
        return self.components * (self.components + 1) // 2

    def embedding(self, moments: Any) -> Any:
        """Returns the means of the last map's channels: (batch, channels)."""
        start = 2 * sum(self.channels[:-1])
        return moments[:, start : start + self.channels[-1]]

    def inner(self, moments: Any) -> tuple[Any, Any]:
        """Returns the mean (batch, channels) and the covariance (batch, channels, channels) of the inner positions."""
        start, size = 2 * sum(self.channels), self.channels[0]
        down, right = np.triu_indices(size)
        entry = np.zeros((size, size), np.int64)
        entry[down, right] = entry[right, down] = np.arange(len(down))
        flat = ops.take(moments[:, start + size :], entry.ravel(), axis=1)
        return moments[:, start : start + size], ops.reshape(flat, (-1, size, size))

    def call(self, moments: Any) -> Any:
        covariance, inverse = self._roots(moments)
        return ops.concatenate(
            [moments[:, : 2 * sum(self.channels)], _scaled_triangle(_symmetric(ops.matmul(inverse, covariance)))],
            axis=-1,
        )

    def regions(self, moments: Any, maps: Any, border: int, rows: int, columns: int) -> Any:
        """Returns the contribution of each region to the root: (batch, rows, columns, features).

        A root R of a covariance C is Z C, where Z is the root of its inverse, and C is a sum over positions.

        Args:
            maps: the first map of `Moments`: (batch, height, width, channels).
        """
        inverse = self._roots(moments)[1]
        inner = without_border(ops.matmul(maps, self.kernel), border)
        centred = inner - ops.mean(inner, axis=(1, 2), keepdims=True)
        length = ops.sqrt(ops.sum(ops.square(centred), axis=(1, 2, 3), keepdims=True) + _EPSILON)
        padding = [(0, 0), (border, border), (border, border), (0, 0)]
        transformed, centred = (
            by_region(ops.pad(values, padding), rows, columns)
            for values in (ops.matmul(centred / length, inverse[:, None]), centred / length)
        )
        return _scaled_triangle(_symmetric(ops.matmul(ops.swapaxes(transformed, -1, -2), centred)))

    def _roots(self, moments: Any) -> tuple[Any, Any]:
        """The covariance of the components with a trace of 1, and the root of its inverse."""
        projected = ops.matmul(ops.matmul(ops.transpose(self.kernel), self.inner(moments)[1]), self.kernel)
        # The converter to ONNX has no diagonal of a matrix without branches.
        trace = ops.sum(projected * ops.eye(self.components), axis=(1, 2), keepdims=True)
        covariance = projected / (trace + _EPSILON)
        return covariance, _inverse_root(covariance)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], 2 * sum(self.channels) + self.root_size

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "components": self.components}


def as_list(values: Any) -> list[Any]:
    """Returns a list of tensors or shapes; Keras passes one of them without a list."""
    return values if isinstance(values, list) else [values]


def without_border(maps: Any, border: int) -> Any:
    """Returns maps (batch, height, width, channels) without some positions at each edge."""
    return maps[:, border : maps.shape[1] - border, border : maps.shape[2] - border]


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


def _symmetric(matrices: Any) -> Any:
    """Matrices that are symmetric up to rounding, made so."""
    return (matrices + ops.swapaxes(matrices, -1, -2)) / 2


def _upper_triangle(matrices: Any) -> Any:
    """Symmetric matrices (..., channels, channels) as vectors (..., features)."""
    channels = matrices.shape[-1]
    down, right = np.triu_indices(channels)
    flat = ops.reshape(matrices, (-1, *matrices.shape[1:-2], channels * channels))
    return ops.take(flat, down * channels + right, axis=-1)


def _scaled_triangle(matrices: Any) -> Any:
    """The upper triangle with the entries above the diagonal times √2: the distances are those of the matrices."""
    down, right = np.triu_indices(matrices.shape[-1])
    scale = np.where(down == right, 1, 2**0.5).astype(np.float32)
    return _upper_triangle(matrices) * ops.convert_to_tensor(scale)
