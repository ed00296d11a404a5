"""Stage compare: the study's three models beside its published results, and beside each other: plots/study.html."""

from typing import Any

from redarte.evaluation import comparison, figures, metrics
from redarte.evaluation.comparison import TABLE_ONE, Curve, title
from redarte.images import dataset
from redarte.inference.predictor import Predictor
from redarte.reporting import study
from redarte.runtime import outputs, paths
from redarte.runtime.console import run_stage, say


def main() -> None:
    models = {name: Predictor(paths.MODELS / f"{name}.onnx") for name in TABLE_ONE}
    first = models["red1"]
    metadata = first.metadata
    # Decoded once for the three models.
    test = dataset.load(paths.SPLIT / "test", metadata.artists, first.side, metadata.jpeg_quality)
    predicted = {name: model.predict_dataset(test, f"evaluating {name}").predicted for name, model in models.items()}
    right = {name: classes == test.labels for name, classes in predicted.items()}
    rows = {}
    for name in models:
        trained = outputs.read_json(paths.METRICS / f"train_{name}.json")
        rows[name] = {measure: trained[measure] for measure in ("accuracy", "val_accuracy")}
        rows[name]["test_accuracy"] = round(float(right[name].mean()), 6)
    fetched = outputs.read_json(paths.METRICS / "fetch.json")
    baseline = metrics.baseline_accuracy(metadata.training_images, test.ids)
    tests = comparison.p_values(right)
    compared = {
        "data": metadata.data,
        **rows,
        # Six significant digits: however small, a p-value is not 0.
        "mcnemar_p_value": {f"{one}_{other}": float(f"{value:.6g}") for (one, other), value in tests.items()},
        "baseline_test_accuracy": round(baseline, 6),
        "test_images": len(test),
    }
    outputs.write_json(paths.METRICS / "compare.json", compared)
    outputs.write_text(paths.PLOTS / "table_one.md", comparison.table_one(rows, fetched, baseline, len(test), tests))
    histories = {name: comparison.read_curve(paths.PLOTS / f"train_{name}.csv") for name in models}
    draw(rows, histories, fetched)
    page = study.render(compared, fetched, comparison.verdicts(tests), histories)
    outputs.write_text(paths.PLOTS / "study.html", page)
    say(f"the three models beside each other: {paths.PLOTS / 'study.html'}, {paths.PLOTS / 'table_one.md'}")


def draw(rows: dict[str, dict[str, float]], histories: dict[str, Curve], fetched: dict[str, Any]) -> None:
    """Draws Table I and the learning curves (the study's figures 16 to 18).

    Args:
        rows: model -> accuracy, val_accuracy and test_accuracy.
        histories: model -> its learning curve.
    """
    published = comparison.published(fetched)
    measured = {
        title(name): {
            measure.replace("_", " "): (theirs, rows[name][measure])
            for measure, theirs in zip(rows[name], (*published.get(name, (None, None)), None), strict=True)
        }
        for name in rows
    }
    figures.table_one(paths.PLOTS / "table_one.png", measured, f"Measured on: {comparison.describe(fetched)}")
    figures.curves(
        paths.PLOTS / "curves.png",
        {title(name): curve for name, curve in histories.items()},
        {title(name): values for name, values in published.items()},
    )


if __name__ == "__main__":
    run_stage(main)
