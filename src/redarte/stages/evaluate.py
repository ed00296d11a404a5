"""evaluate: how well the network of params.yaml's `model` tells apart the test pictures, and where it errs."""

import csv
import io
from pathlib import Path

import numpy as np

from redarte import dataset, figures, metrics, networks, outputs, paintings, params, prediction
from redarte.console import run_stage, say
from redarte.dataset import Pictures
from redarte.params import Evaluate

RESIZED = Path("data/resized")
MODELS = Path("models")
PLOTS = Path("plots")
FETCHED = Path("metrics/fetch.json")
METRICS = Path("metrics/evaluate.json")


def main() -> None:
    settings = params.load()
    network, artists = networks.load(MODELS / f"{settings.model}.keras")
    val, test = (dataset.load(RESIZED / split, artists) for split in ("val", "test"))
    of_val = prediction.probabilities(network, val)
    of_test = prediction.probabilities(network, test)
    numbers = {
        "test_accuracy": metrics.accuracy(test.labels, of_test),
        "test_top5_accuracy": metrics.top_k_accuracy(test.labels, of_test),
        "test_macro_f1": metrics.macro_f1(test.labels, of_test),
        "test_loss": metrics.cross_entropy(test.labels, of_test),
        "val_accuracy": metrics.accuracy(val.labels, of_val),
    }
    source = outputs.read_json(FETCHED)["source"]
    outputs.write_text(PLOTS / "predictions.csv", predictions_csv(test, of_test))
    draw(test, of_test, settings.evaluate, f"{settings.model} on {len(test)} test pictures ({source})")
    outputs.write_json(
        METRICS,
        {"data": source, "network": settings.model}
        | {name: round(number, 6) for name, number in numbers.items()}
        | {"test_pictures": len(test)},
    )
    say(f"{settings.model}: " + ", ".join(f"{name} {number:.3f}" for name, number in numbers.items()))


def predictions_csv(pictures: Pictures, probabilities: np.ndarray) -> str:
    """plots/predictions.csv: one row a picture; rank is the place of the true artist among the answers, from 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "artist", "predicted", "probability", "rank"])
    predicted, ranks = probabilities.argmax(axis=1), metrics.rank(pictures.labels, probabilities)
    for index, path in enumerate(pictures.paths):
        writer.writerow(
            [
                f"{pictures.folder.name}/{path}",
                pictures.artists[pictures.labels[index]],
                pictures.artists[predicted[index]],
                f"{probabilities[index].max():.6f}",
                ranks[index],
            ]
        )
    return text.getvalue()


def draw(test: Pictures, probabilities: np.ndarray, settings: Evaluate, title: str) -> None:
    """The confusion picture, each artist's recall, the pairs most confused and the most confident mistakes."""
    artists, predicted = test.artists, probabilities.argmax(axis=1)
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
        [paintings.read_square(test.folder / test.paths[index], test.side) for index in worst],
        [mistake(test, index, probabilities[index]) for index in worst],
        empty="Every test picture was recognised.",
    )


def mistake(test: Pictures, index: int, probabilities: np.ndarray) -> str:
    """The caption of a picture that was taken for another artist's."""
    truth, predicted = test.artists[test.labels[index]], test.artists[probabilities.argmax()]
    return f"{truth}\ntaken for {predicted} ({probabilities.max():.0%})".replace("_", " ")


if __name__ == "__main__":
    run_stage(main)
