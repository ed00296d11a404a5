"""The study's published results, and our results beside them: plots/table_one.md and plots/compare.csv.

The study is "Redes Neuronales Convolucionales – Una aplicación práctica a obras de arte", J. M. García Criado and F. M.
Hidalgo Aguilar, Universidad de Sevilla: Table I, on 8,446 paintings by 50 artists.
"""

from itertools import combinations
from pathlib import Path

import numpy as np

from redarte.evaluation import metrics
from redarte.runtime import tables

# Accuracy and validation accuracy. The study has no test set.
TABLE_ONE: dict[str, tuple[float, float]] = {
    "red1": (0.62, 0.38),
    "red2": (0.59, 0.37),
    "red3": (0.49, 0.34),
}

_TITLES = {"red1": "Red 1", "red2": "Red 2", "red3": "Red 3"}


def title(model: str) -> str:
    """Returns a model's name for texts and figures."""
    return _TITLES.get(model, model.replace("_", " ").capitalize())


def p_values(right: dict[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Returns the p-value of McNemar's exact test for each pair of models.

    Args:
        right: model -> (n,), bool: whether each prediction is right, for the same images.
    """
    return {(one, other): metrics.mcnemar(right[one], right[other]) for one, other in combinations(right, 2)}


def predictions_csv(artists: list[str], ids: list[str], truth: np.ndarray, predicted: dict[str, np.ndarray]) -> str:
    """Returns plots/compare.csv: a row for each test image, with its artist and the prediction of each model.

    Args:
        ids: "<artist>/<stem>" of n images.
        truth: (n,), int: true classes.
        predicted: model -> (n,), int: predicted classes.
    """
    rows = [
        [image_id, artists[truth[index]], *(artists[classes[index]] for classes in predicted.values())]
        for index, image_id in enumerate(ids)
    ]
    return tables.to_csv([["image", "artist", *predicted], *rows])


def read_right(text: str) -> dict[str, dict[str, bool]]:
    """Reads plots/compare.csv: model -> image's identity -> whether the prediction is right.

    Returns:
        model -> image's identity -> whether the prediction is right.
    """
    rows = tables.rows(Path("plots/compare.csv"), text)
    return {model: {row["image"]: row[model] == row["artist"] for row in rows} for model in TABLE_ONE}


def table_one(
    rows: dict[str, dict[str, float]], source: str, baseline: float, images: int, tests: dict[tuple[str, str], float]
) -> str:
    """Returns the study's Table I beside ours, in Markdown.

    Args:
        rows: model -> accuracy, val_accuracy and test_accuracy.
    """
    lines = [
        f"Measured on: {describe(source)}",
        "",
        "| Model | Accuracy, published | ours | Val accuracy, published | ours | Test accuracy, ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, ours in rows.items():
        accuracy, val_accuracy = TABLE_ONE[name]
        lines.append(
            f"| {title(name)} | {accuracy:.2f} | {ours['accuracy']:.2f} | {val_accuracy:.2f} "
            f"| {ours['val_accuracy']:.2f} | {ours['test_accuracy']:.2f} |"
        )
    lines += ["", f"Baseline, always predicting the largest class: {baseline:.2f} on the same {images} test images."]
    verdicts = (metrics.verdict(title(one), title(other), p_value) for (one, other), p_value in tests.items())
    lines += ["", "McNemar's exact test on these images:", "", *(f"- {verdict}" for verdict in verdicts)]
    return "\n".join(lines) + "\n"


def describe(source: str) -> str:
    """Returns where the images come from, so that nobody mistakes the sample's numbers for the study's."""
    if source == "sample":
        return "the built-in sample (invented schools of painting), not the study's paintings"
    return f"images from fetch.source: {source}"
