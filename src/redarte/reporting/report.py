"""plots/report.html, one file for people, and plots/model_card.md, from one model's predictions and metrics."""

import base64
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from redarte.evaluation import metrics
from redarte.evaluation.comparison import TABLE_ONE, title
from redarte.evaluation.curves import Curve
from redarte.evaluation.metrics import Reliability
from redarte.evaluation.predictions import PredictionTable
from redarte.images import decoding
from redarte.images.decoding import ImageArray
from redarte.images.decoding.folders import display_name

TEMPLATES = Path(__file__).parent / "templates"
_LICENCES = {
    "sample": "Drawn by this project's code, and under its licence (MIT).",
    "kaggle": "CC BY-NC-SA 4.0: no commercial use; derived works must be shared under the same licence.",
    "archive": "Those of the archive; redarte does not know them.",
    "folder": "Those of the folder; redarte does not know them.",
}


def facts(
    model: str,
    predictions: PredictionTable,
    right_of: dict[str, dict[str, bool]],
    documents: dict[str, Any],
    histories: dict[str, Curve],
) -> dict[str, Any]:
    """Returns every number that the report and the model card show."""
    p, compare, trained = predictions, documents["compare"], documents[f"train_{model}"]
    evaluated = documents["evaluate"]
    ours = {"accuracy": trained["accuracy"], "val_accuracy": trained["val_accuracy"]}
    accuracies = {
        **{name: compare[name] for name in TABLE_ONE},
        model: ours | {"test_accuracy": evaluated["test_accuracy"]},
    }
    before = metrics.reliability(p.right, p.uncalibrated_probability)
    after = metrics.reliability(p.right, p.probability)
    source, images = documents["fetch"]["source"], evaluated["test_images"]
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
        "published": TABLE_ONE.get(model),
        "best_published": max(val for _, val in TABLE_ONE.values()),
        "compare": compare,
        "models": [(title(name), TABLE_ONE.get(name), measured) for name, measured in accuracies.items()],
        "verdicts": _verdicts(model, p, right_of),
        "curves": [(title(name), curve_chart(curve), TABLE_ONE.get(name)) for name, curve in histories.items()],
        "per_artist": per_artist_rows(p),
        "confusion": _confusion(p),
        "reliability": {"before": _bars(before), "after": _bars(after)},
        "calibration_error": {"before": before.error, "after": after.error},
        "in_distribution": int(p.in_distribution.sum()),
        "split": documents["split"],
        "fetch": documents["fetch"],
        "trained": trained,
        "source": source,
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
        one: an artist's index.
        other: another artist's index, confused with the first at least once.
    """
    either = ((p.truth == one) & (p.predicted == other)) | ((p.truth == other) & (p.predicted == one))
    return _first(np.flatnonzero(either), -p.probability, 1)[0]


def curve_chart(curve: Curve) -> dict[str, Any]:
    """Returns the accuracy by epoch as points in a square of 100 by 100, with the origin at the top left."""
    last = max(epoch for points in curve.values() for epoch, _ in points)
    return {
        "last": last,
        **{
            split: [(100 * (epoch - 1) / (last - 1) if last > 1 else 50, 100 * (1 - value)) for epoch, value in points]
            for split, points in curve.items()
        },
        "ends": {split: points[-1][1] for split, points in curve.items()},
    }


def as_uri(image: ImageArray, quality: int = 82) -> str:
    """Returns an image as a data URI, so that the page needs no other file.

    Args:
        image: (height, width, 3), uint8.
        quality: of the JPEG, 1 to 100.
    """
    return "data:image/jpeg;base64," + base64.b64encode(decoding.jpeg(image, quality)).decode("ascii")


def render(template: str, values: dict[str, Any], templates: Path = TEMPLATES) -> str:
    """Renders a template. Names of artists and files are escaped in HTML.

    Returns:
        The rendered text.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, TEMPLATES]),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{value:.0%}".replace("%", "\u00a0%")
    environment.filters |= {"confidence": confidence, "display": display_name}
    return environment.get_template(template).render(values)


def confidence(probability: float) -> str:
    """Returns a probability as a percentage that is never 0 % or 100 %.

    Args:
        probability: 0 to 1.
    """
    if probability < 0.005:
        return "under 1\u00a0%"
    return "over 99\u00a0%" if probability > 0.995 else f"{probability:.0%}".replace("%", "\u00a0%")


def _verdicts(model: str, p: PredictionTable, right_of: dict[str, dict[str, bool]]) -> list[str]:
    """The results of McNemar's test of a model against each of the study's."""
    sentences = []
    for other, right in right_of.items():
        if other != model:
            p_value = metrics.mcnemar(p.right, np.array([right[image_id] for image_id in p.ids]))
            sentences.append(metrics.verdict(title(model), title(other), p_value))
    return sentences


def _confusion(p: PredictionTable) -> dict[str, Any]:
    """The confusion matrix: artists as (number, name), rows of (count, share), and how many are hidden."""
    counts = p.confusion
    shares, order = metrics.normalise_rows(counts), metrics.most_confused(counts)
    return {
        "hidden": len(counts) - len(order),
        "artists": [(int(artist) + 1, display_name(p.artists[artist])) for artist in order],
        "cell": 34 if len(order) <= 12 else 24 if len(order) <= 25 else 16,  # px
        "rows": [[(int(counts[i, j]), float(shares[i, j])) for j in order] for i in order],
    }


def _bars(measured: Reliability) -> list[dict[str, float]]:
    """The bins that have images: "bin" from 0, accuracy, confidence and images."""
    return [
        {"bin": int(index), "accuracy": measured.accuracy[index], "confidence": measured.confidence[index],
         "images": int(measured.images[index])}
        for index in np.flatnonzero(measured.images)
    ]  # fmt: skip


def _first(indices: np.ndarray, by: np.ndarray, most: int) -> list[int]:
    return [int(index) for index in indices[np.argsort(by[indices], kind="stable")][:most]]
