"""What all models share: their interface, saving and loading, and predictions for many images.

A model is one file of this package with

    DESCRIPTION: str    what it is, for the model card
    LICENSE: str        of its weights, as Hugging Face writes it
    READS_RESIZED: bool whether its images are those of data/resized; else they are the originals
    load_data(settings) -> train, val
    fit(name, settings, train, val, history_file) -> Trained
    decompose(model) -> Decomposition

and an entry in `params.MODELS`. docs/new-model.md adds one.
"""

import importlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np

from redarte.devices.backend import keras
from redarte.images.dataset import Dataset
from redarte.images.decoding import folders
from redarte.params import MODELS, Params
from redarte.runtime import outputs
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError, first_line

if TYPE_CHECKING:
    # The code that trains is imported only by the stages that train.
    from redarte.training.loop import Trained

_ARTISTS = "artists.json"
_EMBEDDED, _EMBEDDINGS = "embedded.json", "embeddings.npy"
# The earliest time that a zip can store: the real one would change the bytes of an equal model.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


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
        """Returns the training and the validation images.

        Args:
            settings: params.yaml.
        """

    def fit(self, name: str, settings: Params, train: Dataset, val: Dataset, history_file: Path) -> "Trained":
        """Trains the model.

        Args:
            name: the model's.
            settings: params.yaml.
            train: from `load_data`.
            val: from `load_data`.
            history_file: for `training.loop.train`.

        Returns:
            The trained model, its metrics and history.

        Raises:
            UserError: the training fails.
        """

    def decompose(self, model: keras.Model) -> Decomposition:
        """Splits a trained model at its last layer, for export and evidence maps.

        Args:
            model: as `fit` returned it.

        Returns:
            The parts of the model.
        """


def module(name: str) -> ModelInterface:
    """Imports the module of a model.

    Args:
        name: a key of `params.MODELS`.

    Returns:
        The module.

    Raises:
        UserError: the module does not have the whole interface.
    """
    found = importlib.import_module(f"redarte.models.{MODELS[name]}")
    parts = ("DESCRIPTION", "LICENSE", "READS_RESIZED", "load_data", "fit", "decompose")
    missing = [part for part in parts if not hasattr(found, part)]
    if missing:
        raise UserError(
            f"src/redarte/models/{MODELS[name]}.py lacks {', '.join(missing)} of a model's interface "
            "(docs/new-model.md)."
        )
    return cast(ModelInterface, found)


def name_argument(stage: str, arguments: list[str], settings: Params) -> str:
    """Returns the model that a stage's command names in its single argument.

    Args:
        stage: the stage's name, for the message.
        arguments: of the command.
        settings: params.yaml.

    Raises:
        UserError: there is not one argument, or no model of this name is trained.
    """
    if len(arguments) == 1 and arguments[0] in settings.trained_models:
        return arguments[0]
    raise UserError(f"{stage} takes the name of one model: {', '.join(settings.trained_models)}.")


def predict(model: keras.Model, dataset: Dataset, label: str) -> Iterator[np.ndarray]:
    """Yields a model's output for one image after the other, with progress.

    Args:
        model: any Keras model with one output.
        dataset: the images.
        label: the text of the progress bar.

    Yields:
        The output without its batch dimension.
    """
    each = (output for batch in dataset.batches() for output in model.predict_on_batch(batch))
    return progress(each, len(dataset), label)


def embeddings_by_id(train: Dataset, embeddings: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the embeddings of the training images without those of the augmented copies.

    Args:
        train: n training images.
        embeddings: (n, features), float32.

    Returns:
        "<artist>/<stem>" -> (features,).
    """
    pairs = zip(train.ids, embeddings, strict=True)
    return {image_id: embedding for image_id, embedding in pairs if not folders.is_copy(image_id)}


def save(model: keras.Model, artists: list[str], path: Path, embeddings: dict[str, np.ndarray] | None = None) -> None:
    """Saves a model and the names of its classes in one .keras file; equal models give equal bytes.

    Args:
        model: has one output for each artist.
        artists: the classes, in the order of the outputs.
        path: ends in .keras.
        embeddings: see `training.loop.Trained`.
    """
    extra = {_ARTISTS: json.dumps(artists, ensure_ascii=False).encode()}
    if embeddings is not None:
        array = io.BytesIO()
        np.save(array, np.stack(list(embeddings.values())))
        extra |= {_EMBEDDED: json.dumps(list(embeddings), ensure_ascii=False).encode(), _EMBEDDINGS: array.getvalue()}
    with tempfile.TemporaryDirectory() as scratch, outputs.atomic_file(path) as partial:
        written = Path(scratch, "model.keras")
        model.save(written)
        with zipfile.ZipFile(written) as source, zipfile.ZipFile(partial, "w") as target:
            for name in sorted(source.namelist()):
                data = source.read(name)
                if name == "metadata.json":
                    data = json.dumps({**json.loads(data), "date_saved": ""}).encode()
                target.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), data)
            for name, content in extra.items():
                target.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), content)


def load(path: Path) -> tuple[keras.Model, list[str]]:
    """Loads a file that `save` wrote, in Keras's safe mode. The modules of its custom layers must be imported before.

    Args:
        path: a .keras file.

    Returns:
        The model and its artists, in the order of its outputs.

    Raises:
        UserError: the file is missing, corrupt, contains code, or was not written by redarte.
    """
    try:
        with zipfile.ZipFile(path) as file:
            artists: list[str] = json.loads(file.read(_ARTISTS))
            if b'"keras_hub' in file.read("config.json"):
                importlib.import_module("keras_hub")  # registers its layers
        return keras.saving.load_model(path, compile=False, safe_mode=True), artists
    except FileNotFoundError:
        raise UserError(f"{path} is missing; train the model with `dvc repro`, or get it with `dvc pull`.") from None
    except ModuleNotFoundError as error:
        raise UserError(f"{path} needs the package {error.name}; type: python -m pip install 'redarte[hub]'") from None
    except Exception as error:
        # A .keras file is a zip of JSON and HDF5: each layer raises its own exceptions.
        raise UserError(f"{path} is not a model that redarte saved ({first_line(error)}).") from None


def load_embeddings(path: Path) -> dict[str, np.ndarray]:
    """Returns the embeddings that `save` stored in a file; empty where it stored none.

    Args:
        path: a .keras file.
    """
    with zipfile.ZipFile(path) as file:
        if _EMBEDDED not in file.namelist():
            return {}
        names = json.loads(file.read(_EMBEDDED))
        return dict(zip(names, np.load(io.BytesIO(file.read(_EMBEDDINGS))), strict=True))
