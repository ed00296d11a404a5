"""finetuned: a backbone that others trained, and a new head, fitted in one or two phases.

A picture is described by the mean and the standard deviation, over its places, of the backbone's feature maps at its
two coarsest resolutions (`backbones.feature_maps`), and by the covariance of the finer ones (`layers.CovarianceRoot`);
one dense layer decides. Means and deviations of feature maps are what style is in Huang and Belongie, "Arbitrary style
transfer in real-time with adaptive instance normalization" (2017); which of them go together is what it is in Gatys et
al., "Image style transfer using convolutional neural networks" (2016). In phase one the backbone is frozen, so that
its features are computed once and not in every epoch. In phase two (`finetuned.fine_tune`) its last layers learn too.
"""

import difflib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from redarte.networks import backbones, base, fisher, layers, svm
from redarte.networks.base import Decomposition
from redarte.networks.layers import LEAST_VARIANCE, CovarianceRoot, Deviation, by_region
from redarte.networks.svm import Features
from redarte.params import Finetuned, Params, Train
from redarte.runtime.console import say
from redarte.runtime.errors import UserError
from redarte.training import dataset, devices, jobs, loop
from redarte.training.backend import keras
from redarte.training.checkpoints import Row
from redarte.training.dataset import Pictures
from redarte.training.jobs import TrainingJob
from redarte.training.loop import Metrics, Trained

ops = keras.ops

DESCRIPTION = (
    "A backbone that others trained, whose weights and licence are those of its makers, fine-tuned by redarte: the "
    "mean and the standard deviation over the picture of its feature maps at its two coarsest resolutions, the square "
    "root of their covariance at the finer of them, then one dense layer with a softmax."
)
LICENSE = "other"
READS_RESIZED = False

_LEAST_VARIANCE = 1e-3  # what never varies says nothing, however far it is then divided
_FEWEST_ROWS = 5  # of a feature map, for its border to be passed over
_ROOT_COUNTS = 2  # times as much as means and deviations: docs/research/finetuned.md


def pictures(settings: Params) -> tuple[Pictures, Pictures]:
    """The originals, squeezed to `finetuned.input_size`."""
    return dataset.originals(settings.finetuned.input_size)


def fit(name: str, settings: Params, train: Pictures, val: Pictures, history_file: Path) -> Trained:
    """Fits the head, and then fine-tunes the backbone of the section `finetuned`.

    Raises:
        UserError: the backbone cannot be used, or training fails.
    """
    chosen = settings.finetuned
    devices.prepare(settings.seed, settings.train)
    if chosen.fine_tune.epochs:
        # Other machines can be reached only before the first computation.
        devices.count()
    backbone = backbones.load(chosen)
    say(f"{name}: {chosen.backbone}, {len(train)} pictures of {train.side} px, phase one")
    network = build(backbone, len(train.artists), chosen)
    fisher.fit_projection(network, train, settings.seed)
    row, embeddings = fit_head(network, train, val, settings)
    facts: Metrics = {
        "parameters": network.count_params(),
        "precision": "float32",
        # Without its folder: that is this machine's.
        "backbone": Path(chosen.backbone).name,
        "input_size": chosen.input_size,
    }
    if not chosen.fine_tune.epochs:
        return Trained(network, svm.metrics(row) | facts, [row], embeddings=base.embedded(train, embeddings))
    start = network.get_weights()

    def rebuild(policy: str) -> keras.Model:
        fresh = build(backbone, len(train.artists), chosen, policy)
        fresh.set_weights(start)
        return fresh

    modules = (backbones, fisher, layers, svm, sys.modules[__name__])
    job = TrainingJob(
        name, _fine_tuning(settings.train, chosen), settings.seed, train, val, rebuild,
        origin=[chosen.model_dump(), backbones.digest(network), *map(loop.code_of, modules)],
    )  # fmt: skip
    trained = loop.train(job, history_file)
    return Trained(trained.network, facts | trained.metrics, trained.history, trained.checkpoint)


