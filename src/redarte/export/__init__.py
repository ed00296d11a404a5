"""Exports a trained model: calibrates it on val, and checks the exported file against Keras."""

from pathlib import Path

import numpy as np
import onnxruntime

from redarte.devices.backend import keras
from redarte.evaluation import metrics
from redarte.export import calibration, onnx
from redarte.images import dataset, folders
from redarte.images.dataset import Dataset
from redarte.inference.features import MOMENTS, Graph
from redarte.inference.predictor import Metadata, softmax
from redarte.models import base
from redarte.models.base import files as saved
from redarte.params import Params
from redarte.runtime import paths
from redarte.runtime.errors import UserError

_MAX_DIFFERENCE = 1e-4  # between Keras's probabilities and those of the exported file
_SLACK = 1 + 1e-4  # the file computes in float32: the image that defines the threshold must not exceed it


def export_model(name: str, settings: Params, file: Path) -> tuple[bytes, Metadata, dict[str, float]]:
    """Exports one model."""
    module = base.module(name)
    model, artists = saved.load(file)
    side = model.input_shape[1]
    jpeg_quality = settings.resize.quality if module.READS_RESIZED else None
    images = paths.RESIZED if module.READS_RESIZED else paths.SPLIT
    parts = module.decompose(model)
    val = dataset.load(images / "val", artists, side, decode=parts.trunk is None)
    proto = onnx.convert(side, parts)
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    graph = Graph(content, session, parts.trunk, parts.descriptor)
    embeddings = _training_embeddings(file, graph, artists, side, images / "train")
    known = np.stack(list(embeddings.values()))
    features, logits = graph.outputs(["features", "logits"], val, f"{name}, val")
    logits = logits.astype(np.float64)
    difference = float(np.abs(_probabilities(model, val, parts.trunk is not None) - softmax(logits)).max())
    if not difference <= _MAX_DIFFERENCE:
        raise UserError(f"{name}: the exported file's probabilities differ from Keras's by {difference:.1e} on val.")
    mean, whitening = calibration.whitening(known.astype(np.float64))
    scores = np.linalg.norm((features - mean) @ whitening, axis=1)
    metadata = Metadata(
        model=name,
        description=module.DESCRIPTION,
        license=module.LICENSE,
        data=settings.fetch.source,
        jpeg_quality=jpeg_quality,
        artists=artists,
        val_accuracy=metrics.accuracy(val.labels, logits),
        temperature=metrics.fit_temperature(val.labels, logits),
        coverage=settings.export.coverage,
        ood_threshold=calibration.threshold(scores, settings.export.coverage) * _SLACK,
        training_images=list(embeddings),
        trunk=parts.trunk,
        descriptor=parts.descriptor,
    )
    facts = {
        "val_accuracy": metadata.val_accuracy,
        "temperature": metadata.temperature,
        "val_loss_before": metrics.cross_entropy(val.labels, logits),
        "val_loss_after": metrics.cross_entropy(val.labels, logits / metadata.temperature),
        "ood_threshold": metadata.ood_threshold,
    }
    completed = onnx.complete(proto, known, mean, whitening, metadata)
    return completed, metadata, {name: round(value, 6) for name, value in facts.items()}


def _probabilities(model: keras.Model, images: Dataset, has_moments: bool) -> np.ndarray:
    """Keras's probabilities for all images: (n, artists), float32."""
    if not has_moments:
        return np.concatenate([model.predict_on_batch(batch) for batch in images.batches()])
    # The code of backbones does not decide the other models' files.
    from redarte.models import frozen

    rest = keras.Model(model.get_layer(MOMENTS).output, model.output)
    return np.concatenate(
        [rest.predict_on_batch(group)[:count] for group, count in frozen.moments(model, images, "val, by Keras")]
    )


def _training_embeddings(
    file: Path, graph: Graph, artists: list[str], side: int, folder: Path
) -> dict[str, np.ndarray]:
    """The embeddings of the training images without their copies, by identity: (features,), float32, each.

    A model that was fitted to computed features has stored them in its file.
    """
    ids = [image_id for image_id in dataset.image_files(folder) if not folders.is_copy(image_id)]
    stored = saved.load_embeddings(file)
    if set(ids) <= set(stored):
        return {image_id: stored[image_id] for image_id in ids}
    images = dataset.load(folder, artists, side, with_copies=False, decode=False)
    return dict(zip(ids, graph.outputs(["features"], images, "embeddings")[0], strict=True))
