"""Stage evaluate: measures the model of params.yaml's `model` on the test images, and draws its errors."""

import numpy as np

from redarte import params
from redarte.evaluation import figures, metrics, predictions
from redarte.evaluation.predictions import MAX_SHOWN, PredictionTable
from redarte.images import dataset
from redarte.images.dataset import Dataset
from redarte.inference.predictor import Predictor
from redarte.params import Evaluate
from redarte.runtime import outputs, paths, tables
from redarte.runtime.console import run_stage, say


def main() -> None:
    settings = params.load()
    model = Predictor(paths.MODELS / f"{settings.model}.onnx")
    data, artists = model.metadata.data, model.metadata.artists
    test = dataset.load_as_trained("test", artists, model.side, model.metadata.jpeg_quality)
    predicted = model.predict_dataset(test, f"evaluating {settings.model}")
    table = predictions.tabulate(test, predicted)
    numbers = {
        "test_accuracy": metrics.accuracy(test.labels, predicted.logits),
        "test_top5_accuracy": metrics.top_k_accuracy(test.labels, predicted.logits),
        "test_macro_f1": metrics.macro_f1(table.truth, table.predicted, len(artists)),
        "test_loss": metrics.cross_entropy(test.labels, predicted.logits),
        "val_accuracy": model.metadata.val_accuracy,
        "baseline_test_accuracy": metrics.baseline_accuracy(model.metadata.training_images, test.ids),
    }
    rows = tables.read(paths.IMAGES)
    leaked = predictions.leaked_images(rows)
    common = {row["image"] for row in rows if row["common_test"] == "yes"}
    clean = table.right[[image_id not in leaked for image_id in table.ids]]
    uncorrected = table.right[[image_id in common for image_id in table.ids]]
    outputs.write_text(paths.PLOTS / "predictions.csv", predictions.to_csv(table))
    draw(test, table, settings.evaluate, f"{settings.model} on {len(test)} test images ({data})")
    outputs.write_json(
        paths.METRICS / "evaluate.json",
        {"data": data, "model": settings.model}
        | {name: round(number, 6) for name, number in numbers.items()}
        | {
            "test_images": len(test),
            "near_duplicates": {
                "test_images_with_duplicate_in_train": len(test) - len(clean),
                # null where every test image has one
                "test_accuracy_without_them": _mean(clean),
            },
            # The same test images with and without corrections.csv: `splitting.assign`.
            "corrections": {"common_test_images": len(uncorrected), "common_test_accuracy": _mean(uncorrected)},
        },
    )
    say(f"{settings.model}: " + ", ".join(f"{name} {number:.3f}" for name, number in numbers.items()))


def draw(test: Dataset, table: PredictionTable, settings: Evaluate, title: str) -> None:
    """Draws the confusion matrix, each artist's recall, the most confused pairs and the most confident mistakes."""
    artists, counts = figures.labels(table.artists), table.confusion
    figures.confusion(paths.PLOTS / "confusion.png", counts, predictions.most_confused(counts), artists, title)
    recall = metrics.recall(table.truth, table.predicted, len(artists))
    figures.recalls(
        paths.PLOTS / "recall.png", recall, counts.sum(axis=1), artists, float(table.right.mean()), MAX_SHOWN
    )
    pairs = metrics.confused_pairs(counts, settings.confused_pairs)
    figures.confused_pairs(paths.PLOTS / "confused_pairs.png", [(artists[i], artists[j], n) for i, j, n in pairs])
    wrong = np.flatnonzero(~table.right)
    worst = wrong[np.argsort(-table.probability[wrong], kind="stable")][: settings.gallery]
    figures.gallery(
        paths.PLOTS / "mistakes.png",
        [test.read(index) for index in worst],
        [
            f"{artists[table.truth[i]]}\npredicted: {artists[table.predicted[i]]} ({100 * table.probability[i]:.0f} %)"
            for i in worst
        ],
        empty="Every test image is predicted correctly.",
    )


def _mean(right: np.ndarray) -> float | None:
    return round(float(right.mean()), 6) if len(right) else None


if __name__ == "__main__":
    run_stage(main)
