"""The study's published results, and our results and learning curves beside them.

The study is "Redes Neuronales Convolucionales – Una aplicación práctica a obras de arte", J. M. García Criado and F. M.
Hidalgo Aguilar, Universidad de Sevilla: Table I, on 8,446 paintings by 50 artists.
"""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from redarte.evaluation import metrics
from redarte.runtime import tables

# "train" and "val" -> (epoch, accuracy), from the first epoch on
Curve = dict[str, list[tuple[int, float]]]

# Accuracy and validation accuracy. The study has no test set.
TABLE_ONE: dict[str, tuple[float, float]] = {
    "red1": (0.62, 0.38),
    "red2": (0.59, 0.37),
    "red3": (0.49, 0.34),
}

# The study's data set on Kaggle, also in the name of its archive or folder.
_DATA_SET = "best-artworks-of-all-time"
_TITLES = {"red1": "Red 1", "red2": "Red 2", "red3": "Red 3"}


def read_curve(path: Path) -> Curve:
    """Returns the learning curve in a history of one training, plots/train_<model>.csv."""
    return parse_curve(tables.read_text(path))


def parse_curve(text: str) -> Curve:
    """Returns the learning curve in the text of a history."""
    curve: Curve = {"train": [], "val": []}
    for row in tables.rows(Path("plots/train_*.csv"), text):
        curve[row["split"]].append((int(row["epoch"]), float(row["accuracy"])))
    return curve


def title(model: str) -> str:
    """Returns a model's name for texts and figures."""
    return _TITLES.get(model, model.replace("_", " ").capitalize())


def p_values(right: dict[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Returns the p-value of McNemar's exact test for each pair of models.

    Args:
        right: model -> (n,), bool: whether each prediction is right, for the same images.
    """
    return {(one, other): metrics.mcnemar(right[one], right[other]) for one, other in combinations(right, 2)}


def table_one(
    rows: dict[str, dict[str, float]],
    fetched: dict[str, Any],
    baseline: float,
    images: int,
    tests: dict[tuple[str, str], float],
) -> str:
    """Returns our results in Markdown, beside the study's Table I where they can be compared.

    Args:
        rows: model -> accuracy, val_accuracy and test_accuracy.
    """
    columns = ["Model", "Accuracy", "Val accuracy", "Test accuracy"]
    cells = [[title(name), *(f"{value:.2f}" for value in ours.values())] for name, ours in rows.items()]
    known = published(fetched)
    if known:
        columns = ["Model", "Accuracy, published", "ours", "Val accuracy, published", "ours", "Test accuracy, ours"]
        cells = [
            [row[0], f"{known[name][0]:.2f}", row[1], f"{known[name][1]:.2f}", *row[2:]]
            for name, row in zip(rows, cells, strict=True)
        ]
    lines = [f"Measured on: {describe(fetched)}", ""]
    lines += [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *cells)]
    lines += ["", f"Baseline, always predicting the largest class: {baseline:.2f} on the same {images} test images."]
    lines += ["", "McNemar's exact test on these images:", "", *(f"- {verdict}" for verdict in verdicts(tests))]
    return "\n".join(lines) + "\n"


def verdicts(tests: dict[tuple[str, str], float]) -> list[str]:
    """Returns the results of `p_values` as sentences."""
    return [verdict(title(one), title(other), p_value) for (one, other), p_value in tests.items()]


def verdict(first: str, second: str, p_value: float) -> str:
    """Returns the result of McNemar's test as a sentence."""
    significant = "is not significant" if p_value >= 0.05 else "is significant"
    return f"The difference between {first} and {second} {significant} (p = {p_value:.2g})."


def published(fetched: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Returns TABLE_ONE, or nothing for images that the study did not use: its numbers mean nothing beside theirs.

    Beside the sample they show that the pipeline works; `describe` says so.
    """
    is_of_study = _DATA_SET in fetched["data_set"].casefold()
    return TABLE_ONE if is_of_study or fetched["source"] == "sample" else {}


def describe(fetched: dict[str, Any]) -> str:
    """Returns where the images come from, so that nobody mistakes the sample's numbers for the study's."""
    if fetched["source"] == "sample":
        return "the built-in sample (invented schools of painting), not the study's paintings"
    return f"{fetched['data_set']} (fetch.source: {fetched['source']})"
