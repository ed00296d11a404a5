"""finetuned: a backbone that others trained, taught these artists in two phases.

A picture is described by the mean and the standard deviation, over its places, of what the backbone sees at its two
coarsest resolutions (`backbones.taps`), and by how what it sees at the finer one varies together
(`layers.CovarianceRoot`); one dense layer decides. Means and deviations of feature maps are what style is in Huang and
Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization" (2017); which of them go together
is what it is in Gatys et al., "Image style transfer using convolutional neural networks" (2016). In phase one the
backbone is frozen, so that each picture is described once and not in every epoch. In phase two (`finetuned.tail`) its
last layers learn too.
"""

import difflib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redarte import backbones, devices, fisher, jobs, layers, networks, training
from redarte.backend import keras
from redarte.checkpoints import Checkpoint
from redarte.console import say
from redarte.dataset import Pictures
from redarte.errors import UserError
from redarte.fisher import Described, Measured
from redarte.jobs import Job
from redarte.layers import CovarianceRoot, Deviation
from redarte.params import Finetuned, Params, Train

_LEAST_VARIANCE = 1e-3  # what never varies says nothing, however far it is then divided
_FEWEST_ROWS = 5  # of a map, for its border to be passed over
_ROOT_COUNTS = 2  # times as much as means and deviations: docs/results.md


@dataclass
class Taught:
    """A network that was taught.

    Attributes:
        network: in float32.
        metrics: the content of metrics/train_finetuned.json.
        checkpoint: of phase two, to be forgotten once the network is saved; None where there was none.
    """

    network: keras.Model
    metrics: Measured
    checkpoint: Checkpoint | None


def teach(settings: Params, train: Pictures, val: Pictures, history_file: Path) -> Taught:
    """Teaches the backbone of the section `finetuned`.

    Args:
        train, val: of `finetuned.input_size` px.
        history_file: for the history of phase two.

    Raises:
        UserError: the backbone cannot be used, or training fails.
    """
    chosen = settings.finetuned
    devices.prepare(settings.seed, settings.train.deterministic)
    if chosen.tail.epochs:
        # Other machines can be reached only before the first computation.
        devices.strategy()
    backbone = backbones.load(chosen)
    say(f"finetuned: {chosen.backbone}, {len(train)} pictures of {train.side} px, each seen once in phase one")
    network = assemble(backbone, len(train.artists), chosen)
    fisher.learn_filters(network, train, settings.seed)
    measured = learn_head(network, train, val, settings)
    facts: Measured = {
        "parameters": network.count_params(),
        "precision": "float32",
        # Without its folder: that is this machine's.
        "backbone": Path(chosen.backbone).name,
        "input_size": chosen.input_size,
    }
    if not chosen.tail.epochs:
        return Taught(network, measured | facts, None)
    start = network.get_weights()

    def build(policy: str) -> keras.Model:
        fresh = assemble(backbone, len(train.artists), chosen, policy)
        fresh.set_weights(start)
        return fresh

    modules = (backbones, fisher, layers, sys.modules[__name__])
    job = Job(
        "finetuned", _tail(settings.train, chosen), settings.seed, train, val, build,
        origin=[chosen.model_dump(), backbones.digest(network), *map(training.code_of, modules)],
    )  # fmt: skip
    result = training.train(job, history_file)
    return Taught(result.network, facts | result.metrics(), result.checkpoint)


