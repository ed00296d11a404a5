"""compare: the three networks side by side, beside what the study published."""

import glob
from itertools import combinations
from pathlib import Path

import numpy as np

from redarte import curves, dataset, figures, metrics, outputs, paintings, prediction
from redarte.console import run_stage, say
from redarte.prediction import BATCH
from redarte.study import TABLE_ONE, TITLES

RAW_TRAIN = Path("data/split/train")
AUGMENTED = Path("data/augmented")
TEST = Path("data/resized/test")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    networks = {name: prediction.Network(MODELS / f"{name}.onnx") for name in TABLE_ONE}
    # All three learned from the same pictures.
    card = networks["red1"].card
    source, test = card.data, dataset.load(TEST, card.artists)
    rows: dict[str, dict[str, float]] = {}
    right: dict[str, np.ndarray] = {}
    for name, network in networks.items():
        right[name] = network.answers(test.batches(BATCH)).logits.argmax(axis=1) == test.labels
        trained = outputs.read_json(METRICS / f"train_{name}.json")
        rows[name] = {measure: trained[measure] for measure in ("accuracy", "val_accuracy")} | {
            "test_accuracy": round(float(right[name].mean()), 6)
        }
    baseline = metrics.largest_class_accuracy(artists_of(RAW_TRAIN), artists_of(TEST))
    chances = {pair: metrics.mcnemar(right[pair[0]], right[pair[1]]) for pair in combinations(TABLE_ONE, 2)}
    outputs.write_json(
        METRICS / "compare.json",
        {
            "data": source,
            **rows,
            "mcnemar_p": {f"{one}_{other}": round(chance, 6) for (one, other), chance in chances.items()},
            "largest_class_test_accuracy": round(baseline, 6),
            "test_pictures": len(test),
        },
    )
    verdicts = [metrics.verdict(TITLES[one], TITLES[other], chance) for (one, other), chance in chances.items()]
    outputs.write_text(PLOTS / "table_one.md", table_one(rows, source, baseline, len(test), verdicts))
    draw(rows, source)
    say(f"the study's Table I beside ours: {PLOTS / 'table_one.md'}")


def artists_of(folder: Path) -> list[str]:
    """The artist of each picture of a class-per-folder tree."""
    return [path.partition("/")[0] for path in paintings.listing(folder)]


def table_one(
    rows: dict[str, dict[str, float]], source: str, baseline: float, pictures: int, verdicts: list[str]
) -> str:
    """The study's Table I beside ours, in Markdown."""
    lines = [
        f"Measured on: {describe(source)}",
        "",
        "| Network | Accuracy, published | ours | Val accuracy, published | ours | Test accuracy, ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (accuracy, val_accuracy) in TABLE_ONE.items():
        ours = rows[name]
        lines.append(
            f"| {TITLES[name]} | {accuracy:.2f} | {ours['accuracy']:.2f} | {val_accuracy:.2f} "
            f"| {ours['val_accuracy']:.2f} | {ours['test_accuracy']:.2f} |"
        )
    lines += ["", f"Always answering the largest class: {baseline:.2f} on the same {pictures} test pictures."]
    lines += ["", "By McNemar's exact test on those pictures:", "", *(f"- {verdict}" for verdict in verdicts)]
    return "\n".join(lines) + "\n"


def describe(source: str) -> str:
    """Where the pictures come from, so that nobody takes the sample's numbers for the study's."""
    if source == "sample":
        return "the built-in sample (invented schools of painting), not the study's paintings"
    return f"pictures from fetch.source: {source}"


def draw(rows: dict[str, dict[str, float]], source: str) -> None:
    """Table I as a figure, the curves (the study's figures 16 to 18) and the six copies (its figure 12)."""
    measures = {"accuracy": 0, "val_accuracy": 1, "test_accuracy": None}
    figures.table_one(
        PLOTS / "table_one.png",
        {
            TITLES[name]: {
                measure.replace("_", " "): (None if place is None else TABLE_ONE[name][place], rows[name][measure])
                for measure, place in measures.items()
            }
            for name in TABLE_ONE
        },
        f"Measured on: {describe(source)}",
    )
    histories = {TITLES[name]: curves.read(PLOTS / f"train_{name}.csv") for name in TABLE_ONE}
    figures.curves(PLOTS / "curves.png", histories, {TITLES[name]: published for name, published in TABLE_ONE.items()})
    draw_copies()


def draw_copies() -> None:
    """One training picture, the first, beside its copies."""
    original = paintings.listing(RAW_TRAIN)[0]
    stem = Path(original).stem
    copies = sorted((AUGMENTED / original).parent.glob(f"{glob.escape(stem)}__*.jpg"))
    files = [RAW_TRAIN / original, *copies]
    captions = ["the picture", *(copy.stem.rpartition("__")[2].replace("_", " ") for copy in copies)]
    pictures = [paintings.read_within(file, max_side=400) for file in files]
    figures.gallery(PLOTS / "copies.png", pictures, captions, empty="")


if __name__ == "__main__":
    run_stage(main)
