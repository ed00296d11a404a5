"""Stage compare: the study's three models beside its published results, and beside each other."""

from pathlib import Path

from redarte.evaluation import comparison, curves, figures, metrics
from redarte.evaluation.comparison import TABLE_ONE, title
from redarte.images import dataset
from redarte.inference.predictor import Predictor
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say

MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    models = {name: Predictor(MODELS / f"{name}.onnx") for name in TABLE_ONE}
    metadata, side = models["red1"].metadata, models["red1"].side
    test = dataset.load(dataset.folder_of("test", resized=True), metadata.artists, side)
    predicted = {name: model.predict(test.batches()).predicted for name, model in models.items()}
    right = {name: classes == test.labels for name, classes in predicted.items()}
    rows = {}
    for name in models:
        trained = outputs.read_json(METRICS / f"train_{name}.json")
        rows[name] = {measure: trained[measure] for measure in ("accuracy", "val_accuracy")}
        rows[name]["test_accuracy"] = round(float(right[name].mean()), 6)
    train_artists, test_artists = (
        [image_id.partition("/")[0] for image_id in ids] for ids in (metadata.training_images, test.ids)
    )
    baseline = metrics.baseline_accuracy(train_artists, test_artists)
    tests = comparison.p_values(right)
    outputs.write_json(
        METRICS / "compare.json",
        {
            "data": metadata.data,
            **rows,
            # Six significant digits: however small, a p-value is not 0.
            "mcnemar_p_value": {f"{one}_{other}": float(f"{value:.6g}") for (one, other), value in tests.items()},
            "baseline_test_accuracy": round(baseline, 6),
            "test_images": len(test),
        },
    )
    outputs.write_text(PLOTS / "table_one.md", comparison.table_one(rows, metadata.data, baseline, len(test), tests))
    outputs.write_text(
        PLOTS / "compare.csv", comparison.predictions_csv(test.artists, test.ids, test.labels, predicted)
    )
    histories = {name: curves.read(PLOTS / f"train_{name}.csv") for name in models}
    outputs.write_text(PLOTS / "curves.csv", curves.to_csv(histories))
    draw(rows, histories, metadata.data)
    say(f"the study's Table I beside ours: {PLOTS / 'table_one.md'}")


def draw(rows: dict[str, dict[str, float]], histories: dict[str, curves.Curve], source: str) -> None:
    """Draws Table I and the learning curves (the study's figures 16 to 18).

    Args:
        rows: model -> accuracy, val_accuracy and test_accuracy.
        histories: model -> its learning curve.
    """
    measured = {
        title(name): {
            measure.replace("_", " "): (theirs, rows[name][measure])
            for measure, theirs in zip(rows[name], (*TABLE_ONE[name], None), strict=True)
        }
        for name in rows
    }
    figures.table_one(PLOTS / "table_one.png", measured, f"Measured on: {comparison.describe(source)}")
    figures.curves(
        PLOTS / "curves.png",
        {title(name): curve for name, curve in histories.items()},
        {title(name): values for name, values in TABLE_ONE.items()},
    )


if __name__ == "__main__":
    run_stage(main)
