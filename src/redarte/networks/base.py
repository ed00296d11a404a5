"""What all networks share: one interface, one way to save them, and their answers to many pictures.

A network is one file of this folder. It has

    DESCRIPTION: str    what it is, for the model card
    LICENSE: str        of its weights, as Hugging Face writes it
    READS_RESIZED: bool whether its images are those of data/resized; else they are the originals
    pictures(settings) -> train, val
    fit(name, settings, train, val, history_file) -> Trained
    decompose(network) -> Decomposition

docs/new-network.md adds one.
"""

import importlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast

import numpy as np

from redarte.params import STUDY, Params
from redarte.pictures import images
from redarte.runtime import outputs
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError, first_line
from redarte.training.backend import keras
from redarte.training.dataset import Pictures
from redarte.training.loop import Trained

_ARTISTS = "artists.json"
_EMBEDDED, _EMBEDDINGS = "embedded.json", "embeddings.npy"
# The first moment that a zip can name: the real one would change the bytes of the same network.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Decomposition:
    """A network, taken apart at its last layer: logits are features of places, summed up by weights.

    Attributes:
        forward: pictures (n, side, side, 3) float32, 0 to 255 -> feature maps (n, rows, columns, channels); what the
            last layer decides by (n, numbers), which for each channel, or each place and channel, is the sum of the
            feature maps over the places that share a weight; and an embedding (n, features) of what a picture is like.
        kernel, bias: of the last layer: (numbers, artists) and (artists,).
        shape: rows, columns and channels of the kernel; 1 row and 1 column where all places share their weights.
    """

    forward: Callable[[Any], tuple[Any, Any, Any]]
    kernel: np.ndarray
    bias: np.ndarray
    shape: tuple[int, ...]


class NetworkModule(Protocol):
    """The interface of a network's file."""

    DESCRIPTION: str
    LICENSE: str
    READS_RESIZED: bool

    def pictures(self, settings: Params) -> tuple[Pictures, Pictures]:
        """The pictures that it learns from, and those of val."""

    def fit(self, name: str, settings: Params, train: Pictures, val: Pictures, history_file: Path) -> Trained:
        """Trains it."""

    def decompose(self, network: keras.Model) -> Decomposition:
        """Takes a trained one apart, for export and evidence."""


def module(name: str) -> NetworkModule:
    """The file of a network by its name; the study's three share one.

    Raises:
        UserError: it is not a network's file.
    """
    found = importlib.import_module(f"redarte.networks.{'study' if name in STUDY else name}")
    if not all(
        hasattr(found, part) for part in ("DESCRIPTION", "LICENSE", "READS_RESIZED", "pictures", "fit", "decompose")
    ):
        raise UserError(
            f"src/redarte/networks/{name}.py lacks a part of a network's interface (docs/new-network.md); "
            "take its name out of beyond, or write it."
        )
    return cast(NetworkModule, found)


def named_by(stage: str, arguments: list[str], settings: Params) -> str:
    """The network that a stage's command names, by its one argument.

    Raises:
        UserError: none is trained by that name.
    """
    if len(arguments) == 1 and arguments[0] in settings.trained:
        return arguments[0]
    raise UserError(f"{stage} takes the name of one network: {', '.join(settings.trained)}.")


def predict(network: keras.Model, pictures: Pictures, title: str) -> Iterator[np.ndarray]:
    """What a network gives for one picture after the other, with progress under `title`."""
    each = (answer for batch in pictures.batches() for answer in network.predict_on_batch(batch))
    return progress(each, len(pictures), title)


def embedded(train: Pictures, embeddings: np.ndarray) -> dict[str, np.ndarray]:
    """The embeddings of training pictures (n, features), as `Trained` has them: without those of copies."""
    paths = [PurePosixPath(path) for path in train.paths]
    return {
        f"{path.parent.name}/{path.stem}.jpg": embedding
        for path, embedding in zip(paths, embeddings, strict=True)
        if images.COPY_MARK not in path.stem
    }


def save(network: keras.Model, artists: list[str], path: Path, embeddings: dict[str, np.ndarray] | None = None) -> None:
    """Saves a network and the names of its classes in one .keras file.

    The same network gives the same bytes: Keras writes the time into its file, and that is taken out.

    Args:
        network: with as many outputs as there are artists.
        artists: the classes, in the order of the outputs.
        path: ends in .keras.
        embeddings: see `Trained`.
    """
    beside = {_ARTISTS: json.dumps(artists, ensure_ascii=False).encode()}
    if embeddings is not None:
        array = io.BytesIO()
        np.save(array, np.stack(list(embeddings.values())))
        beside |= {_EMBEDDED: json.dumps(list(embeddings), ensure_ascii=False).encode(), _EMBEDDINGS: array.getvalue()}
    with tempfile.TemporaryDirectory() as scratch, outputs.atomic_file(path) as partial:
        written = Path(scratch, "network.keras")
        network.save(written)
        with zipfile.ZipFile(written) as source, zipfile.ZipFile(partial, "w") as target:
            for name in sorted(source.namelist()):
                data = source.read(name)
                if name == "metadata.json":
                    data = json.dumps({**json.loads(data), "date_saved": ""}).encode()
                target.writestr(zipfile.ZipInfo(name, _NO_TIME), data)
            for name, content in beside.items():
                target.writestr(zipfile.ZipInfo(name, _NO_TIME), content)


def load_embeddings(path: Path) -> dict[str, np.ndarray]:
    """The embeddings that `save` was given; none where it was given none."""
    with zipfile.ZipFile(path) as file:
        if _EMBEDDED not in file.namelist():
            return {}
        names = json.loads(file.read(_EMBEDDED))
        return dict(zip(names, np.load(io.BytesIO(file.read(_EMBEDDINGS))), strict=True))


def load(path: Path) -> tuple[keras.Model, list[str]]:
    """Loads what `save` wrote, in Keras's safe mode. Layers of redarte's own must have been imported before.

    Returns:
        The network and its artists, in the order of its outputs.

    Raises:
        UserError: the file is missing, broken, carries code, or was not written by redarte.
    """
    try:
        with zipfile.ZipFile(path) as file:
            artists: list[str] = json.loads(file.read(_ARTISTS))
        return keras.saving.load_model(path, compile=False, safe_mode=True), artists
    except FileNotFoundError:
        raise UserError(f"{path} is missing; train it with `dvc repro`, or bring it with `dvc pull`.") from None
    except Exception as error:
        # A .keras file is a zip of JSON and HDF5: each layer fails in its own way.
        raise UserError(f"{path} is not a network that redarte saved ({first_line(error)}).") from None
