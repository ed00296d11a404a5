"""evaluate: how well the network of params.yaml's `model` tells apart the test pictures, and where it errs."""

import csv
import io
from pathlib import Path

import numpy as np

from redarte import params
from redarte.evaluation import figures, metrics
from redarte.inference.predictor import Predictions, Predictor
from redarte.params import Evaluate
from redarte.pictures import images
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say
from redarte.training import dataset
from redarte.training.dataset import Pictures

DUPLICATES = Path("data/near_duplicates.csv")
MODELS = Path("models")
PLOTS = Path("plots")
METRICS = Path("metrics/evaluate.json")


def main() -> None:
    settings = params.load()
    network = Predictor(MODELS / f"{settings.model}.onnx")
    data, artists = network.metadata.data, network.metadata.artists
    test = dataset.load_for(network.side, "test", artists)
    predictions = network.predict(test.batches())
    probabilities = predictions.probabilities
    numbers = {
        "test_accuracy": metrics.accuracy(test.labels, probabilities),
        "test_top5_accuracy": metrics.top_k_accuracy(test.labels, probabilities),
        "test_macro_f1": metrics.macro_f1(test.labels, probabilities.argmax(axis=1), len(artists)),
        "test_loss": metrics.cross_entropy(test.labels, probabilities),
        "val_accuracy": network.metadata.val_accuracy,
    }
    apart = np.flatnonzero(~leaked(test))
    outputs.write_text(PLOTS / "predictions.csv", predictions_csv(test, predictions))
    draw(test, probabilities, settings.evaluate, f"{settings.model} on {len(test)} test pictures ({data})")
    outputs.write_json(
        METRICS,
        {"data": data, "network": settings.model}
        | {name: round(number, 6) for name, number in numbers.items()}
        | {
            "test_pictures": len(test),
            "near_duplicates": {
                "test_pictures_with_one_in_train": len(test) - len(apart),
                # null where every test picture has one
                "test_accuracy_without_them": round(metrics.accuracy(test.labels[apart], probabilities[apart]), 6)
                if len(apart)
                else None,
            },
        },
    )
    say(f"{settings.model}: " + ", ".join(f"{name} {number:.3f}" for name, number in numbers.items()))


def leaked(test: Pictures) -> np.ndarray:
    """Which test pictures have a near-duplicate among the training pictures: (n,), bool."""
    with DUPLICATES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = {row["group"] for row in rows if row["split"] == "train"}
    names = {Path(row["path"]).with_suffix("") for row in rows if row["group"] in known}
    return np.array([Path(path).with_suffix("") in names for path in test.paths])


def predictions_csv(pictures: Pictures, predictions: Predictions) -> str:
    """plots/predictions.csv: a row a test picture, from which everything that is shown of the predictions is drawn.

    probability and calibrated are the predicted artist's, before and after calibration; true_class_probability is the
    true artist's, calibrated; rank is the true artist's place among the predictions, from 1.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "path",
            "artist",
            "predicted",
            "probability",
            "calibrated",
            "true_class_probability",
            "rank",
            "in_distribution",
        ]
    )
    probabilities, calibrated = predictions.probabilities, predictions.calibrated
    ranks = metrics.rank(pictures.labels, probabilities)
    for index, path in enumerate(pictures.paths):
        artist, predicted = pictures.labels[index], probabilities[index].argmax()
        shown = (probabilities[index, predicted], calibrated[index, predicted], calibrated[index, artist])
        writer.writerow(
            [
                f"test/{path}",
                pictures.artists[artist],
                pictures.artists[predicted],
                *(f"{probability:.6f}" for probability in shown),
                ranks[index],
                "yes" if predictions.in_distribution[index] else "no",
            ]
        )
    return text.getvalue()


def draw(test: Pictures, probabilities: np.ndarray, settings: Evaluate, title: str) -> None:
    """The confusion picture, each artist's recall, the pairs most confused and the most confident mistakes."""
    artists, predicted = figures.labels(test.artists), probabilities.argmax(axis=1)
    counts = metrics.confusion(test.labels, predicted, len(artists))
    figures.confusion(PLOTS / "confusion.png", counts, artists, title)
    recall = metrics.recall(test.labels, predicted, len(artists))
    accuracy = metrics.accuracy(test.labels, probabilities)
    figures.recalls(PLOTS / "recall.png", recall, counts.sum(axis=1), artists, accuracy)
    pairs = metrics.confused_pairs(counts, settings.confused_pairs)
    figures.confused_pairs(PLOTS / "confused_pairs.png", [(artists[i], artists[j], n) for i, j, n in pairs])
    wrong = np.flatnonzero(predicted != test.labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][: settings.gallery]
    figures.gallery(
        PLOTS / "mistakes.png",
        [images.read_square(test.folder / test.paths[index], test.side) for index in worst],
        [mistake(artists, test.labels[index], probabilities[index]) for index in worst],
        empty="Every test picture was recognised.",
    )


def mistake(artists: list[str], truth: int, probabilities: np.ndarray) -> str:
    """The caption of a picture that was taken for another artist's."""
    return f"{artists[truth]}\ntaken for {artists[probabilities.argmax()]} ({probabilities.max():.0%})"


if __name__ == "__main__":
    run_stage(main)
