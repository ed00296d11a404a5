"""One network's predictions -> plots/report.html, one file for people, and plots/model_card.md.

Everything that is shown of the predictions is drawn from plots/predictions.csv; nothing is measured here twice.
"""

import base64
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from redarte.evaluation import metrics
from redarte.evaluation.curves import Curve
from redarte.evaluation.metrics import Reliability
from redarte.evaluation.published import TABLE_ONE, title
from redarte.pictures import images
from redarte.pictures.images import Picture, display_name

TEMPLATES = Path(__file__).parent / "templates"
_LICENCES = {
    "sample": "Drawn by this project's code, and under its licence (MIT).",
    "kaggle": "CC BY-NC-SA 4.0: not for commercial use, and what is made from them is shared alike.",
    "archive": "Those of their archive: redarte does not know them.",
    "folder": "Those of their folder: redarte does not know them.",
}


@dataclass(frozen=True)
class PredictionTable:
    """plots/predictions.csv as arrays of n test pictures; artists by their number in `artists`."""

    artists: list[str]
    paths: list[str]
    truth: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    uncalibrated_probability: np.ndarray
    true_class_probability: np.ndarray
    rank: np.ndarray
    in_distribution: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return np.asarray(self.truth == self.predicted)


def read_predictions(text: str, artists: list[str]) -> PredictionTable:
    """Reads the CSV that evaluate wrote."""
    rows = list(csv.DictReader(io.StringIO(text)))
    place = {artist: number for number, artist in enumerate(artists)}

    def column(name: str, convert: Callable[[str], Any]) -> np.ndarray:
        return np.array([convert(row[name]) for row in rows])

    return PredictionTable(
        artists,
        [row["path"] for row in rows],
        column("artist", place.__getitem__),
        column("predicted", place.__getitem__),
        column("probability", float),
        column("uncalibrated_probability", float),
        column("true_class_probability", float),
        column("rank", int),
        column("in_distribution", lambda text: text == "yes"),
    )


def read_compared(text: str) -> dict[str, dict[str, bool]]:
    """Reads the CSV that compare wrote: network -> test picture, without its suffix -> whether it was recognised."""
    rows = list(csv.DictReader(io.StringIO(text)))
    return {network: {_stem(row["path"]): row[network] == row["artist"] for row in rows} for network in TABLE_ONE}


def facts(
    network: str,
    predictions: PredictionTable,
    compared: dict[str, dict[str, bool]],
    documents: dict[str, Any],
    histories: dict[str, Curve],
) -> dict[str, Any]:
    """Every number that the report and the card show.

    Args:
        compared: from `read_compared`.
        documents: the metrics files by their stem: fetch, split, compare, evaluate, train_<network>.
        histories: the accuracy by epoch of those that learn in epochs.
    """
    p, compare, trained = predictions, documents["compare"], documents[f"train_{network}"]
    evaluated = documents["evaluate"]
    ours = {"accuracy": trained["accuracy"], "val_accuracy": trained["val_accuracy"]}
    accuracies = {
        **{name: compare[name] for name in TABLE_ONE},
        network: ours | {"test_accuracy": evaluated["test_accuracy"]},
    }
    before = metrics.reliability(p.right, p.uncalibrated_probability)
    after = metrics.reliability(p.right, p.probability)
    source = documents["fetch"]["source"]
    return {
        "network": network,
        "title": title(network),
        "evaluated": evaluated,
        "intervals": metrics.bootstrap(p.truth, p.predicted, p.rank, len(p.artists)),
        "published": TABLE_ONE.get(network),
        "best_published": max(val for _, val in TABLE_ONE.values()),
        "compare": compare,
        "networks": [(title(name), TABLE_ONE.get(name), measured) for name, measured in accuracies.items()],
        "verdicts": verdicts(network, p, compared),
        "curves": [(title(name), chart_of_curve(curve), TABLE_ONE.get(name)) for name, curve in histories.items()],
        "per_artist": rows_of_artists(p),
        "confusion": confusion(p),
        "reliability": {"before": bars(before), "after": bars(after)},
        "calibration_error": {"before": before.error, "after": after.error},
        "in_distribution": int(p.in_distribution.sum()),
        "split": documents["split"],
        "fetch": documents["fetch"],
        "trained": trained,
        "source": source,
        "is_sample": source == "sample",
        "licence": _LICENCES[source],
    }


def verdicts(network: str, p: PredictionTable, compared: dict[str, dict[str, bool]]) -> list[str]:
    """What McNemar's test allows to be said of a network beside each of the study's."""
    stems = [_stem(path) for path in p.paths]
    sentences = []
    for other, recognised in compared.items():
        if other != network:
            chance = metrics.mcnemar(p.right, np.array([recognised[stem] for stem in stems]))
            sentences.append(metrics.verdict(title(network), title(other), chance))
    return sentences