def build(backbone: keras.Model, artists: int, settings: Finetuned, policy: str = "float32") -> keras.Model:
    """A backbone with a new head.

    Args:
        backbone: from `backbones.load`.
        artists: the number of classes.
        policy: the dtype policy of the backbone; what comes after it is float32.

    Returns:
        A network that takes (batch, side, side, 3) pictures of 0 to 255 and gives probabilities (batch, artists). Of
        the backbone, what `settings.unfreeze` says can learn, but no batch normalization: a batch of paintings is too
        small to measure by.

    Raises:
        UserError: `settings.unfreeze` names no layer of the backbone.
    """
    copy = _in_policy(backbone, policy)
    first = _first_to_learn(copy, settings)
    for place, layer in enumerate(copy.layers):
        layer.trainable = place >= first and not isinstance(layer, keras.layers.BatchNormalization)
    parts = []
    maps = backbones.feature_maps(copy)
    for number, tensor in enumerate(maps, start=1):
        parts.append(keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"mean{number}")(tensor))
        parts.append(Deviation(dtype="float32", name=f"deviation{number}")(tensor))
    components = min(settings.principal_components, maps[0].shape[3])
    projected = keras.layers.Conv2D(components, 1, trainable=False, dtype="float32", name="patches")(maps[0])
    # At the edge, feature maps show the zeros that pictures are padded with, which are the same in all of them.
    border = 1 if projected.shape[1] >= _FEWEST_ROWS else 0
    parts.append(CovarianceRoot(border, dtype="float32", name="root")(projected))
    described = keras.layers.Concatenate(dtype="float32", name="described")(parts)
    standardised = keras.layers.BatchNormalization(
        epsilon=0.0, center=False, scale=False, trainable=False, dtype="float32", name="standardised"
    )(described)
    dropped = keras.layers.Dropout(settings.dropout, dtype="float32", name="dropout")(standardised)
    decide = keras.layers.Dense(
        artists, activation="softmax", kernel_initializer="zeros", dtype="float32", name="artists"
    )
    return keras.Model(copy.input, decide(dropped), name="finetuned")


def fit_head(network: keras.Model, train: Pictures, val: Pictures, settings: Params) -> tuple[Row, np.ndarray]:
    """Phase one: fits the last layer of a network to the features of its frozen backbone, computed once.

    Returns:
        Accuracy and loss on train and val, and the embeddings of the training pictures (n, features).
    """
    describe = keras.Model(network.input, network.get_layer("described").output)
    of_train, of_val = (
        np.stack(list(base.predict(describe, pictures, "finetuned, phase one"))) for pictures in (train, val)
    )
    standardised = network.get_layer("standardised")
    of_root = network.get_layer("root").output.shape[1]
    spread = _spread(of_train, of_root)
    standardised.set_weights([of_train.mean(axis=0), spread])
    features_train, features_val = (
        (ops.convert_to_numpy(standardised(features)), pictures.labels)
        for features, pictures in ((of_train, train), (of_val, val))
    )
    head = settings.finetuned.head
    say(f"finetuned: the head, {f'{head.epochs} epochs' if head.epochs else 'a support vector machine'}")
    # The means at the backbone's output stand before its deviations, and these before the root.
    channels = [layer for layer in network.layers if isinstance(layer, Deviation)][-1].output.shape[1]
    end = of_train.shape[1] - of_root - channels
    embeddings = of_train[:, end - channels : end]
    if head.epochs == 0:
        return svm.fit(network, features_train, features_val, head.C, settings), embeddings
    _descend(network, features_train, jobs.class_weights(train, settings.train), settings)
    return svm.measure(network, features_train, features_val), embeddings


