"""Files of trained models: a .keras file with the names of the classes."""

import importlib
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from redarte.devices.backend import keras
from redarte.images import folders
from redarte.images.dataset import Dataset
from redarte.runtime import outputs
from redarte.runtime.errors import UserError, first_line

_ARTISTS = "artists.json"
_EMBEDDED, _EMBEDDINGS = "embedded.json", "embeddings.npy"
# The earliest time that a zip can store: the real one would change the bytes of an equal model.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def embeddings_by_id(train: Dataset, embeddings: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the embeddings of the training images without those of the augmented copies.

    Args:
        embeddings: (n, features), float32.

    Returns:
        "<artist>/<stem>" -> (features,).
    """
    pairs = zip(train.ids, embeddings, strict=True)
    return {image_id: embedding for image_id, embedding in pairs if not folders.is_copy(image_id)}


def save(model: keras.Model, artists: list[str], path: Path, embeddings: dict[str, np.ndarray] | None = None) -> None:
    """Saves a model and the names of its classes in one .keras file; equal models give equal bytes.

    Args:
        artists: the classes, in the order of the outputs.
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

    Returns:
        The model and its artists, in the order of its outputs.
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
    """Returns the embeddings that `save` stored in a file; empty where it stored none."""
    with zipfile.ZipFile(path) as file:
        if _EMBEDDED not in file.namelist():
            return {}
        names = json.loads(file.read(_EMBEDDED))
        return dict(zip(names, np.load(io.BytesIO(file.read(_EMBEDDINGS))), strict=True))
