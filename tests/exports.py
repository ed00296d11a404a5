"""Networks as .onnx files, without a training before."""

from pathlib import Path
from typing import Any

import numpy as np

from redarte.inference import export
from redarte.inference.predictor import Metadata, Predictor
from redarte.networks.base import Decomposition
from redarte.training import calibration
from redarte.training.backend import keras


def metadata(**changes: Any) -> Metadata:
    """What an .onnx file of a network with three artists says of itself."""
    values: dict[str, Any] = {
        "network": "red1",
        "description": "A network.",
        "license": "mit",
        "data": "sample",
        "jpeg_quality": None,
        "artists": ["Ana", "Bente", "Cleo"],
        "val_accuracy": 0.5,
        "temperature": 2.0,
        "coverage": 0.9,
        "ood_threshold": 50.0,
        "trained": ["Ana/1.jpg", "Cleo/2.jpg"],
    }
    return Metadata(**values | changes)


def exported(network: keras.Model, parts: Decomposition, path: Path, **changes: Any) -> Predictor:
    """A network as an .onnx file; it remembers made-up training pictures."""
    said = metadata(**changes)
    model = export.export(network.input_shape[1], parts)
    features = parts.forward(np.zeros((1, *network.input_shape[1:]), np.float32))[2].shape[1]
    trained = np.random.default_rng(0).random((len(said.trained), features), np.float32)
    path.write_bytes(export.complete(model, trained, *calibration.whitening(trained), said))
    return Predictor(path)
