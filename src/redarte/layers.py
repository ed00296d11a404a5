"""The layers that Keras does not have: how a map varies, and how it differs from what maps usually look like."""

from typing import Any

from redarte.backend import keras

LEAST_VARIANCE = 1e-6  # so that a map of one value has a slope
# Nearer to nothing a slope is only rounding, which its root would make a thousand times as large.
_LEAST_SLOPE = 1e-6
_SMALLEST = 1e-12  # to divide by, where a picture is like the average of all

ops = keras.ops


@keras.saving.register_keras_serializable(package="redarte")
class Deviation(keras.layers.Layer):
    """The standard deviation over the places of a map: (batch, rows, columns, channels) -> (batch, channels)."""

    def call(self, seen: Any) -> Any:
        return ops.sqrt(ops.var(seen, axis=(1, 2)) + LEAST_VARIANCE)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], shape[3]


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
        mean, square = (ops.average_pool(values, self.size) for values in (picture, ops.square(picture)))
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
    18); the signed square root of it, made one long, so that a kind of place that fills a picture does not drown the
    others. (batch, rows, columns, channels) -> (batch, kinds * (1 + 2 * channels)): priors, means, deviations.

    Args:
        kinds: how many Gaussians, each with its own deviation in each channel.
    """

    def __init__(self, kinds: int, trainable: bool = False, **options: Any):
        super().__init__(trainable=trainable, **options)
        self.kinds = kinds

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.priors = self.add_weight(shape=(self.kinds,), initializer="ones", name="priors")
        self.means = self.add_weight(shape=(self.kinds, shape[3]), initializer="zeros", name="means")
        self.deviations = self.add_weight(shape=(self.kinds, shape[3]), initializer="ones", name="deviations")

    def call(self, seen: Any) -> Any:
        gradient = self.gradients(seen, 1, 1)[:, 0, 0]
        return gradient * self.scale(gradient)

    def gradients(self, seen: Any, rows: int, columns: int) -> Any:
        """What each of rows × columns regions gives to the gradient: (batch, rows, columns, numbers)."""
        places = seen.shape[1] * seen.shape[2]
        shares = self._shares(seen)
        shares, seen = (_by_region(values, rows, columns) for values in (shares, seen))
        turned = ops.swapaxes(shares, -1, -2)
        count = ops.sum(turned, axis=-1, keepdims=True)
        first, second = ops.matmul(turned, seen), ops.matmul(turned, ops.square(seen))
        root = ops.sqrt(self.priors)[:, None]
        of_means = (first - count * self.means) / self.deviations / root
        spread = second - 2 * self.means * first + count * ops.square(self.means)
        of_deviations = (spread / ops.square(self.deviations) - count) / (2**0.5 * root)
        of_priors = count[..., 0] / root[:, 0] - ops.sum(count, axis=-2) * root[:, 0]
        shape = (-1, rows, columns, self.kinds * seen.shape[-1])
        flat = [ops.reshape(part, shape) for part in (of_means, of_deviations)]
        return ops.concatenate([of_priors, *flat], axis=-1) / places

    def scale(self, gradient: Any) -> Any:
        """What turns a whole gradient (batch, numbers) into the signed square root of it, of length 1."""
        size = ops.sqrt(ops.abs(gradient) + _LEAST_SLOPE)
        length = ops.sqrt(ops.sum(ops.square(gradient / size), axis=-1, keepdims=True) + _SMALLEST)
        return 1 / (size * length)

    def _shares(self, seen: Any) -> Any:
        """How much of each place is of each kind: (batch, rows, columns, kinds), adding up to 1."""
        precision = 1 / ops.square(self.deviations)
        constant = ops.log(self.priors) - ops.sum(ops.log(self.deviations), axis=1)
        constant = constant - ops.sum(ops.square(self.means) * precision, axis=1) / 2
        linear = ops.matmul(seen, ops.transpose(self.means * precision))
        return ops.softmax(constant + linear - ops.matmul(ops.square(seen), ops.transpose(precision)) / 2, axis=-1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], self.kinds * (1 + 2 * (shape[3] or 0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kinds": self.kinds}


def _by_region(values: Any, rows: int, columns: int) -> Any:
    """Cuts a map into regions, padded with zeros: (batch, rows, columns, places of a region, channels)."""
    high, wide, channels = -(-values.shape[1] // rows), -(-values.shape[2] // columns), values.shape[3]
    below, beside = high * rows - values.shape[1], wide * columns - values.shape[2]
    padded = ops.pad(values, [(0, 0), (0, below), (0, beside), (0, 0)])
    cut = ops.transpose(ops.reshape(padded, (-1, rows, high, columns, wide * channels)), (0, 1, 3, 2, 4))
    return ops.reshape(cut, (-1, rows, columns, high * wide, channels))
