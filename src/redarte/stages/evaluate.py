"""evaluate: how well the network of params.yaml's `model` tells apart the test pictures, and where it errs."""

import csv
import io
from pathlib import Path

import numpy as np

from redarte import dataset, figures, metrics, outputs, paintings, params, prediction
from redarte.console import run_stage, say
from redarte.dataset import Pictures
from redarte.params import Evaluate
from redarte.prediction import Answers

RESIZED = Path("data/resized")
SPLIT = Path("data/split")
DUPLICATES = Path("data/near_duplicates.csv")
MODELS = Path("models")
PLOTS = Path("plots")
METRICS = Path("metrics/evaluate.json")


def main() -> None:
    settings = params.load()
    network = prediction.Network(MODELS / f"{settings.model}.onnx")
    data = network.card.data
    val, test = (
        dataset.seen_by(network.side, RESIZED / split, SPLIT / split, network.card.artists) for split in ("val", "test")
    )
    of_val, of_test = (network.answers(pictures.batches()) for pictures in (val, test))
    numbers = {
        "test_accuracy": metrics.accuracy(test.labels, of_test.raw),
        "test_top5_accuracy": metrics.top_k_accuracy(test.labels, of_test.raw),
        "test_macro_f1": metrics.macro_f1(test.labels, of_test.raw),
        "test_loss": metrics.cross_entropy(test.labels, of_test.raw),
        "val_accuracy": metrics.accuracy(val.labels, of_val.raw),
    }
    apart = np.flatnonzero(~leaked(test))
    outputs.write_text(PLOTS / "predictions.csv", predictions_csv(test, of_test))
    draw(test, of_test.raw, settings.evaluate, f"{settings.model} on {len(test)} test pictures ({data})")
    outputs.write_json(
        METRICS,
        {"data": data, "network": settings.model}
        | {name: round(number, 6) for name, number in numbers.items()}
        | {
            "test_pictures": len(test),
            "near_duplicates": {
                "test_pictures_with_one_in_train": len(test) - len(apart),
                # null where every test picture has one
                "test_accuracy_without_them": round(metrics.accuracy(test.labels[apart], of_test.raw[apart]), 6)
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


def predictions_csv(pictures: Pictures, answers: Answers) -> str:
    """plots/predictions.csv: one row a picture, from which everything that is shown of the answers is drawn.

    probability and calibrated are the predicted artist's, before and after calibration; of_artist is the true
    artist's, calibrated; rank is the true artist's place among the answers, from 1; known says whether the picture is
    like those that the network was trained on.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "artist", "predicted", "probability", "calibrated", "of_artist", "rank", "known"])
    raw, calibrated, known = answers.raw, answers.probabilities, answers.known
    ranks = metrics.rank(pictures.labels, raw)
    for index, path in enumerate(pictures.paths):
        artist, predicted = pictures.labels[index], raw[index].argmax()
        writer.writerow(
            [
                f"{pictures.folder.name}/{path}",
                pictures.artists[artist],
                pictures.artists[predicted],
                *(f"{row[index, column]:.6f}" for row, column in ((raw, predicted), (calibrated, predicted),
                                                                  (calibrated, artist))),
                ranks[index],
                "yes" if known[index] else "no",
            ]
        )  # fmt: skip
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
