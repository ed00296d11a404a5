"""compare: the three networks, and those beyond them that are trained, beside what the study published."""

import glob
from itertools import combinations
from pathlib import Path

import numpy as np

from redarte import curves, dataset, figures, metrics, optional, outputs, paintings, prediction
from redarte.console import run_stage, say
from redarte.params import NetworkName
from redarte.prediction import Network
from redarte.study import TABLE_ONE, TITLES

RAW_TRAIN = Path("data/split/train")
AUGMENTED = Path("data/augmented")
TEST = Path("data/resized/test")
ORIGINALS = Path("data/split/test")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    files = {name: MODELS / f"{name}.onnx" for name in TITLES}
    networks = {name: prediction.Network(file) for name, file in files.items() if not optional.is_empty(file)}
    source = networks["red1"].card.data
    right = {name: recognised(network) for name, network in networks.items()}
    rows = {name: row(name, right[name]) for name in networks}
    baseline = metrics.largest_class_accuracy(artists_of(RAW_TRAIN), artists_of(TEST))
    chances = {pair: metrics.mcnemar(right[pair[0]], right[pair[1]]) for pair in combinations(networks, 2)}
    pictures = len(right["red1"])
    outputs.write_json(
        METRICS / "compare.json",
        {
            "data": source,
            **{str(name): measured for name, measured in rows.items()},
            "mcnemar_p": {f"{one}_{other}": six_digits(chance) for (one, other), chance in chances.items()},
            "largest_class_test_accuracy": round(baseline, 6),
            "test_pictures": pictures,
        },
    )
    verdicts = [metrics.verdict(TITLES[one], TITLES[other], chance) for (one, other), chance in chances.items()]
    outputs.write_text(PLOTS / "table_one.md", table_one(rows, source, baseline, pictures, verdicts))
    draw(rows, source)
    say(f"the study's Table I beside ours: {PLOTS / 'table_one.md'}")


def six_digits(chance: float) -> float:
    """A probability with six significant digits: however small, it is not 0."""
    return float(f"{chance:.6g}")


def recognised(network: Network) -> np.ndarray:
    """Which test pictures a network recognises: (n,), bool, in the same order for each network."""
    test = dataset.seen_by(network.side, TEST, ORIGINALS, network.card.artists)
    right = network.answers(test.batches()).logits.argmax(axis=1) == test.labels
    # The suffixes of data/split and data/resized differ, and with them the order.
    return np.asarray(right[sorted(range(len(test)), key=lambda index: Path(test.paths[index]).with_suffix("").parts)])


def row(name: NetworkName, right: np.ndarray) -> dict[str, float]:
    """A network's accuracy in train, val and test."""
    trained = outputs.read_json(METRICS / f"train_{name}.json")
    measured = {measure: trained[measure] for measure in ("accuracy", "val_accuracy")}
    return measured | {"test_accuracy": round(float(right.mean()), 6)}


def artists_of(folder: Path) -> list[str]:
    """The artist of each picture of a class-per-folder tree."""
    return [path.partition("/")[0] for path in paintings.listing(folder)]


def table_one(
    rows: dict[NetworkName, dict[str, float]], source: str, baseline: float, pictures: int, verdicts: list[str]
) -> str:
    """The study's Table I beside ours, in Markdown."""
    lines = [
        f"Measured on: {describe(source)}",
        "",
        "| Network | Accuracy, published | ours | Val accuracy, published | ours | Test accuracy, ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, ours in rows.items():
        accuracy, val_accuracy = (f"{value:.2f}" for value in TABLE_ONE[name]) if name in TABLE_ONE else ("–", "–")
        lines.append(
            f"| {TITLES[name]} | {accuracy} | {ours['accuracy']:.2f} | {val_accuracy} "
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


def draw(rows: dict[NetworkName, dict[str, float]], source: str) -> None:
    """Table I as a figure, the curves (the study's figures 16 to 18) and the six copies (its figure 12)."""
    measures = {"accuracy": 0, "val_accuracy": 1, "test_accuracy": None}
    figures.table_one(
        PLOTS / "table_one.png",
        {
            TITLES[name]: {
                measure.replace("_", " "): (
                    TABLE_ONE[name][place] if place is not None and name in TABLE_ONE else None,
                    rows[name][measure],
                )
                for measure, place in measures.items()
            }
            for name in rows
        },
        f"Measured on: {describe(source)}",
    )
    histories = {TITLES[name]: curve for name, curve in curves.of_networks(PLOTS, rows).items()}
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
