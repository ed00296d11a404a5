"""plots/predictions.csv: one model's predictions for the test images, from which figures and pages are drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from redarte.evaluation import metrics
from redarte.runtime import tables

if TYPE_CHECKING:
    from redarte.images.dataset import Dataset
    from redarte.inference.predictor import Predictions

MAX_SHOWN = 60  # artists in a confusion matrix or a list of recalls: more cannot be read, and take gigabytes to draw
_COLUMNS = (
    "image", "artist", "predicted", "probability", "uncalibrated_probability", "true_class_probability", "rank",
    "in_distribution",
)  # fmt: skip


@dataclass(frozen=True)
class PredictionTable:
    """The predictions for n test images; artists are indices into `artists`.

    Attributes:
        ids: "<artist>/<stem>" of each image.
        truth: (n,), int.
        predicted: (n,), int.
        probability: (n,), of the predicted artist, calibrated.
        uncalibrated_probability: (n,), of the predicted artist, before calibration.
        true_class_probability: (n,), of the true artist, calibrated.
        rank: (n,), of the true artist, from 1 (`metrics.rank`).
        in_distribution: (n,), bool.
    """

    artists: list[str]
    ids: list[str]
    truth: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    uncalibrated_probability: np.ndarray
    true_class_probability: np.ndarray
    rank: np.ndarray
    in_distribution: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether each prediction is right: (n,), bool."""
        return np.asarray(self.truth == self.predicted)

    @property
    def confusion(self) -> np.ndarray:
        """The confusion matrix, as `metrics.confusion`."""
        return metrics.confusion(self.truth, self.predicted, len(self.artists))


def tabulate(images: "Dataset", predictions: "Predictions") -> PredictionTable:
    """Returns the table of a model's predictions for images."""
    every, truth, predicted = np.arange(len(images)), images.labels, predictions.predicted
    calibrated = predictions.calibrated
    return PredictionTable(
        images.artists, images.ids, truth, predicted, calibrated[every, predicted],
        predictions.probabilities[every, predicted], calibrated[every, truth], metrics.rank(truth, predictions.logits),
        predictions.in_distribution,
    )  # fmt: skip


def to_csv(table: PredictionTable) -> str:
    """Returns the table as CSV, one row an image."""
    shown = (table.probability, table.uncalibrated_probability, table.true_class_probability)
    rows = [
        [
            image_id,
            table.artists[table.truth[index]],
            table.artists[table.predicted[index]],
            *(f"{values[index]:.6f}" for values in shown),
            table.rank[index],
            "yes" if table.in_distribution[index] else "no",
        ]
        for index, image_id in enumerate(table.ids)
    ]
    return tables.to_csv([_COLUMNS, *rows])


def from_csv(*texts: str, artists: list[str] | None = None) -> PredictionTable:
    """Reads what `to_csv` returned, with probabilities rounded to six decimals; several tables become one.

    Args:
        artists: the classes; None: those of the tables, sorted.
    """
    rows = [row for text in texts for row in tables.rows(Path("plots/predictions.csv"), text)]
    artists = artists or sorted({row[name] for row in rows for name in ("artist", "predicted")})
    index_of = {artist: index for index, artist in enumerate(artists)}

    def column(name: str, convert: Callable[[str], Any]) -> np.ndarray:
        return np.array([convert(row[name]) for row in rows])

    return PredictionTable(
        artists,
        [row["image"] for row in rows],
        column("artist", index_of.__getitem__),
        column("predicted", index_of.__getitem__),
        column("probability", float),
        column("uncalibrated_probability", float),
        column("true_class_probability", float),
        column("rank", int),
        column("in_distribution", lambda text: text == "yes"),
    )


def most_confused(counts: np.ndarray, most: int = MAX_SHOWN) -> np.ndarray:
    """Returns the artists to show in a confusion matrix: all, or those of the most confused pairs if there are more.

    Args:
        counts: (artists, artists), from `metrics.confusion`.

    Returns:
        (at most `most`,), int64, in ascending order.
    """
    artists = range(len(counts))
    of_pairs = (artist for one, other, _ in metrics.confused_pairs(counts, most) for artist in (one, other))
    return np.array(sorted(list(dict.fromkeys([*of_pairs, *artists]))[:most]))


def leaked_images(rows: list[dict[str, str]]) -> set[str]:
    """Returns the identities of the images of data/images.csv that have a near-duplicate in train."""
    in_train = {row["near_duplicates"] for row in rows if row["split"] == "train"} - {""}
    return {row["image"] for row in rows if row["near_duplicates"] in in_train}
