"""fisher: a model of our own for brushwork and colour, which is fitted in half a minute.

An image is cut into cells of a few pixels. The mean and the standard deviation of the colours in four by four cells
are a patch, which is projected on the principal components of such patches, as in Chan et al., "PCANet" (2015). A
mixture of Gaussians is fitted to the patches; an image is described by the Fisher vector of its patches
(`FisherVector`), the best descriptor of textures before models were trained end to end (Cimpoi et al., "Deep
filter banks for texture recognition and segmentation", 2015). One dense layer classifies it.

No part is trained by gradient descent. Components and mixture are fitted to the training images without their labels,
and the dense layer is a linear support vector machine: ten images an artist are too few to learn the filters of Red 1
to 3, and enough for these.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from redarte import devices
from redarte.devices.backend import WIDEST, keras
from redarte.images import dataset
from redarte.images.dataset import Dataset
from redarte.models import base, projection, svm
from redarte.models.base import Decomposition, Parts
from redarte.models.base import files as saved
from redarte.models.layers import MIN_VARIANCE, by_region
from redarte.params import Fisher, Params
from redarte.runtime.console import say

if TYPE_CHECKING:
    from redarte.training.loop import Trained

DESCRIPTION = (
    "A model of redarte's own, fitted to these images alone: the mean and the standard deviation of the colours in "
    "patches of four by four cells, projected on their principal components; the Fisher vector of a mixture of "
    "Gaussians; a linear support vector machine."
)
LICENSE = "mit"
READS_RESIZED = False

_PATCH = 4  # cells a side, as in SIFT (Lowe, 2004)
_STRIDE = 2  # cells
_EM_ITERATIONS = 30  # of expectation maximisation: later ones hardly change the mixture
_MIN_VARIANCE_SHARE = 1e-5  # of the variance of all patches, for each component: flat colours have no variance
_REGIONS = 16  # rows and columns of the evidence map
# Gradients below 1e-6 are rounding noise, which the square root would make a thousand times as large.
_MIN_GRADIENT = 1e-6
_EPSILON = 1e-12  # added to divisors that may be zero

ops = keras.ops


@keras.saving.register_keras_serializable(package="redarte")
class Cells(keras.layers.Layer):
    """The mean and the standard deviation of every channel in square cells of an image.

    (batch, side, side, channels) -> (batch, side // size, side // size, 2 * channels). Incomplete cells are left out.

    Args:
        size: of a cell, in px.
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


def load_data(settings: Params) -> tuple[Dataset, Dataset]:
    """Returns train and val of the originals, resized to `fisher.input_size`."""
    return dataset.load_originals(settings.fisher.input_size)


def fit(name: str, settings: Params, train: Dataset, val: Dataset, _history_file: Path) -> "Trained":
    """Fits the model of the section `fisher`."""
    from redarte.training.loop import Trained

    devices.prepare(settings.seed, settings.train)
    say(f"{name}: {len(train)} images of {train.side} px")
    model = build(settings.fisher, train.side, len(train.artists))
    fit_mixture(model, train, settings.seed)
    descriptor = keras.Model(model.input, model.get_layer("fisher").output)
    train_features, val_features = (np.stack(list(base.predict(descriptor, images, name))) for images in (train, val))
    row = svm.fit(model, (train_features, train.labels), (val_features, val.labels), settings.fisher.C, settings)
    facts = {"parameters": model.count_params(), "precision": "float32", "input_size": train.side}
    embeddings = saved.embeddings_by_id(train, train_features[:, : settings.fisher.mixture_components])
    return Trained(model, svm.metrics(row) | facts, [row], embeddings=embeddings)


def build(settings: Fisher, side: int, artists: int) -> keras.Model:
    """Builds the model before it is fitted.

    Args:
        side: of the square images, in px.

    Returns:
        A model that maps images (batch, side, side, 3), 0 to 255, to probabilities (batch, artists).
    """
    image = keras.Input((side, side, 3), name="image")
    scaled = keras.layers.Rescaling(1 / 255, name="rescaling", dtype="float32")(image)
    cells = Cells(settings.cell, name="cells", dtype="float32")(scaled)
    patches = keras.layers.Conv2D(
        settings.principal_components, _PATCH, _STRIDE, trainable=False, name="patches", dtype="float32"
    )(cells)
    vector = FisherVector(settings.mixture_components, name="fisher", dtype="float32")(patches)
    classify = keras.layers.Dense(artists, activation="softmax", name="artists", dtype="float32")
    return keras.Model(image, classify(vector), name="fisher")


def fit_mixture(model: keras.Model, train: Dataset, seed: int) -> None:
    """Fits the layers `patches` and `fisher` of a model to the training images, without their labels."""
    vector = model.get_layer("fisher")
    projected = projection.fit_projection(model, train, seed)
    projection.check_enough(len(projected), model, "mixture_components", vector.components)
    mixture = GaussianMixture(
        vector.components,
        covariance_type="diag",
        max_iter=_EM_ITERATIONS,
        reg_covar=_MIN_VARIANCE_SHARE * float(projected.var()),
        random_state=seed,
    )
    with warnings.catch_warnings():
        # The mixture need not have converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(projected)
    vector.set_weights([mixture.weights_, mixture.means_, np.sqrt(mixture.covariances_)])


def decompose(model: keras.Model) -> Decomposition:
    """Splits the Fisher vector into the contribution of each region of the image."""
    vector, dense = model.get_layer("fisher"), model.get_layer("artists")
    trunk = keras.Model(model.inputs, vector.input)

    def forward(image: Any) -> Parts:
        regions = vector.gradients(trunk(image, training=False), _REGIONS, _REGIONS)
        gradient = ops.sum(regions, axis=(1, 2))
        scale = vector.scale(gradient)
        features = gradient * scale
        # The shares of the mixture components are a compact description of an image.
        return Parts(regions * scale[:, None, None], features, features[:, : vector.components])

    kernel = dense.kernel.numpy()
    return Decomposition(forward, kernel, dense.bias.numpy(), (1, 1, len(kernel)))


def _posteriors(maps: Any, priors: Any, means: Any, deviations: Any) -> Any:
    """The posterior of each component at each position: (batch, rows, columns, components), adding up to 1."""
    precision = 1 / ops.square(deviations)
    constant = ops.log(priors) - ops.sum(ops.log(deviations), axis=1)
    constant = constant - ops.sum(ops.square(means) * precision, axis=1) / 2
    linear = ops.matmul(maps, ops.transpose(means * precision))
    return ops.softmax(constant + linear - ops.matmul(ops.square(maps), ops.transpose(precision)) / 2, axis=-1)
