"""The last layer of a network, fitted to features that are computed once: a linear support vector machine."""

import numpy as np
from sklearn.svm import LinearSVC

from redarte.params import Params
from redarte.training.backend import keras
from redarte.training.calibration import cross_entropy, fit_temperature
from redarte.training.checkpoints import Row
from redarte.training.loop import Metrics

Features = tuple[np.ndarray, np.ndarray]  # (n, numbers) float32 of n pictures, and their labels (n,) int64
_MOST_ITERATIONS = 10_000


def fit(network: keras.Model, train: Features, val: Features, C: float, settings: Params) -> Row:  # noqa: N803
    """Fits the layer `artists` of a network: a linear support vector machine for each artist against the others.

    With many more numbers than pictures it does better than gradient descent on the cross-entropy, by two pictures in
    a hundred (docs/research/finetuned.md). It gives no probabilities: how sure the network is (the scale of its
    logits) is fitted on val.

    Args:
        train, val: what the layer is given.
        C: the cost of a training picture on the wrong side.

    Returns:
        Accuracy and loss on both.
    """
    machine = LinearSVC(
        C=C,
        # With more pictures than numbers scikit-learn would choose the primal: the same answers in twice the time.
        dual=True,
        class_weight=None if settings.train.class_weight == "none" else settings.train.class_weight,
        random_state=settings.seed,
        max_iter=_MOST_ITERATIONS,
    ).fit(*train)
    kernel, bias = machine.coef_.T, machine.intercept_
    if kernel.shape[1] == 1:
        # It has one margin for two classes.
        kernel, bias = np.hstack([-kernel, kernel]), np.concatenate([-bias, bias])
    features, labels = val
    scale = 1 / fit_temperature(labels, features @ kernel + bias)
    network.get_layer("artists").set_weights([kernel * scale, bias * scale])
    return measure(network, train, val)


def measure(network: keras.Model, train: Features, val: Features) -> Row:
    """Accuracy and loss of the layer `artists` of a network on train and val, as the one epoch of a history."""
    kernel, bias = network.get_layer("artists").get_weights()
    row: Row = {"epoch": 1}
    for (features, labels), prefix in ((train, ""), (val, "val_")):
        logits = features @ kernel + bias
        row[f"{prefix}accuracy"] = float(np.mean(logits.argmax(axis=1) == labels))
        row[f"{prefix}loss"] = cross_entropy(labels, logits)
    return row


def metrics(row: Row) -> Metrics:
    """What metrics/train_<network>.json says of a network that was fitted at once."""
    return {name: round(value, 6) for name, value in row.items() if name != "epoch"}