def decompose(network: keras.Model) -> Decomposition:
    """Splits up each mean, each deviation and the root of the covariance into what its places give to it.

    A mean is the sum of its places' values / n. A deviation d about a mean m is the sum of
    ((value - m)² + LEAST_VARIANCE) / (n d).
    """
    deviations = [layer for layer in network.layers if isinstance(layer, Deviation)]
    root = network.get_layer("root")
    trunk = keras.Model(network.inputs, [*(layer.input for layer in deviations), root.input])
    rows, columns = deviations[-1].input.shape[1:3]
    dense, standardised = (network.get_layer(name) for name in ("artists", "standardised"))
    middle, variance = (weight.numpy() for weight in standardised.weights)
    kernel = dense.kernel.numpy() / np.sqrt(variance + standardised.epsilon)[:, None]
    bias = dense.bias.numpy() - middle @ kernel

    def forward(picture: Any) -> tuple[Any, Any, Any]:
        described, regions = [], []
        *maps, projected = trunk(picture, training=False)
        for tensor in maps:
            mean = ops.mean(tensor, axis=(1, 2), keepdims=True)
            squares = ops.square(tensor - mean) + LEAST_VARIANCE
            deviation = ops.sqrt(ops.mean(squares, axis=(1, 2), keepdims=True))
            places = float(tensor.shape[1] * tensor.shape[2])
            described += [mean[:, 0, 0], deviation[:, 0, 0]]
            regions += [
                sum_regions(tensor / places, rows, columns),
                sum_regions(squares / (places * deviation), rows, columns),
            ]
        # The means at the backbone's output say what a picture is like.
        embedding = described[-2]
        described.append(root(projected))
        regions.append(root.regions(projected, rows, columns))
        return ops.concatenate(regions, axis=-1), ops.concatenate(described, axis=-1), embedding

    return Decomposition(forward, kernel.astype(np.float32), bias.astype(np.float32), (1, 1, len(kernel)))


def sum_regions(tensor: Any, rows: int, columns: int) -> Any:
    """Sums up a map (n, rows, columns, channels) to one of fewer places, each of about as many as any other."""
    return ops.sum(by_region(tensor, rows, columns), axis=3)


def _spread(described: np.ndarray, of_root: int) -> np.ndarray:
    """The variances to standardise features by: (numbers,), float32.

    After it each of the means and deviations varies as much as any other, and the numbers of the root keep their
    proportions to each other. How far a picture is from their mean, squared, is about 1 for the former together and
    _ROOT_COUNTS for the latter, however many they are.
    """
    variance = described.var(axis=0)
    single, root = variance[:-of_root], variance[-of_root:]
    single = (single + _LEAST_VARIANCE) * len(single)
    return np.concatenate([single, np.full_like(root, max(root.sum(), _LEAST_VARIANCE) / _ROOT_COUNTS)])


def _descend(network: keras.Model, train: Features, weights: np.ndarray | None, settings: Params) -> None:
    """Fits the layer `artists` of a network by Adam, to what it is given."""
    features, labels = train
    chosen, decide = settings.finetuned, network.get_layer("artists")
    given = keras.Input(features.shape[1:])
    head = keras.Model(given, decide(keras.layers.Dropout(chosen.dropout)(given)))
    head.compile(
        keras.optimizers.Adam(chosen.head.learning_rate),
        keras.losses.CategoricalCrossentropy(label_smoothing=chosen.label_smoothing),
    )
    head.fit(
        features,
        np.eye(decide.units, dtype=np.float32)[labels],
        batch_size=settings.train.batch_size,
        epochs=chosen.head.epochs,
        sample_weight=None if weights is None else weights[labels],
        verbose=0,
    )


def _first_to_learn(backbone: keras.Model, settings: Finetuned) -> int:
    """The place, among its layers, of the first layer of a backbone that can learn in phase two."""
    wanted, names = settings.unfreeze, [layer.name for layer in backbone.layers]
    if isinstance(wanted, float):
        return round(len(names) * (1 - wanted))
    for place, name in enumerate(names):
        if name.startswith(wanted):
            return place
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0)
    raise UserError(
        f"params.yaml: finetuned.unfreeze is {wanted!r}, and no layer of {settings.backbone} begins so; "
        f"did you mean {near[0]}?"
    )


def _in_policy(backbone: keras.Model, policy: str) -> keras.Model:
    """A copy of a backbone, which computes in another precision."""

    def again(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if "dtype" in config and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = policy
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(backbone, clone_function=again)
    copy.set_weights(backbone.get_weights())
    return copy


def _fine_tuning(train: Train, chosen: Finetuned) -> Train:
    """The section `train`, as phase two has it."""
    # 16 bits are slower than 32 on a CPU for the depthwise convolutions that backbones are made of.
    precise = train.precision == "auto" and not devices.gpu_names()
    return train.model_copy(
        update={
            "epochs": chosen.fine_tune.epochs,
            "learning_rate": chosen.fine_tune.learning_rate,
            "schedule": "cosine",
            "label_smoothing": chosen.label_smoothing,
            "online": chosen.online,
            "precision": "float32" if precise else train.precision,
        }
    )
