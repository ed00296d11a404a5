"""The last layer of a model as a linear support vector machine, fitted to features that are computed once."""

from typing import TYPE_CHECKING

import numpy as np
from sklearn.svm import LinearSVC

from redarte.devices.backend import keras
from redarte.evaluation.metrics import accuracy, cross_entropy, fit_temperature
from redarte.params import Params

if TYPE_CHECKING:
    from redarte.training.history import Metrics, Row

Features = tuple[np.ndarray, np.ndarray]  # (n, features) float32 of n images, and their labels (n,) int64
_MAX_ITERATIONS = 10_000
_MIN_RATIO = 3  # of features to images


def fit(model: keras.Model, train: Features, val: Features, C: float, settings: Params) -> "Row":  # noqa: N803
    """Fits the layer `artists` of a model: one linear support vector machine for each artist against the others.

    With many more features than images this is more accurate than gradient descent on the cross-entropy, by two points
    (docs/research/finetuned.md). Support vector machines have no probabilities: the scale of the logits is fitted on
    val.
    """
    rotated, axes = _rotated(train[0])
    machine = LinearSVC(
        C=C,
        # With more images than features scikit-learn would choose the primal: the same result in twice the time.
        dual=True,
        class_weight=None if settings.train.class_weight == "none" else settings.train.class_weight,
        random_state=settings.seed,
        max_iter=_MAX_ITERATIONS,
    ).fit(rotated, train[1])
    kernel, bias = machine.coef_.T if axes is None else axes @ machine.coef_.T, machine.intercept_
    if kernel.shape[1] == 1:
        # scikit-learn returns one margin for two classes.
        kernel, bias = np.hstack([-kernel, kernel]), np.concatenate([-bias, bias])
    features, labels = val
    scale = 1 / fit_temperature(labels, features @ kernel + bias)
    model.get_layer("artists").set_weights([kernel * scale, bias * scale])
    return measure(model, train, val)


def _rotated(features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Features of fewer images than features in the space that the images span, and its axes (features, images).

    A support vector machine depends on the products of images only, which a rotation keeps; it is fitted in a fraction
    of the time. None for more images, whose axes would take longer.
    """
    if len(features) > features.shape[1] // _MIN_RATIO:
        return features, None
    axes, triangle = np.linalg.qr(features.astype(np.float64).T)
    return triangle.T, axes


def measure(model: keras.Model, train: Features, val: Features) -> "Row":
    """Returns accuracy and loss of the layer `artists` on train and val, as a history of one epoch."""
    kernel, bias = model.get_layer("artists").get_weights()
    row: Row = {"epoch": 1}
    for (features, labels), prefix in ((train, ""), (val, "val_")):
        logits = features @ kernel + bias
        row[f"{prefix}accuracy"] = accuracy(labels, logits)
        row[f"{prefix}loss"] = cross_entropy(labels, logits)
    return row


def metrics(row: "Row") -> "Metrics":
    """Returns the content of metrics/train_<model>.json for a model without epochs."""
    return {name: round(value, 6) for name, value in row.items() if name != "epoch"}
