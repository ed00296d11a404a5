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
    test = dataset.load_for(network.metadata, network.side, "test")
    predictions = network.predict(test.batches())
    logits = predictions.logits
    numbers = {
        "test_accuracy": metrics.accuracy(test.labels, logits),
        "test_top5_accuracy": metrics.top_k_accuracy(test.labels, logits),
        "test_macro_f1": metrics.macro_f1(test.labels, predictions.predicted, len(artists)),
        "test_loss": metrics.cross_entropy(test.labels, logits),
        "val_accuracy": network.metadata.val_accuracy,
    }
    apart = np.flatnonzero(~leaked(test))
    outputs.write_text(PLOTS / "predictions.csv", predictions_csv(test, predictions))
    draw(test, predictions, settings.evaluate, f"{settings.model} on {len(test)} test pictures ({data})")
    outputs.write_json(
        METRICS,
        {"data": data, "network": settings.model}
        | {name: round(number, 6) for name, number in numbers.items()}
        | {
            "test_pictures": len(test),
            "near_duplicates": {
                "test_pictures_with_one_in_train": len(test) - len(apart),
                # null where every test picture has one
                "test_accuracy_without_them": round(metrics.accuracy(test.labels[apart], logits[apart]), 6)
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

    probability is the predicted artist's, calibrated, and uncalibrated_probability the same before calibration;
    true_class_probability is the true artist's, calibrated; rank is the true artist's, from 1 (`metrics.rank`).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "path",
            "artist",
            "predicted",
            "probability",
            "uncalibrated_probability",
            "true_class_probability",
            "rank",
            "in_distribution",
        ]
    )
    uncalibrated, calibrated = predictions.probabilities, predictions.calibrated
    ranks = metrics.rank(pictures.labels, predictions.logits)
    for index, path in enumerate(pictures.paths):
        artist, predicted = pictures.labels[index], predictions.predicted[index]
        shown = (calibrated[index, predicted], uncalibrated[index, predicted], calibrated[index, artist])
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


def draw(test: Pictures, predictions: Predictions, settings: Evaluate, title: str) -> None:
    """The confusion picture, each artist's recall, the pairs most confused and the most confident mistakes."""
    artists, predicted = figures.labels(test.artists), predictions.predicted
    counts = metrics.confusion(test.labels, predicted, len(artists))
    figures.confusion(PLOTS / "confusion.png", counts, artists, title)
    recall = metrics.recall(test.labels, predicted, len(artists))
    accuracy = metrics.accuracy(test.labels, predictions.logits)
    figures.recalls(PLOTS / "recall.png", recall, counts.sum(axis=1), artists, accuracy)
    pairs = metrics.confused_pairs(counts, settings.confused_pairs)
    figures.confused_pairs(PLOTS / "confused_pairs.png", [(artists[i], artists[j], n) for i, j, n in pairs])
    wrong = np.flatnonzero(predicted != test.labels)
    confidence = predictions.calibrated.max(axis=1)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][: settings.gallery]
    figures.gallery(
        PLOTS / "mistakes.png",
        [images.read_square(test.folder / test.paths[index], test.side) for index in worst],
        [mistake(artists[test.labels[index]], artists[predicted[index]], confidence[index]) for index in worst],
        empty="Every test picture was recognised.",
    )


def mistake(artist: str, predicted: str, probability: float) -> str:
    """The caption of an image that was predicted to be another artist's, with the calibrated probability."""
    return f"{artist}\ntaken for {predicted} ({probability:.0%})"


if __name__ == "__main__":
    run_stage(main)
