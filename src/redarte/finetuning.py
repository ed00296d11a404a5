"""finetuned: a backbone that others trained, taught these artists in two phases.

A picture is described by the mean and the standard deviation, over its places, of what the backbone sees at its two
coarsest resolutions (`backbones.taps`), and by how its places at the finer one differ from a mixture of the kinds of
place that there are (`layers.FisherVector`); one dense layer decides. Means and deviations of feature
maps are what style is in Huang and Belongie, "Arbitrary style transfer in real-time with adaptive instance
normalization" (2017); Fisher vectors of them tell textures apart in Cimpoi et al., "Deep filter banks for texture
recognition and segmentation" (2015). In phase one the backbone is frozen, so that each picture is described once and
not in every epoch. In phase two (`finetuned.tail`) its last layers learn too.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redarte import backbones, devices, fisher, layers, networks, training
from redarte.backend import keras
from redarte.checkpoints import Checkpoint
from redarte.console import say
from redarte.dataset import Pictures
from redarte.fisher import Measured
from redarte.jobs import Job
from redarte.layers import Deviation, FisherVector
from redarte.params import Finetuned, Params, Train


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
    fisher.learn_patches(network, train, settings.seed)
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
        the backbone, the last share `settings.unfreeze` of layers can learn, but no batch normalization: a batch of
        paintings is too small to measure by.
    """
    seeing = _in_policy(backbone, policy)
    first = round(len(seeing.layers) * (1 - settings.unfreeze))
    for place, layer in enumerate(seeing.layers):
        layer.trainable = place >= first and not isinstance(layer, keras.layers.BatchNormalization)
    parts = []
    taps = backbones.taps(seeing)
    for number, tap in enumerate(taps, start=1):
        parts.append(keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"mean{number}")(tap))
        parts.append(Deviation(dtype="float32", name=f"deviation{number}")(tap))
    described = keras.layers.Concatenate(dtype="float32", name="described")(parts)
    standardise = keras.layers.BatchNormalization(
        center=False, scale=False, trainable=False, dtype="float32", name="standardised"
    )
    # About one long, as the Fisher vector is: otherwise it would not be heard.
    short = keras.layers.Rescaling(described.shape[1] ** -0.5, dtype="float32", name="short")
    filters = min(settings.filters, taps[0].shape[3])
    places = keras.layers.Conv2D(filters, 1, trainable=False, dtype="float32", name="patches")(taps[0])
    vector = FisherVector(settings.kinds, dtype="float32", name="fisher")(places)
    whole = keras.layers.Concatenate(dtype="float32", name="whole")([short(standardise(described)), vector])
    dropped = keras.layers.Dropout(settings.dropout, dtype="float32", name="dropout")(whole)
    decide = keras.layers.Dense(
        artists, activation="softmax", kernel_initializer="zeros", dtype="float32", name="artists"
    )
    return keras.Model(seeing.input, decide(dropped), name="finetuned")


def learn_head(network: keras.Model, train: Pictures, val: Pictures, settings: Params) -> Measured:
    """Phase one: fits the last layer of a network to what its backbone sees, computed once.

    Returns:
        Accuracy and loss on train and val.
    """
    described = network.get_layer("described").output
    both = keras.layers.Concatenate()([described, network.get_layer("fisher").output])
    describing = keras.Model(network.input, both)
    of_train, of_val = (
        np.stack(list(networks.answers(describing, pictures, "finetuned, phase one"))) for pictures in (train, val)
    )
    size = described.shape[1]
    standardise = network.get_layer("standardised")
    standardise.set_weights([of_train[:, :size].mean(axis=0), of_train[:, :size].var(axis=0)])
    short = network.get_layer("short")
    for features in (of_train, of_val):
        features[:, :size] = short(standardise(features[:, :size])).numpy()
    described_train, described_val = (of_train, train.labels), (of_val, val.labels)
    return fisher.learn_to_decide(network, described_train, described_val, settings.finetuned.cost, settings)


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
