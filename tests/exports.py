"""Models as .onnx files, without a training before."""

from pathlib import Path
from typing import Any

import numpy as np

from redarte.devices.backend import keras
from redarte.export import calibration
from redarte.export import onnx as export
from redarte.inference.predictor import Metadata, Predictor
from redarte.models.base import Decomposition


def metadata(**changes: Any) -> Metadata:
    """The metadata of an .onnx file of a model with three artists."""
    values: dict[str, Any] = {
        "model": "red1",
        "description": "A model.",
        "license": "mit",
        "data": "sample",
        "jpeg_quality": None,
        "artists": ["Ana", "Bente", "Cleo"],
        "val_accuracy": 0.5,
        "temperature": 2.0,
        "coverage": 0.9,
        "ood_threshold": 50.0,
        "training_images": ["Ana/1", "Cleo/2"],
    }
    return Metadata(**values | changes)


def exported(model: keras.Model, parts: Decomposition, path: Path, **changes: Any) -> Predictor:
    """A model as an .onnx file; it remembers made-up training images."""
    printed = metadata(**changes)
    proto = export.convert(model.input_shape[1], parts)
    features = parts.forward(np.zeros((1, *model.input_shape[1:]), np.float32))[2].shape[1]
    trained = np.random.default_rng(0).random((len(printed.training_images), features), np.float32)
    path.write_bytes(export.complete(proto, trained, *calibration.whitening(trained), printed))
    return Predictor(path)
