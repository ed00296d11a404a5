"""plots/report.html, one file for people, and plots/model_card.md, from one model's predictions and metrics."""

from typing import Any

import numpy as np

from redarte.evaluation import comparison, metrics
from redarte.evaluation.comparison import TABLE_ONE, Curve, title
from redarte.evaluation.metrics import Reliability
from redarte.evaluation.predictions import PredictionTable, most_confused
from redarte.images.folders import display_name
from redarte.reporting import pages

_LICENCES = {
    "sample": "Drawn by this project's code, and under its licence (MIT).",
    "kaggle": "CC BY-NC-SA 4.0: no commercial use; derived works must be shared under the same licence.",
    "archive": "Those of the archive; redarte does not know them.",
    "folder": "Those of the folder; redarte does not know them.",
}


def facts(model: str, predictions: PredictionTable, documents: dict[str, Any], curve: Curve | None) -> dict[str, Any]:
    """Returns every number that the report and the model card show.

    Args:
        documents: the content of metrics/fetch.json, split.json, evaluate.json and train_<model>.json, by their names,
            the last as "train".
        curve: the learning curve; None where the model was fitted without epochs.
    """
    p, evaluated, fetched = predictions, documents["evaluate"], documents["fetch"]
    before = metrics.reliability(p.right, p.uncalibrated_probability)
    after = metrics.reliability(p.right, p.probability)
    source, images = fetched["source"], evaluated["test_images"]
    published = comparison.published(fetched)
    return {
        "model": model,
        "title": title(model),
        "evaluated": evaluated,
        "intervals": {
            "accuracy": metrics.wilson(evaluated["test_accuracy"], images),
            "top5_accuracy": metrics.wilson(evaluated["test_top5_accuracy"], images),
        },
        # With five classes or fewer the true class is always among the first five.
        "has_top5": len(p.artists) > 5,
        "published": published.get(model),
        "best_published": max((val for _, val in published.values()), default=None),
        "curve": pages.curve_chart(curve) if curve else None,
        "per_artist": per_artist_rows(p),
        "confusion": _confusion(p),
        "reliability": {"before": _bins(before), "after": _bins(after)},
        "calibration_error": {"before": before.error, "after": after.error},
        "in_distribution": int(p.in_distribution.sum()),
        "split": documents["split"],
        "fetch": fetched,
        "trained": documents["train"],
        "source": source,
        "is_of_study": model in TABLE_ONE,
        "is_sample": source == "sample",
        "licence": _LICENCES[source],
    }


def per_artist_rows(p: PredictionTable) -> list[dict[str, Any]]:
    """Returns one row for each artist with test images, in descending order of F1 and number of images."""
    measured = metrics.per_artist(p.truth, p.predicted, len(p.artists))
    rows = [
        {
            "number": index + 1,
            "artist": display_name(artist),
            **{name: values[index] for name, values in measured.items()},
        }
        for index, artist in enumerate(p.artists)
        if measured["images"][index]
    ]
    return sorted(rows, key=lambda row: (-row["f1"], -row["images"], row["artist"]))


def most_confident_mistakes(p: PredictionTable, most: int) -> list[int]:
    """Returns the indices of the wrong predictions with the highest probabilities, in descending order."""
    return _first(np.flatnonzero(~p.right), -p.probability, most)


def least_confident_hits(p: PredictionTable, most: int) -> list[int]:
    """Returns the indices of the right predictions with the lowest probabilities, in ascending order."""
    return _first(np.flatnonzero(p.right), p.probability, most)


def most_confident_confusion(p: PredictionTable, one: int, other: int) -> int:
    """Returns the index of the most confident mistake between two artists, in either direction.

    Args:
        other: another artist's index, confused with the first at least once.
    """
    either = ((p.truth == one) & (p.predicted == other)) | ((p.truth == other) & (p.predicted == one))
    return _first(np.flatnonzero(either), -p.probability, 1)[0]


def _confusion(p: PredictionTable) -> dict[str, Any]:
    """The confusion matrix: artists as (number, name), rows of (count, share), and how many are hidden."""
    counts = p.confusion
    shares, order = metrics.normalise_rows(counts), most_confused(counts)
    return {
        "hidden": len(counts) - len(order),
        "artists": [(int(artist) + 1, display_name(p.artists[artist])) for artist in order],
        "cell": 34 if len(order) <= 12 else 24 if len(order) <= 25 else 16,  # px
        "rows": [[(int(counts[i, j]), float(shares[i, j])) for j in order] for i in order],
    }


def _bins(measured: Reliability) -> list[dict[str, float]]:
    """The bins that have images, in ascending order of confidence."""
    return [
        {name: float(getattr(measured, name)[index]) for name in ("accuracy", "confidence", "images")}
        for index in np.flatnonzero(measured.images)
    ]


def _first(indices: np.ndarray, by: np.ndarray, most: int) -> list[int]:
    return [int(index) for index in indices[np.argsort(by[indices], kind="stable")][:most]]