def _stem(path: str) -> str:
    """A picture's path without its suffix, which is another in data/split and in data/resized."""
    return Path(path).with_suffix("").as_posix()


def rows_of_artists(p: PredictionTable) -> list[dict[str, Any]]:
    """A row an artist with test pictures, best F1 first, the more pictures the earlier."""
    measured = metrics.per_artist(p.truth, p.predicted, len(p.artists))
    rows = [
        {
            "number": number + 1,
            "artist": display_name(artist),
            **{name: values[number] for name, values in measured.items()},
        }
        for number, artist in enumerate(p.artists)
        if measured["pictures"][number]
    ]
    return sorted(rows, key=lambda row: (-row["f1"], -row["pictures"], row["artist"]))


def confusion(p: PredictionTable) -> dict[str, Any]:
    """The confusion matrix, best recognised first: names, rows of (count, share), and how many are left out."""
    counts = metrics.confusion(p.truth, p.predicted, len(p.artists))
    shares, order = metrics.shares_of_rows(counts), metrics.most_confused(counts)
    return {
        "left_out": len(counts) - len(order),
        "names": [display_name(p.artists[artist]) for artist in order],
        "rows": [[(int(counts[i, j]), float(shares[i, j])) for j in order] for i in order],
    }


def chart_of_curve(curve: Curve) -> dict[str, Any]:
    """Accuracy by epoch as points in a square of 100 by 100, the origin at the top left."""
    last = max(epoch for points in curve.values() for epoch, _ in points)
    # One epoch is a point, which no line shows: it is drawn as a level one.
    drawn = {split: points if last > 1 else [points[0], (2, points[0][1])] for split, points in curve.items()}
    return {
        "last": last,
        **{
            split: " ".join(
                f"{100 * (epoch - 1) / max(last - 1, 1):.1f},{100 * (1 - value):.1f}" for epoch, value in points
            )
            for split, points in drawn.items()
        },
        "ends": {split: points[-1][1] for split, points in curve.items()},
    }


def bars(measured: Reliability) -> list[dict[str, float]]:
    """The bins that have pictures: "bin" from 0, their accuracy, confidence and pictures."""
    return [
        {"bin": int(place), "accuracy": measured.accuracy[place], "confidence": measured.confidence[place],
         "pictures": int(measured.pictures[place])}
        for place in np.flatnonzero(measured.pictures)
    ]  # fmt: skip


def most_confident_mistakes(p: PredictionTable, most: int) -> list[int]:
    """The wrong predictions that were surest, surest first."""
    return _first(np.flatnonzero(~p.right), -p.probability, most)


def least_sure_hits(p: PredictionTable, most: int) -> list[int]:
    """The right predictions that were least sure, least sure first."""
    return _first(np.flatnonzero(p.right), p.probability, most)


def _first(indices: np.ndarray, by: np.ndarray, most: int) -> list[int]:
    return [int(index) for index in indices[np.argsort(by[indices], kind="stable")][:most]]


def as_uri(picture: Picture, quality: int = 82) -> str:
    """A picture as a data: address, so that the page needs no file beside it."""
    return "data:image/jpeg;base64," + base64.b64encode(images.jpeg(picture, quality)).decode("ascii")


def render(template: str, shown: dict[str, Any]) -> str:
    """Fills one of the templates. Names of artists and files are escaped for HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{value:.0%}".replace("%", "\u00a0%")
    environment.filters["sure"] = sure
    environment.filters["file"] = lambda path: path.rpartition("/")[2]
    return environment.get_template(template).render(shown)


def sure(probability: float) -> str:
    """A probability in words that say neither 100 % nor 0 % of what is neither certain nor impossible."""
    if probability < 0.005:
        return "under 1\u00a0%"
    return "over 99\u00a0%" if probability > 0.995 else f"{probability:.0%}".replace("%", "\u00a0%")


def pairs_with_pictures(p: PredictionTable, most: int) -> Sequence[tuple[int, int, int, list[int]]]:
    """The most confused pairs: (one, other, mistakes either way, those pictures)."""
    counts = metrics.confusion(p.truth, p.predicted, len(p.artists))
    return [
        (one, other, count, [int(index) for index in np.flatnonzero(_between(p, one, other))])
        for one, other, count in metrics.confused_pairs(counts, most)
    ]


def _between(p: PredictionTable, one: int, other: int) -> np.ndarray:
    either = ((p.truth == one) & (p.predicted == other)) | ((p.truth == other) & (p.predicted == one))
    return np.asarray(either)
