"""export_red1 and so on: a trained network -> one ONNX file that answers with honest probabilities.

`python -m redarte.stages.export red1`: the one argument is the network's name.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

from redarte import dataset, exporting, metrics, networks, optional, outputs, paintings, params, prediction
from redarte.backend import keras
from redarte.console import run_stage, say
from redarte.dataset import Pictures
from redarte.errors import UserError
from redarte.params import NetworkName
from redarte.prediction import Card

SPLIT = Path("data/split")
RESIZED = Path("data/resized")
MODELS = Path("models")
FETCHED = Path("metrics/fetch.json")
METRICS = Path("metrics")
_LARGEST_DIFFERENCE = 1e-4  # between Keras's probabilities and those of the exported file
_SLACK = 1 + 1e-4  # the file measures in float32: the picture that sets the bound is to stay within it


def main() -> None:
    settings = params.load()
    name = params.network_name("export", sys.argv[1:], params.NETWORKS)
    if optional.is_empty(MODELS / f"{name}.keras"):
        optional.leave_empty(MODELS / f"{name}.onnx", METRICS / f"export_{name}.json")
        say(f"{name} was not trained")
    else:
        export(name, settings.evaluate.coverage)


def export(name: NetworkName, coverage: float) -> None:
    """Exports a network, and measures with the exported file what its card says."""
    network, artists = networks.load(MODELS / f"{name}.keras")
    side = network.input_shape[1]
    val = dataset.seen_by(side, RESIZED / "val", SPLIT / "val", artists)
    originals = dataset.seen_by(side, RESIZED / "train", SPLIT / "train", artists, names_of_originals())
    model = exporting.export(network)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    trained, _ = measured(session, originals)
    features, logits = measured(session, val)
    difference = largest_difference(network, val, logits)
    if not difference <= _LARGEST_DIFFERENCE:
        raise UserError(f"{name}: the exported file's probabilities differ from Keras's by {difference:.1e} on val.")
    mean, matrix = metrics.whitening(trained.astype(np.float64))
    strangeness = np.linalg.norm((features - mean) @ matrix, axis=1)
    card = Card(
        network=name,
        data=outputs.read_json(FETCHED)["source"],
        artists=artists,
        temperature=metrics.fit_temperature(val.labels, logits),
        coverage=coverage,
        strangest=metrics.bound_of(strangeness, coverage) * _SLACK,
        trained=[resized_name(path) for path in originals.paths],
    )
    with outputs.whole_file(MODELS / f"{name}.onnx") as partial:
        partial.write_bytes(exporting.complete(model, trained, (mean, matrix), card))
    outputs.write_json(METRICS / f"export_{name}.json", facts(val, logits, card))
    say(f"{name}: {MODELS / name}.onnx, temperature {card.temperature:.2f}, agrees with Keras to {difference:.0e}")


def names_of_originals() -> set[str]:
    """The training pictures that are no copies, by their names in data/resized/train."""
    return {resized_name(path) for path in paintings.listing(SPLIT / "train")}


def resized_name(path: str) -> str:
    """What a picture of data/split is called in data/resized."""
    return Path(path).with_suffix(".jpg").as_posix()


def measured(session: onnxruntime.InferenceSession, pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Every picture's features (n, channels) float32 and logits (n, artists) float64."""
    parts = [session.run(["features", "logits"], {"picture": batch}) for batch in pictures.batches()]
    features, logits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return features, logits.astype(np.float64)


def largest_difference(network: keras.Model, pictures: Pictures, logits: np.ndarray) -> float:
    """The largest difference between a probability by Keras and the same by the exported file."""
    by_keras = [network.predict_on_batch(batch) for batch in pictures.batches()]
    return float(np.abs(np.concatenate(by_keras) - prediction.softmax(logits)).max())


def facts(val: Pictures, logits: np.ndarray, card: Card) -> dict[str, float]:
    """The content of metrics/export_redN.json."""
    before, after = prediction.softmax(logits), prediction.softmax(logits / card.temperature)
    return {
        "temperature": round(card.temperature, 6),
        "val_loss_before": round(metrics.cross_entropy(val.labels, before), 6),
        "val_loss_after": round(metrics.cross_entropy(val.labels, after), 6),
        "strangest": round(card.strangest, 6),
    }


if __name__ == "__main__":
    run_stage(main)
