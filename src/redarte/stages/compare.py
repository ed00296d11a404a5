"""compare: the study's three networks beside what it published, and beside each other."""

import csv
import glob
import io
from itertools import combinations
from pathlib import Path

import numpy as np

from redarte.evaluation import curves, figures, metrics
from redarte.evaluation.published import TABLE_ONE, title
from redarte.inference.predictor import Predictor
from redarte.pictures import images
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say
from redarte.training import dataset
from redarte.training.dataset import Pictures

ORIGINALS = Path("data/split/train")
AUGMENTED = Path("data/augmented")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    networks = {name: Predictor(MODELS / f"{name}.onnx") for name in TABLE_ONE}
    metadata = networks["red1"].metadata
    source = metadata.data
    test = dataset.load_for(metadata, networks["red1"].side, "test")
    predicted = {name: network.predict(test.batches()).predicted for name, network in networks.items()}
    right = {name: artist == test.labels for name, artist in predicted.items()}
    rows = {name: row(name, right[name]) for name in networks}
    of_largest = metrics.largest_class_accuracy(artists_of(ORIGINALS), [path.partition("/")[0] for path in test.paths])
    chances = {pair: metrics.mcnemar(right[pair[0]], right[pair[1]]) for pair in combinations(networks, 2)}
    outputs.write_json(
        METRICS / "compare.json",
        {
            "data": source,
            **rows,
            "mcnemar_p": {f"{one}_{other}": six_digits(chance) for (one, other), chance in chances.items()},
            "largest_class_test_accuracy": round(of_largest, 6),
            "test_pictures": len(test),
        },
    )
    verdicts = [metrics.verdict(title(one), title(other), chance) for (one, other), chance in chances.items()]
    outputs.write_text(PLOTS / "table_one.md", table_one(rows, source, of_largest, len(test), verdicts))
    outputs.write_text(PLOTS / "compare.csv", predictions_csv(test, predicted))
    histories = {name: curves.read(PLOTS / f"train_{name}.csv") for name in networks}
    outputs.write_text(PLOTS / "curves.csv", curves.to_csv(histories))
    draw(rows, histories, source)
    say(f"the study's Table I beside ours: {PLOTS / 'table_one.md'}")


def six_digits(chance: float) -> float:
    """A probability with six significant digits: however small, it is not 0."""
    return float(f"{chance:.6g}")


def row(name: str, right: np.ndarray) -> dict[str, float]:
    """A network's accuracy in train, val and test."""
    trained = outputs.read_json(METRICS / f"train_{name}.json")
    measured = {measure: trained[measure] for measure in ("accuracy", "val_accuracy")}
    return measured | {"test_accuracy": round(float(right.mean()), 6)}


def artists_of(folder: Path) -> list[str]:
    """The artist of each picture of a class-per-folder tree."""
    return [path.partition("/")[0] for path in images.list_images(folder)]


def predictions_csv(test: Pictures, predicted: dict[str, np.ndarray]) -> str:
    """plots/compare.csv: a row a test picture, with its artist and the one that each network names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "artist", *predicted])
    for index, path in enumerate(test.paths):
        named = (test.artists[artists[index]] for artists in predicted.values())
        writer.writerow([f"test/{path}", test.artists[test.labels[index]], *named])
    return text.getvalue()


def table_one(
    rows: dict[str, dict[str, float]], source: str, of_largest: float, pictures: int, verdicts: list[str]
) -> str:
    """The study's Table I beside ours, in Markdown."""
    lines = [
        f"Measured on: {describe(source)}",
        "",
        "| Network | Accuracy, published | ours | Val accuracy, published | ours | Test accuracy, ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, ours in rows.items():
        accuracy, val_accuracy = TABLE_ONE[name]
        lines.append(
            f"| {title(name)} | {accuracy:.2f} | {ours['accuracy']:.2f} | {val_accuracy:.2f} "
            f"| {ours['val_accuracy']:.2f} | {ours['test_accuracy']:.2f} |"
        )
    lines += ["", f"Always predicting the largest class: {of_largest:.2f} on the same {pictures} test pictures."]
    lines += ["", "By McNemar's exact test on those pictures:", "", *(f"- {verdict}" for verdict in verdicts)]
    return "\n".join(lines) + "\n"


def describe(source: str) -> str:
    """Where the pictures come from, so that nobody takes the sample's numbers for the study's."""
    if source == "sample":
        return "the built-in sample (invented schools of painting), not the study's paintings"
    return f"pictures from fetch.source: {source}"


def draw(rows: dict[str, dict[str, float]], histories: dict[str, curves.Curve], source: str) -> None:
    """Table I as a figure, the curves (the study's figures 16 to 18) and the six copies (its figure 12)."""
    published = {name: (*TABLE_ONE[name], None) for name in rows}
    figures.table_one(
        PLOTS / "table_one.png",
        {
            title(name): {
                measure.replace("_", " "): (theirs, rows[name][measure])
                for measure, theirs in zip(rows[name], published[name], strict=True)
            }
            for name in rows
        },
        f"Measured on: {describe(source)}",
    )
    figures.curves(
        PLOTS / "curves.png",
        {title(name): curve for name, curve in histories.items()},
        {title(name): values for name, values in TABLE_ONE.items()},
    )
    draw_copies()


def draw_copies() -> None:
    """One training picture, the first, beside its copies."""
    original = images.list_images(ORIGINALS)[0]
    stem = Path(original).stem
    copies = sorted((AUGMENTED / original).parent.glob(f"{glob.escape(stem)}{images.COPY_MARK}*.jpg"))
    files = [ORIGINALS / original, *copies]
    captions = ["the picture", *(copy.stem.rpartition(images.COPY_MARK)[2].replace("_", " ") for copy in copies)]
    pictures = [images.read_within(file, max_side=400) for file in files]
    figures.gallery(PLOTS / "copies.png", pictures, captions, empty="")


if __name__ == "__main__":
    run_stage(main)
