"""fisher: a network of our own, which tells painters apart by brushwork and colour, and is fitted in half a minute.

A painting is cut into cells of a few pixels. The mean and the standard deviation of the colours in four by four cells
are a patch, which is projected on the principal components of such patches, as in Chan et al., "PCANet" (2015). A
mixture of Gaussians is fitted to them; a picture is described by the Fisher vector of its patches
(`layers.FisherVector`), which described textures best before networks were trained end to end (Cimpoi et al., "Deep
filter banks for texture recognition and segmentation", 2015). One dense layer decides.

Nothing in it is trained by gradient descent. Components and mixture come from the training pictures, whoever painted
them, and the dense layer is a linear support vector machine: ten pictures an artist are too few to learn the filters
of Red 1 to 3 from, and enough for these.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from redarte.networks import base, svm
from redarte.networks.base import Decomposition
from redarte.networks.layers import Cells, FisherVector
from redarte.params import Fisher, Params
from redarte.runtime.console import say
from redarte.runtime.errors import UserError
from redarte.training import dataset, devices
from redarte.training.backend import keras
from redarte.training.dataset import Pictures
from redarte.training.loop import Trained

DESCRIPTION = (
    "A network of redarte's own, fitted to these pictures alone: the mean and the standard deviation of the colours in "
    "patches of four by four cells, projected on their principal components; the Fisher vector of a mixture of "
    "Gaussians; a linear support vector machine."
)
LICENSE = "mit"
READS_RESIZED = False

_PATCH = 4  # cells a side, as SIFT has (Lowe, 2004)
_STRIDE = 2  # cells
_PICTURES, _PATCHES = 200, 100_000  # that components and mixture are fitted to
_ITERATIONS = 30  # of expectation maximisation: after them the mixture hardly moves
_LEAST_SHARE = 1e-5  # of the variance of all patches, for each component: pictures with flat colours have none
_REGIONS = 16  # each way: where evidence is looked for


def pictures(settings: Params) -> tuple[Pictures, Pictures]:
    """The originals, squeezed to `fisher.input_size`."""
    return dataset.originals(settings.fisher.input_size)


def fit(name: str, settings: Params, train: Pictures, val: Pictures, _history_file: Path) -> Trained:
    """Fits the network of the section `fisher`.

    Raises:
        UserError: the pictures have fewer patches than there are principal or mixture components.
    """
    devices.prepare(settings.seed, settings.train)
    say(f"{name}: {len(train)} pictures of {train.side} px")
    network = build(settings.fisher, train.side, len(train.artists))
    fit_mixture(network, train, settings.seed)
    describe = keras.Model(network.input, network.get_layer("fisher").output)
    described = [np.stack(list(base.predict(describe, pictures, name))) for pictures in (train, val)]
    row = svm.fit(network, (described[0], train.labels), (described[1], val.labels), settings.fisher.C, settings)
    facts = {"parameters": network.count_params(), "precision": "float32", "input_size": train.side}
    embeddings = base.embedded(train, described[0][:, : settings.fisher.mixture_components])
    return Trained(network, svm.metrics(row) | facts, [row], embeddings=embeddings)


def build(settings: Fisher, side: int, artists: int) -> keras.Model:
    """The network before it is fitted.

    Returns:
        A network that takes (batch, side, side, 3) pictures of 0 to 255 and gives probabilities (batch, artists).
    """
    picture = keras.Input((side, side, 3), name="picture")
    scaled = keras.layers.Rescaling(1 / 255, name="rescaling", dtype="float32")(picture)
    cells = Cells(settings.cell, name="cells", dtype="float32")(scaled)
    patches = keras.layers.Conv2D(
        settings.principal_components, _PATCH, _STRIDE, trainable=False, name="patches", dtype="float32"
    )(cells)
    vector = FisherVector(settings.mixture_components, name="fisher", dtype="float32")(patches)
    decide = keras.layers.Dense(artists, activation="softmax", name="artists", dtype="float32")
    return keras.Model(picture, decide(vector), name="fisher")


def fit_mixture(network: keras.Model, train: Pictures, seed: int) -> None:
    """Fits the layers `patches` and `fisher` of a network to what `patches` is given, whoever painted the pictures.

    Raises:
        UserError: there are fewer patches than principal or mixture components.
    """
    vector = network.get_layer("fisher")
    projected = fit_projection(network, train, seed)
    _check_enough(projected, network, "mixture_components", vector.components)
    mixture = GaussianMixture(
        vector.components,
        covariance_type="diag",
        max_iter=_ITERATIONS,
        reg_covar=_LEAST_SHARE * float(projected.var()),
        random_state=seed,
    )
    with warnings.catch_warnings():
        # It need not be the likeliest mixture that there is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(projected)
    vector.set_weights([mixture.weights_, mixture.means_, np.sqrt(mixture.covariances_)])


def fit_projection(network: keras.Model, train: Pictures, seed: int) -> np.ndarray:
    """Fits the layer `patches` of a network: to the principal components of what it is given.

    Returns:
        Some of the patches of the training pictures, projected by it: (n, components).

    Raises:
        UserError: there are fewer patches than components.
    """
    projection = network.get_layer("patches")
    patches = _patches(network, train, seed)
    _check_enough(patches, network, "principal_components", projection.filters)
    components = PCA(projection.filters, svd_solver="covariance_eigh").fit(patches)
    kernel = components.components_.T.reshape(projection.kernel.shape)
    projection.set_weights([kernel, -components.components_ @ components.mean_])
    return np.asarray(components.transform(patches))


def decompose(network: keras.Model) -> Decomposition:
    """Splits the Fisher vector up into what each region of the picture gives to it."""
    vector, dense = network.get_layer("fisher"), network.get_layer("artists")
    trunk = keras.Model(network.inputs, vector.input)

    def forward(picture: Any) -> tuple[Any, Any, Any]:
        regions = vector.gradients(trunk(picture, training=False), _REGIONS, _REGIONS)
        gradient = keras.ops.sum(regions, axis=(1, 2))
        scale = vector.scale(gradient)
        described = gradient * scale
        # How much of a picture is of each mixture component says what it is like.
        return regions * scale[:, None, None], described, described[:, : vector.components]

    kernel = dense.kernel.numpy()
    return Decomposition(forward, kernel, dense.bias.numpy(), (1, 1, len(kernel)))


def _check_enough(patches: np.ndarray, network: keras.Model, name: str, wanted: int) -> None:
    if len(patches) <= wanted:
        raise UserError(
            f"the training pictures have {len(patches)} patches, too few for {wanted} (params.yaml's "
            f"{network.name}.{name}): lower it, or raise {network.name}.input_size."
        )


def _patches(network: keras.Model, train: Pictures, seed: int) -> np.ndarray:
    """Patches from anywhere in some of the training pictures, equally many of each: (n, numbers), float32."""
    projection = network.get_layer("patches")
    (rows, columns), (down, right) = projection.kernel_size, projection.strides
    rng = np.random.default_rng(seed)
    some = train.at(np.sort(rng.permutation(len(train))[:_PICTURES]))
    each = -(-_PATCHES // len(some))
    found = []
    for cells in base.predict(keras.Model(network.input, projection.input), some, f"{network.name}, patches"):
        places = np.lib.stride_tricks.sliding_window_view(cells, (rows, columns), (0, 1))[::down, ::right]
        flat = places.transpose(0, 1, 3, 4, 2).reshape(-1, rows * columns * cells.shape[-1])
        found.append(flat[rng.permutation(len(flat))[:each]])
    return np.concatenate(found)
