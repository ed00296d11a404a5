"""The interface that all models share, and predictions for many images. `files` saves and loads them.

A model is one file of this package with

    DESCRIPTION: str    what it is, for the model card
    LICENSE: str        of its weights, as Hugging Face writes it
    READS_RESIZED: bool whether its images are those of data/resized; else they are the originals
    load_data(settings) -> train, val
    fit(name, settings, train, val, history_file) -> Trained
    decompose(model) -> Decomposition

and an entry in `params.REGISTRY`. docs/new-model.md adds one.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np

from redarte.devices.backend import keras
from redarte.images.dataset import Dataset
from redarte.params import REGISTRY, Params
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError

if TYPE_CHECKING:
    # The code that trains is imported only by the stages that train.
    from redarte.training.loop import Trained


class Parts(NamedTuple):
    """What `Decomposition.forward` computes: tensors for n images.

    Attributes:
        feature_maps: (n, rows, columns, channels).
        inputs: of the last layer, (n, features): each is the sum of the feature maps over the positions that share a
            weight.
        embedding: (n, features), for the similarity of images.
        moments: (n, features), the output of the layer `moments`, from which inputs and embedding are computed; None
            for a model without this layer.
    """

    feature_maps: Any
    inputs: Any
    embedding: Any
    moments: Any = None


@dataclass(frozen=True)
class Decomposition:
    """A model, split at its last layer: logits are features of spatial positions, summed with weights.

    Attributes:
        forward: maps images (n, side, side, 3) float32, 0 to 255, to its parts.
        kernel: of the last layer, (features, artists), float32.
        bias: of the last layer, (artists,), float32.
        shape: rows, columns and channels of the kernel; 1 row and 1 column where all positions share their weights.
        trunk: a hash of the layers up to the moments; None for a model without a layer `moments`.
        descriptor: a hash of the layers up to the descriptor, the inputs of the last layer; None as for the trunk.
    """

    forward: Callable[[Any], Parts]
    kernel: np.ndarray
    bias: np.ndarray
    shape: tuple[int, ...]
    trunk: str | None = None
    descriptor: str | None = None


class ModelInterface(Protocol):
    """The interface of a model's module."""

    DESCRIPTION: str
    LICENSE: str
    READS_RESIZED: bool

    def load_data(self, settings: Params) -> tuple[Dataset, Dataset]:
        """Returns the training and the validation images."""

    def fit(self, name: str, settings: Params, train: Dataset, val: Dataset, history_file: Path) -> "Trained":
        """Trains the model on the images of `load_data`; `history_file` is for `training.loop.train`.

        Raises:
            UserError: the training fails.
        """

    def decompose(self, model: keras.Model) -> Decomposition:
        """Splits a trained model at its last layer, for export and evidence maps."""


def module(name: str) -> ModelInterface:
    """Returns the module of a model by its name in `params.REGISTRY`; refuses one without the whole interface."""
    found = importlib.import_module(f"redarte.models.{REGISTRY[name]}")
    parts = ("DESCRIPTION", "LICENSE", "READS_RESIZED", "load_data", "fit", "decompose")
    missing = [part for part in parts if not hasattr(found, part)]
    if missing:
        raise UserError(
            f"src/redarte/models/{REGISTRY[name]}.py lacks {', '.join(missing)} of a model's interface "
            "(docs/new-model.md)."
        )
    return cast(ModelInterface, found)


def name_argument(stage: str, arguments: list[str], settings: Params) -> str:
    """Returns the model that a stage's command names in its single argument."""
    if len(arguments) == 1 and arguments[0] in settings.trained_models:
        return arguments[0]
    raise UserError(f"{stage} takes the name of one model: {', '.join(settings.trained_models)}.")


def predict(model: keras.Model, dataset: Dataset, label: str) -> Iterator[np.ndarray]:
    """Yields a model's output for one image after the other, without its batch dimension, with progress."""
    each = (output for batch in dataset.batches() for output in model.predict_on_batch(batch))
    return progress(each, len(dataset), label)
