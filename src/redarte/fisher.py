"""fisher: a network of our own, which knows painters by their brush and their colours, and learns in half a minute.

A painting is cut into cells of a few pixels. What four by four of them look like, by the mean and the standard
deviation of their colours, is summed up by a few filters: the principal components of such patches, as in Chan et al.,
"PCANet" (2015). A mixture of Gaussians knows the kinds of patch that there are; a picture is described by how its
patches differ from it (`layers.FisherVector`), which described textures best before networks were trained end to end
(Cimpoi et al., "Deep filter banks for texture recognition and segmentation", 2015). One dense layer decides.

Nothing in it is learned by gradient descent. The filters and the mixture come from the training pictures, whoever
painted them, and the dense layer is a linear support vector machine: ten pictures an artist are too few to learn the
filters of Red 1 to 3 from, and enough for these.
"""

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.svm import LinearSVC

from redarte import devices, metrics, networks
from redarte.backend import keras
from redarte.console import say
from redarte.dataset import Pictures
from redarte.errors import UserError
from redarte.layers import Cells, FisherVector
from redarte.params import Fisher, Params

Described = tuple[np.ndarray, np.ndarray]  # (n, numbers) float32 of n pictures, and their labels (n,) int64
Measured = dict[str, float | int | str]

_PATCH = 4  # cells a side, as SIFT has (Lowe, 2004)
_STRIDE = 2  # cells
_PICTURES, _PATCHES = 200, 100_000  # that filters and mixture are fitted to
_ROUNDS = 30  # of expectation maximisation: after them the mixture hardly moves
_LEAST_SHARE = 1e-5  # of the variance of all patches, for each kind of patch: pictures with flat colours have none


def teach(settings: Params, train: Pictures, val: Pictures) -> tuple[keras.Model, Measured]:
    """Teaches the network of the section `fisher`.

    Args:
        train, val: of `fisher.input_size` px.

    Returns:
        The network, in float32, and the content of metrics/train_fisher.json.

    Raises:
        UserError: the pictures have fewer patches than there are filters or kinds.
    """
    devices.prepare(settings.seed, settings.train.deterministic)
    say(f"fisher: {len(train)} pictures of {train.side} px")
    network = assemble(settings.fisher, train.side, len(train.artists))
    learn_patches(network, train, settings.seed)
    described = keras.Model(network.input, network.get_layer("fisher").output)
    of_train, of_val = (np.stack(list(networks.answers(described, pictures, "fisher"))) for pictures in (train, val))
    found = learn_to_decide(network, (of_train, train.labels), (of_val, val.labels), settings.fisher.cost, settings)
    facts = {"parameters": network.count_params(), "precision": "float32", "input_size": train.side}
    return network, found | facts


def learn_to_decide(network: keras.Model, train: Described, val: Described, cost: float, settings: Params) -> Measured:
    """Fits the layer `artists` of a network: a linear support vector machine for each artist against the others.

    With many more numbers than pictures it does better than gradient descent on the cross-entropy, by two pictures in
    a hundred (docs/results.md). It gives no probabilities: how sure the network is (the scale of its logits) is fitted
    on val.

    Args:
        train, val: what the layer is given.
        cost: of a training picture on the wrong side.

    Returns:
        Accuracy and loss on both.
    """
    machine = LinearSVC(
        C=cost,
        class_weight=None if settings.train.class_weight == "none" else settings.train.class_weight,
        random_state=settings.seed,
        max_iter=10_000,
    ).fit(*train)
    kernel, bias = machine.coef_.T, machine.intercept_
    if kernel.shape[1] == 1:
        # It has one margin for two classes.
        kernel, bias = np.hstack([-kernel, kernel]), np.concatenate([-bias, bias])
    described, labels = val
    scale = 1 / metrics.fit_temperature(labels, described @ kernel + bias)
    network.get_layer("artists").set_weights([kernel * scale, bias * scale])
    return measured(network, train, val)


