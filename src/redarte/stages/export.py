"""export@… and export_beyond@…: a trained network -> one ONNX file that answers with calibrated probabilities.

`python -m redarte.stages.export red1`: the one argument is the network's name.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

# An export traces a network's graph, which of Keras's backends TensorFlow alone has here, whatever trained it.
os.environ["KERAS_BACKEND"] = "tensorflow"

from redarte import params
from redarte.inference import export
from redarte.inference.predictor import Metadata, softmax
from redarte.networks import base
from redarte.pictures import images
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say
from redarte.runtime.errors import UserError
from redarte.training import calibration, dataset
from redarte.training.backend import keras
from redarte.training.dataset import Pictures

ORIGINALS = Path("data/split/train")
MODELS = Path("models")
METRICS = Path("metrics")
_LARGEST_DIFFERENCE = 1e-4  # between Keras's probabilities and those of the exported file
_SLACK = 1 + 1e-4  # the file measures in float32: the picture that sets the threshold is to stay within it


def main() -> None:
    settings = params.load()
    name = base.named_by("export", sys.argv[1:], settings)
    module = base.module(name)
    network, artists = base.load(MODELS / f"{name}.keras")
    side = network.input_shape[1]
    jpeg_quality = settings.resize.quality if module.READS_RESIZED else None
    val = dataset.load((dataset.RESIZED if module.READS_RESIZED else dataset.SPLIT) / "val", artists, side)
    model = export.export(side, module.decompose(network))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    trained = embeddings(name, session, lambda: dataset.load(ORIGINALS, artists, side, jpeg_quality))
    known = np.stack(list(trained.values()))
    features, logits = measure(session, val)
    difference = largest_difference(network, val, logits)
    if not difference <= _LARGEST_DIFFERENCE:
        raise UserError(f"{name}: the exported file's probabilities differ from Keras's by {difference:.1e} on val.")
    mean, whitening = calibration.whitening(known.astype(np.float64))
    scores = np.linalg.norm((features - mean) @ whitening, axis=1)
    metadata = Metadata(
        network=name,
        description=module.DESCRIPTION,
        license=module.LICENSE,
        data=settings.fetch.source,
        jpeg_quality=jpeg_quality,
        artists=artists,
        val_accuracy=float(np.mean(logits.argmax(axis=1) == val.labels)),
        temperature=calibration.fit_temperature(val.labels, logits),
        coverage=settings.evaluate.coverage,
        ood_threshold=calibration.threshold(scores, settings.evaluate.coverage) * _SLACK,
        trained=list(trained),
    )
    with outputs.atomic_file(MODELS / f"{name}.onnx") as partial:
        partial.write_bytes(export.complete(model, known, mean, whitening, metadata))
    outputs.write_json(METRICS / f"export_{name}.json", facts(val, logits, metadata))
    say(f"{name}: {MODELS / name}.onnx, temperature {metadata.temperature:.2f}, agrees with Keras to {difference:.0e}")


def embeddings(
    name: str, session: onnxruntime.InferenceSession, originals: Callable[[], Pictures]
) -> dict[str, np.ndarray]:
    """The embeddings of the training pictures that are no copies, (features,) float32 each, by "<artist>/<stem>.jpg".

    A network that was fitted to features of a backbone brings them along, and the backbone need not see all the
    pictures once more; those of others are computed, of the originals, as `redarte predict` sees a picture.
    """
    names = [Path(path).with_suffix(".jpg").as_posix() for path in images.list_images(ORIGINALS)]
    brought = base.load_embeddings(MODELS / f"{name}.keras")
    if set(names) <= set(brought):
        return {path: brought[path] for path in names}
    return dict(zip(names, measure(session, originals())[0], strict=True))


def measure(session: onnxruntime.InferenceSession, pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Every picture's features (n, features) float32 and logits (n, artists) float64."""
    parts = [session.run(["features", "logits"], {"picture": batch}) for batch in pictures.batches()]
    features, logits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return features, logits.astype(np.float64)


def largest_difference(network: keras.Model, pictures: Pictures, logits: np.ndarray) -> float:
    """The largest difference between a probability by Keras and the same by the exported file."""
    by_keras = [network.predict_on_batch(batch) for batch in pictures.batches()]
    return float(np.abs(np.concatenate(by_keras) - softmax(logits)).max())


def facts(val: Pictures, logits: np.ndarray, metadata: Metadata) -> dict[str, float]:
    """The content of metrics/export_<network>.json."""
    return {
        "val_accuracy": round(metadata.val_accuracy, 6),
        "temperature": round(metadata.temperature, 6),
        "val_loss_before": round(calibration.cross_entropy(val.labels, logits), 6),
        "val_loss_after": round(calibration.cross_entropy(val.labels, logits / metadata.temperature), 6),
        "ood_threshold": round(metadata.ood_threshold, 6),
    }


if __name__ == "__main__":
    run_stage(main)
