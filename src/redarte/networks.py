"""Red 1, Red 2 and Red 3, as the study published them (its figures 13 to 15).

Three blocks of 3×3 "same" convolutions (32, 64 and 128 filters, ReLU), each followed by 2×2 max pooling;
Flatten; one dense layer with a softmax over the artists. Red 2 is Red 1 with an L1L2 penalty on its
kernels; Red 3 has a second 64-filter convolution. The study says that pictures are 224×224 while its
figures show 244×244: any side of 8 px or more works.

The one layer that the figures do not show divides 0–255 by 255. It has no parameters, and is inside the
network so that a saved network needs nothing beside it: pictures go in as they are.
"""

import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import redarte.layers  # noqa: F401 - Keras learns of them by it
from redarte import outputs
from redarte.backend import keras
from redarte.console import progress
from redarte.dataset import Pictures
from redarte.errors import UserError, first_line
from redarte.params import Network, StudyName

_FILTERS: dict[StudyName, tuple[tuple[int, ...], ...]] = {
    "red1": ((32,), (64,), (128,)),
    "red2": ((32,), (64,), (128,)),
    "red3": ((32,), (64, 64), (128,)),
}
_ARTISTS = "artists.json"
# The first moment that a zip can name: the real one would change the bytes of the same network.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def build(name: StudyName, side: int, artists: int, penalty: Network, precision: str = "float32") -> keras.Sequential:
    """Builds one of the study's networks, with new random weights.

    Args:
        name: red1, red2 or red3.
        side: of the square pictures, in px; 8 or more.
        artists: the number of classes.
        penalty: the L1L2 penalty on every kernel; all zero for none.
        precision: a Keras dtype policy; the dense layer and its softmax stay float32 under each.

    Returns:
        A network that takes RGB pictures of shape (batch, side, side, 3) with values of 0 to 255 and gives
        probabilities of shape (batch, artists), float32.
    """

    def regularizer() -> keras.Regularizer | None:
        return keras.regularizers.L1L2(penalty.l1, penalty.l2) if penalty.l1 or penalty.l2 else None

    layers: list[keras.Layer] = [
        keras.Input((side, side, 3), name="picture"),
        keras.layers.Rescaling(1 / 255, dtype=precision, name="rescaling"),
    ]
    for block, convolutions in enumerate(_FILTERS[name], start=1):
        for number, filters in enumerate(convolutions, start=1):
            layers.append(
                keras.layers.Conv2D(
                    filters, 3, padding="same", activation="relu", kernel_regularizer=regularizer(),
                    dtype=precision, name=f"conv{block}_{number}",
                )
            )  # fmt: skip
        layers.append(keras.layers.MaxPooling2D(2, dtype=precision, name=f"pool{block}"))
    layers += [
        keras.layers.Flatten(dtype=precision, name="flatten"),
        keras.layers.Dense(
            artists, activation="softmax", kernel_regularizer=regularizer(), dtype="float32", name="artists"
        ),
    ]
    return keras.Sequential(layers, name=name)


def save(network: keras.Model, artists: list[str], path: Path) -> None:
    """Saves a network and the names of its classes in one .keras file.

    The same network gives the same bytes: Keras writes the time into its file, and that is taken out.

    Args:
        network: with as many outputs as there are artists.
        artists: the classes, in the order of the outputs.
        path: ends in .keras.
    """
    with tempfile.TemporaryDirectory() as scratch, outputs.whole_file(path) as partial:
        written = Path(scratch, "network.keras")
        network.save(written)
        with zipfile.ZipFile(written) as source, zipfile.ZipFile(partial, "w") as target:
            for name in sorted(source.namelist()):
                data = source.read(name)
                if name == "metadata.json":
                    data = json.dumps({**json.loads(data), "date_saved": ""}).encode()
                target.writestr(zipfile.ZipInfo(name, _NO_TIME), data)
            names = json.dumps(artists, ensure_ascii=False).encode()
            target.writestr(zipfile.ZipInfo(_ARTISTS, _NO_TIME), names)


def answers(network: keras.Model, pictures: Pictures, title: str) -> Iterator[np.ndarray]:
    """What a network gives for one picture after the other, shown as `title` while it takes long."""
    each = (answer for batch in pictures.batches() for answer in network.predict_on_batch(batch))
    return progress(each, len(pictures), title)


def load(path: Path) -> tuple[keras.Model, list[str]]:
    """Loads what `save` wrote, in Keras's safe mode.

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