def measured(network: keras.Model, train: Described, val: Described) -> Measured:
    """Accuracy and loss of the layer `artists` of a network on train and val."""
    decide = network.get_layer("artists")
    found: Measured = {}
    for (described, labels), prefix in ((train, ""), (val, "val_")):
        probabilities = decide(described).numpy()
        found[f"{prefix}accuracy"] = round(metrics.accuracy(labels, probabilities), 6)
        found[f"{prefix}loss"] = round(metrics.cross_entropy(labels, probabilities), 6)
    return found


def assemble(settings: Fisher, side: int, artists: int) -> keras.Model:
    """The network before it was taught.

    Returns:
        A network that takes (batch, side, side, 3) pictures of 0 to 255 and gives probabilities (batch, artists).
    """
    picture = keras.Input((side, side, 3), name="picture")
    seen = keras.layers.Rescaling(1 / 255, name="rescaling", dtype="float32")(picture)
    seen = Cells(settings.cell, name="cells", dtype="float32")(seen)
    filtering = keras.layers.Conv2D(settings.filters, _PATCH, _STRIDE, trainable=False, name="patches", dtype="float32")
    seen = filtering(seen)
    described = FisherVector(settings.kinds, name="fisher", dtype="float32")(seen)
    decide = keras.layers.Dense(artists, activation="softmax", name="artists", dtype="float32")
    return keras.Model(picture, decide(described), name="fisher")


def learn_patches(network: keras.Model, train: Pictures, seed: int) -> None:
    """Fits the layers `patches` and `fisher` of a network to what `patches` is given, whoever painted the pictures.

    Raises:
        UserError: there are fewer patches than filters or kinds.
    """
    vector = network.get_layer("fisher")
    summed_up = learn_filters(network, train, seed)
    _check_enough(summed_up, network, "kinds", vector.kinds)
    mixture = GaussianMixture(
        vector.kinds,
        covariance_type="diag",
        max_iter=_ROUNDS,
        reg_covar=_LEAST_SHARE * float(summed_up.var()),
        random_state=seed,
    )
    with warnings.catch_warnings():
        # It need not be the likeliest mixture that there is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(summed_up)
    vector.set_weights([mixture.weights_, mixture.means_, np.sqrt(mixture.covariances_)])


def learn_filters(network: keras.Model, train: Pictures, seed: int) -> np.ndarray:
    """Fits the layer `patches` of a network: to the principal components of what it is given.

    Returns:
        Some of the patches of the training pictures, summed up by it: (n, filters).

    Raises:
        UserError: there are fewer patches than filters.
    """
    filtering = network.get_layer("patches")
    patches = _patches(network, train, seed)
    _check_enough(patches, network, "filters", filtering.filters)
    filters = PCA(filtering.filters, svd_solver="covariance_eigh").fit(patches)
    kernel = filters.components_.T.reshape(filtering.kernel.shape)
    filtering.set_weights([kernel, -filters.components_ @ filters.mean_])
    return np.asarray(filters.transform(patches))


def _check_enough(patches: np.ndarray, network: keras.Model, name: str, wanted: int) -> None:
    if len(patches) <= wanted:
        raise UserError(
            f"the training pictures have {len(patches)} patches, too few for {wanted} {name} (params.yaml's "
            f"{network.name}.{name}): lower it, or raise {network.name}.input_size."
        )


def _patches(network: keras.Model, train: Pictures, seed: int) -> np.ndarray:
    """Patches from anywhere in some of the training pictures, equally many of each: (n, numbers), float32."""
    filtering = network.get_layer("patches")
    (rows, columns), (down, right) = filtering.kernel_size, filtering.strides
    rng = np.random.default_rng(seed)
    some = train.at(np.sort(rng.permutation(len(train))[:_PICTURES]))
    each = -(-_PATCHES // len(some))
    found = []
    for seen in networks.answers(keras.Model(network.input, filtering.input), some, f"{network.name}, patches"):
        places = np.lib.stride_tricks.sliding_window_view(seen, (rows, columns), (0, 1))[::down, ::right]
        flat = places.transpose(0, 1, 3, 4, 2).reshape(-1, rows * columns * seen.shape[-1])
        found.append(flat[rng.permutation(len(flat))[:each]])
    return np.concatenate(found)
