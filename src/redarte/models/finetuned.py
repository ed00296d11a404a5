"""finetuned: a pretrained backbone with a new head, fitted in one or two phases.

An image is described by the mean and the standard deviation, over the spatial positions, of the backbone's feature maps
at its two coarsest resolutions (`backbones.feature_maps`), and by the covariance of the finer maps
(`layers.Descriptor`); one dense layer classifies it. Means and deviations of feature maps represent style in Huang
and Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization" (2017); their covariance does
in Gatys et al., "Image style transfer using convolutional neural networks" (2016). In phase one the backbone is frozen,
so that its moments are computed once for each image (`frozen`). In phase two (`finetuned.fine_tune`) its last layers
are trained too.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from redarte import devices
from redarte.devices.backend import keras
from redarte.images import dataset
from redarte.images.dataset import Dataset
from redarte.inference import features
from redarte.models import backbones, frozen, layers, projection, svm
from redarte.models.base import Decomposition, Parts
from redarte.models.base import files as saved
from redarte.models.layers import MIN_VARIANCE, Descriptor, Moments, sum_regions
from redarte.models.svm import Features
from redarte.params import Finetuned, Params, Train
from redarte.runtime.console import say
from redarte.runtime.errors import UserError

if TYPE_CHECKING:
    from redarte.training.history import Metrics, Row
    from redarte.training.loop import Trained

ops = keras.ops

DESCRIPTION = (
    "A pretrained backbone, whose weights and licence are those of its authors, fine-tuned by redarte: the mean and "
    "the standard deviation over the image of its feature maps at its two coarsest resolutions, the square root of "
    "their covariance at the finer of them, then one dense layer with a softmax."
)
LICENSE = "other"
READS_RESIZED = False

_MIN_FEATURE_VARIANCE = 1e-3  # a feature that never varies carries no information, however it is scaled
_MIN_ROWS = 5  # of a feature map, for its border to be ignored
_ROOT_WEIGHT = 2  # relative to means and deviations: docs/research/finetuned.md


def load_data(settings: Params) -> tuple[Dataset, Dataset]:
    """Returns train and val of the originals, resized to `finetuned.input_size`."""
    return dataset.load_originals(settings.finetuned.input_size, decode=settings.finetuned.fine_tune.epochs > 0)


def fit(name: str, settings: Params, train: Dataset, val: Dataset, history_file: Path) -> "Trained":
    """Fits the head, and then fine-tunes the backbone of the section `finetuned`."""
    from redarte.training import jobs, loop

    chosen = settings.finetuned
    devices.prepare(settings.seed, settings.train)
    backbone = backbones.load(chosen)
    say(f"{name}: {chosen.backbone}, {len(train)} images of {train.side} px, phase one")
    model = build(backbone, len(train.artists), chosen)
    projection.fit_components(model, train, settings.seed)
    row, embeddings = fit_head(model, train, val, settings, jobs.class_weights(train, settings.train))
    facts: Metrics = {
        "parameters": model.count_params(),
        "precision": "float32",
        # Without its folder, which is specific to this machine.
        "backbone": Path(chosen.backbone).name,
        "input_size": chosen.input_size,
    }
    if not chosen.fine_tune.epochs:
        by_id = saved.embeddings_by_id(train, embeddings)
        return loop.Trained(model, svm.metrics(row) | facts, [row], embeddings=by_id)
    phase_one = model.get_weights()

    def rebuild(policy: str) -> keras.Model:
        rebuilt = build(backbone, len(train.artists), chosen, policy)
        rebuilt.set_weights(phase_one)
        return rebuilt

    job = jobs.TrainingJob(
        name, _fine_tuning(settings.train, chosen), settings.seed, train, val, rebuild,
        origin=[chosen.model_dump(), backbones.digest(model)],
    )  # fmt: skip
    trained = loop.train(job, history_file)
    return loop.Trained(trained.model, facts | trained.metrics, trained.history, trained.checkpoint)


def build(backbone: keras.Model, artists: int, settings: Finetuned, policy: str = "float32") -> keras.Model:
    """Adds a new head to a backbone.

    Args:
        policy: the dtype policy of the backbone; the head is always float32.

    Returns:
        A model that maps images (batch, side, side, 3), 0 to 255, to probabilities (batch, artists). The layers that
        `settings.unfreeze` selects are trainable, except batch normalization: a batch is too small for its statistics.
    """
    copy = backbones.with_policy(backbone, policy)
    first = _first_trainable(copy, settings)
    for index, layer in enumerate(copy.layers):
        layer.trainable = index >= first
    for layer in backbones.all_layers(copy):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    maps = backbones.feature_maps(copy)
    channels = [tensor.shape[3] for tensor in maps]
    # At the border, feature maps respond to the zero padding, which is the same in all images.
    border = 1 if maps[0].shape[1] >= _MIN_ROWS else 0
    moments = Moments(border, dtype="float32", name=features.MOMENTS)(maps)
    components = min(settings.principal_components, channels[0])
    descriptor = Descriptor(channels, components, dtype="float32", name="descriptor")(moments)
    standardised = keras.layers.BatchNormalization(
        epsilon=0.0, center=False, scale=False, trainable=False, dtype="float32", name="standardised"
    )(descriptor)
    dropped = keras.layers.Dropout(settings.dropout, dtype="float32", name="dropout")(standardised)
    classify = keras.layers.Dense(
        artists, activation="softmax", kernel_initializer="zeros", dtype="float32", name="artists"
    )
    return keras.Model(copy.input, classify(dropped), name="finetuned")


def fit_head(
    model: keras.Model, train: Dataset, val: Dataset, settings: Params, weights: np.ndarray | None
) -> tuple["Row", np.ndarray]:
    """Phase one: fits the last layer to the features of the frozen backbone, which are computed once.

    Args:
        weights: (artists,), float32: class weights; None: none.

    Returns:
        Accuracy and loss on train and val, and the embeddings of the training images (n, features), float32.
    """
    layer = model.get_layer("descriptor")
    moments = keras.Input(layer.input.shape[1:])
    rest = keras.Model(moments, [layer(moments), layer.embedding(moments)])
    (train_features, embeddings), (val_features, val_embeddings) = (
        _concatenated(
            [array[:count] for array in rest.predict_on_batch(group)]
            for group, count in frozen.moments(model, images, "finetuned, phase one")
        )
        for images in (train, val)
    )
    frozen.keep_descriptors(model, train, train_features, embeddings)
    frozen.keep_descriptors(model, val, val_features, val_embeddings)
    standardised = model.get_layer("standardised")
    standardised.set_weights([train_features.mean(axis=0), _variances(train_features, layer.root_size)])
    scaled_train, scaled_val = (
        (ops.convert_to_numpy(standardised(described)), images.labels)
        for described, images in ((train_features, train), (val_features, val))
    )
    head = settings.finetuned.head
    say(f"finetuned: the head, {f'{head.epochs} epochs' if head.epochs else 'a support vector machine'}")
    if head.epochs == 0:
        return svm.fit(model, scaled_train, scaled_val, head.C, settings), embeddings
    _fit_by_adam(model, scaled_train, weights, settings)
    return svm.measure(model, scaled_train, scaled_val), embeddings


def decompose(model: keras.Model) -> Decomposition:
    """Splits each mean, each deviation and the root of the covariance into the contributions of the positions.

    A mean is the sum of the positions' values / n. A deviation d about a mean m is the sum of
    ((value - m)² + MIN_VARIANCE) / (n d).
    """
    moments, descriptor = (model.get_layer(name) for name in (features.MOMENTS, "descriptor"))
    trunk = keras.Model(model.inputs, moments.maps)
    rows, columns = moments.maps[-1].shape[1:3]
    dense, standardised = (model.get_layer(name) for name in ("artists", "standardised"))
    mean_of_features, variance = (weight.numpy() for weight in standardised.weights)
    kernel = dense.kernel.numpy() / np.sqrt(variance + standardised.epsilon)[:, None]
    bias = dense.bias.numpy() - mean_of_features @ kernel

    def forward(image: Any) -> Parts:
        maps = layers.as_list(trunk(image, training=False))
        vector = moments(maps)
        regions = []
        for tensor in maps:
            mean = ops.mean(tensor, axis=(1, 2), keepdims=True)
            squares = ops.square(tensor - mean) + MIN_VARIANCE
            deviation = ops.sqrt(ops.mean(squares, axis=(1, 2), keepdims=True))
            positions = float(tensor.shape[1] * tensor.shape[2])
            regions += [
                sum_regions(tensor / positions, rows, columns),
                sum_regions(squares / (positions * deviation), rows, columns),
            ]
        regions.append(descriptor.regions(vector, maps[0], moments.border, rows, columns))
        return Parts(ops.concatenate(regions, axis=-1), descriptor(vector), descriptor.embedding(vector), vector)

    return Decomposition(
        forward, kernel.astype(np.float32), bias.astype(np.float32), (1, 1, len(kernel)),
        frozen.digest(model, features.MOMENTS), frozen.digest(model, "descriptor"),
    )  # fmt: skip


def _concatenated(parts: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _variances(features: np.ndarray, root_size: int) -> np.ndarray:
    """The variances to standardise features by: (features,), float32.

    Afterwards each mean and deviation has the same variance, and the entries of the root keep their proportions. The
    expected squared distance of an image to the mean is about 1 in the former, and _ROOT_WEIGHT in the latter.
    """
    variance = features.var(axis=0)
    single, root = variance[:-root_size], variance[-root_size:]
    single = (single + _MIN_FEATURE_VARIANCE) * len(single)
    return np.concatenate([single, np.full_like(root, max(root.sum(), _MIN_FEATURE_VARIANCE) / _ROOT_WEIGHT)])


def _fit_by_adam(model: keras.Model, train: Features, weights: np.ndarray | None, settings: Params) -> None:
    """Fits the layer `artists` of a model by Adam."""
    features, labels = train
    chosen, classify = settings.finetuned, model.get_layer("artists")
    inputs = keras.Input(features.shape[1:])
    head = keras.Model(inputs, classify(keras.layers.Dropout(chosen.dropout)(inputs)))
    head.compile(
        keras.optimizers.Adam(chosen.head.learning_rate),
        keras.losses.CategoricalCrossentropy(label_smoothing=chosen.label_smoothing),
    )
    head.fit(
        features,
        np.eye(classify.units, dtype=np.float32)[labels],
        batch_size=settings.train.batch_size,
        epochs=chosen.head.epochs,
        sample_weight=None if weights is None else weights[labels],
        verbose=0,
    )


def _first_trainable(backbone: keras.Model, settings: Finetuned) -> int:
    """The index of the first layer of a backbone that phase two trains."""
    requested, names = settings.unfreeze, [layer.name for layer in backbone.layers]
    if isinstance(requested, float):
        return round(len(names) * (1 - requested))
    for index, name in enumerate(names):
        if name.startswith(requested):
            return index
    near = difflib.get_close_matches(requested, names, n=1, cutoff=0)
    raise UserError(
        f"params.yaml: finetuned.unfreeze is {requested!r}, and no layer name of {settings.backbone} begins with it; "
        f"did you mean {near[0]}?"
    )


def _fine_tuning(train: Train, chosen: Finetuned) -> Train:
    """The section `train` with the settings of phase two."""
    # On a CPU, depthwise convolutions, of which backbones are made, are slower in 16 bits than in 32.
    use_float32 = train.precision == "auto" and not devices.gpu_names()
    return train.model_copy(
        update={
            "epochs": chosen.fine_tune.epochs,
            "learning_rate": chosen.fine_tune.learning_rate,
            "schedule": "cosine",
            "label_smoothing": chosen.label_smoothing,
            "random_crop_flip": chosen.random_crop_flip,
            "precision": "float32" if use_float32 else train.precision,
        }
    )
