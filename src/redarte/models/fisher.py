"""fisher: a model of our own for brushwork and colour, which is fitted in half a minute.

An image is cut into cells of a few pixels. The mean and the standard deviation of the colours in four by four cells
are a patch, which is projected on the principal components of such patches, as in Chan et al., "PCANet" (2015). A
mixture of Gaussians is fitted to the patches; an image is described by the Fisher vector of its patches
(`layers.FisherVector`), the best descriptor of textures before models were trained end to end (Cimpoi et al., "Deep
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
from redarte.devices.backend import keras
from redarte.images import dataset
from redarte.images.dataset import Dataset
from redarte.models import base, projection, svm
from redarte.models.base import Decomposition
from redarte.models.layers import Cells, FisherVector
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


def load_data(settings: Params) -> tuple[Dataset, Dataset]:
    """Returns train and val of the originals, resized to `fisher.input_size`.

    Raises:
        UserError: a split has no images.
    """
    return dataset.load_originals(settings.fisher.input_size)


def fit(name: str, settings: Params, train: Dataset, val: Dataset, _history_file: Path) -> "Trained":
    """Fits the model of the section `fisher`.

    Returns:
        The fitted model.

    Raises:
        UserError: the images have fewer patches than there are principal or mixture components.
    """
    from redarte.training.loop import Trained

    devices.prepare(settings.seed, settings.train)
    say(f"{name}: {len(train)} images of {train.side} px")
    model = build(settings.fisher, train.side, len(train.artists))
    fit_mixture(model, train, settings.seed)
    descriptor = keras.Model(model.input, model.get_layer("fisher").output)
    train_features, val_features = (np.stack(list(base.predict(descriptor, images, name))) for images in (train, val))
    row = svm.fit(model, (train_features, train.labels), (val_features, val.labels), settings.fisher.C, settings)
    facts = {"parameters": model.count_params(), "precision": "float32", "input_size": train.side}
    embeddings = base.embeddings_by_id(train, train_features[:, : settings.fisher.mixture_components])
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
    """Fits the layers `patches` and `fisher` of a model to the training images, without their labels.

    Raises:
        UserError: there are fewer patches than principal or mixture components.
    """
    vector = model.get_layer("fisher")
    projected = projection.fit_projection(model, train, seed)
    projection.check_enough(projected, model, "mixture_components", vector.components)
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
    """Splits the Fisher vector into the contribution of each region of the image.

    Returns:
        The parts of the model.
    """
    vector, dense = model.get_layer("fisher"), model.get_layer("artists")
    trunk = keras.Model(model.inputs, vector.input)

    def forward(image: Any) -> tuple[Any, Any, Any]:
        regions = vector.gradients(trunk(image, training=False), _REGIONS, _REGIONS)
        gradient = keras.ops.sum(regions, axis=(1, 2))
        scale = vector.scale(gradient)
        features = gradient * scale
        # The shares of the mixture components are a compact description of an image.
        return regions * scale[:, None, None], features, features[:, : vector.components]

    kernel = dense.kernel.numpy()
    return Decomposition(forward, kernel, dense.bias.numpy(), (1, 1, len(kernel)))
