"""Backbones of keras.applications, with their ImageNet weights."""

import difflib
import inspect
import sys
import time
from pathlib import Path

from redarte.devices.backend import keras
from redarte.models.backbones.common import load_weights, wrong_size
from redarte.params import Finetuned
from redarte.runtime.cache import keras_weights
from redarte.runtime.errors import UserError, first_line

_HDF5 = b"\x89HDF\r\n\x1a\n"  # the signature of a file of weights


def load(settings: Finetuned) -> keras.Model:
    """Builds a backbone by its name."""
    names = [name for name in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, name))]
    name, side = settings.backbone, settings.input_size
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"it can be {', '.join(names)}, or a .keras file."
        raise UserError(f"params.yaml: finetuned.backbone is {name!r}, which keras.applications does not have; {hint}")
    make = getattr(keras.applications, name)
    image = keras.Input((side, side, 3), name="image")
    preprocesses = "include_preprocessing" in inspect.signature(make).parameters
    # Each family's module has the preprocessing that its weights were trained with.
    scaled = image if preprocesses else sys.modules[make.__module__].preprocess_input(image)
    weights = "imagenet" if settings.weights == "imagenet" else None
    started = time.time() - 2  # file systems round
    try:
        backbone: keras.Model = make(
            include_top=False, weights=weights, input_shape=(side, side, 3), input_tensor=scaled
        )
    except Exception as error:
        # keras.utils.get_file raises a bare Exception.
        is_offline = "URL fetch failure" in str(error)
        corrupt = _corrupt_download(error, started) if weights and not is_offline else None
        if corrupt is not None:
            raise UserError(
                f"the ImageNet weights of {settings.backbone} cannot be downloaded: {corrupt} is not what Keras "
                "published (often the login page of a network). Delete the file, log in to the network and run this "
                "again, or set finetuned.weights to a file of weights."
            ) from None
        if weights and isinstance(error, OSError):
            raise UserError(
                f"the ImageNet weights of {settings.backbone} cannot be stored in {keras_weights()} "
                f"({first_line(error)}): free some space or check the network, and run this again."
            ) from None
        if isinstance(error, ValueError):
            raise UserError(wrong_size(settings, error)) from None
        if not is_offline:
            raise
        address = str(error).split(" on ", 1)[-1].split(": ", 1)[0]
        raise UserError(
            f"the ImageNet weights of {settings.backbone} cannot be downloaded from {address}: go online once, or "
            "copy the file to this machine and set finetuned.weights to it, or set finetuned.backbone to a .keras file."
        ) from None
    if settings.weights not in ("imagenet", "none"):
        load_weights(backbone, Path(settings.weights).expanduser())
    return backbone


def _corrupt_download(error: Exception, started: float) -> Path | None:
    """A file of Keras that is no HDF5, or that this call has downloaded and Keras refuses; None where there is none."""
    files = sorted(keras_weights().glob("*.h5"), key=lambda file: file.stat().st_mtime, reverse=True)
    is_refused = "Incomplete or corrupted file" in str(error)
    for path in files:
        with path.open("rb") as file:
            if file.read(len(_HDF5)) != _HDF5 or (is_refused and path.stat().st_mtime >= started):
                return path
    return None