def assemble(backbone: keras.Model, artists: int, settings: Finetuned, policy: str = "float32") -> keras.Model:
    """A backbone with a new last layer.

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
    seeing = _in_policy(backbone, policy)
    first = _first_to_learn(seeing, settings)
    for place, layer in enumerate(seeing.layers):
        layer.trainable = place >= first and not isinstance(layer, keras.layers.BatchNormalization)
    parts = []
    taps = backbones.taps(seeing)
    for number, tap in enumerate(taps, start=1):
        parts.append(keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"mean{number}")(tap))
        parts.append(Deviation(dtype="float32", name=f"deviation{number}")(tap))
    filters = min(settings.filters, taps[0].shape[3])
    places = keras.layers.Conv2D(filters, 1, trainable=False, dtype="float32", name="patches")(taps[0])
    # At its edge a network sees the zeros that it pads pictures with, which are the same in all of them.
    border = 1 if places.shape[1] >= _FEWEST_ROWS else 0
    parts.append(CovarianceRoot(border, dtype="float32", name="root")(places))
    described = keras.layers.Concatenate(dtype="float32", name="described")(parts)
    standardised = keras.layers.BatchNormalization(
        epsilon=0.0, center=False, scale=False, trainable=False, dtype="float32", name="standardised"
    )(described)
    dropped = keras.layers.Dropout(settings.dropout, dtype="float32", name="dropout")(standardised)
    decide = keras.layers.Dense(
        artists, activation="softmax", kernel_initializer="zeros", dtype="float32", name="artists"
    )
    return keras.Model(seeing.input, decide(dropped), name="finetuned")


def learn_head(network: keras.Model, train: Pictures, val: Pictures, settings: Params) -> Measured:
    """Phase one: fits the last layer of a network to what its backbone sees, computed once.

    Returns:
        Accuracy and loss on train and val.
    """
    describing = keras.Model(network.input, network.get_layer("described").output)
    of_train, of_val = (
        np.stack(list(networks.answers(describing, pictures, "finetuned, phase one"))) for pictures in (train, val)
    )
    standardised = network.get_layer("standardised")
    spread = _spread(of_train, network.get_layer("root").output.shape[1])
    standardised.set_weights([of_train.mean(axis=0), spread])
    described_train, described_val = (
        (standardised(features).numpy(), pictures.labels) for features, pictures in ((of_train, train), (of_val, val))
    )
    head = settings.finetuned.head
    say(f"finetuned: the last layer, {f'{head.epochs} epochs' if head.epochs else 'by support vectors'}")
    if head.epochs == 0:
        return fisher.learn_to_decide(network, described_train, described_val, head.cost, settings)
    _descend(network, described_train, jobs.weights_of_artists(train, settings.train), settings)
    return fisher.measured(network, described_train, described_val)


def _spread(described: np.ndarray, of_root: int) -> np.ndarray:
    """The variances to standardise descriptions by: (numbers,), float32.

    After it each of the means and deviations varies as much as any other, and the numbers of the root keep their
    proportions to each other. How far a picture is from their mean, squared, is about 1 for the former together and
    _ROOT_COUNTS for the latter, however many they are.
    """
    variance = described.var(axis=0)
    single, root = variance[:-of_root], variance[-of_root:]
    single = (single + _LEAST_VARIANCE) * len(single)
    return np.concatenate([single, np.full_like(root, max(root.sum(), _LEAST_VARIANCE) / _ROOT_COUNTS)])


def _descend(network: keras.Model, train: Described, weights: np.ndarray | None, settings: Params) -> None:
    """Learns the layer `artists` of a network by Adam, from what it is given."""
    features, labels = train
    chosen, decide = settings.finetuned, network.get_layer("artists")
    seen = keras.Input(features.shape[1:])
    learning = keras.Model(seen, decide(keras.layers.Dropout(chosen.dropout)(seen)))
    learning.compile(
        keras.optimizers.Adam(chosen.head.learning_rate),
        keras.losses.CategoricalCrossentropy(label_smoothing=chosen.label_smoothing),
    )
    learning.fit(
        features,
        keras.ops.one_hot(labels, decide.units),
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


def _tail(train: Train, chosen: Finetuned) -> Train:
    """The section `train`, as phase two has it."""
    # 16 bits are slower than 32 on a CPU for the depthwise convolutions that backbones are made of.
    precise = train.precision == "auto" and not devices.gpu_names()
    return train.model_copy(
        update={
            "epochs": chosen.tail.epochs,
            "learning_rate": chosen.tail.learning_rate,
            "schedule": "cosine",
            "label_smoothing": chosen.label_smoothing,
            "online": chosen.online,
            "precision": "float32" if precise else train.precision,
        }
    )
