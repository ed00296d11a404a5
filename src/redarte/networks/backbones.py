"""Backbones of `finetuned`, which others trained: of keras.applications, or a .keras file.

Each takes pictures of 0 to 255 as they are: what it was trained with (divided by 255, from -1 to 1, less the mean of
ImageNet and in BGR) is part of it.
"""

import difflib
import hashlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from redarte.params import Finetuned
from redarte.runtime.errors import UserError, first_line
from redarte.training.backend import keras

_KERAS = ".keras"
_HDF5 = b"\x89HDF\r\n\x1a\n"  # how such a file begins


def load(settings: Finetuned) -> keras.Model:
    """Builds the backbone of the section `finetuned`.

    Returns:
        A functional model that takes (batch, side, side, 3) pictures of 0 to 255, with `finetuned.input_size` as the
        side, and gives the feature maps before any pooling: (batch, rows, columns, channels). Its weights are
        frozen.

    Raises:
        UserError: there is no such backbone, its file is none that can be used, its weights cannot be had, or it cannot
            take pictures of this size.
    """
    from_file = settings.backbone.endswith(_KERAS)
    backbone = _resized(_from_file(settings), settings) if from_file else _from_applications(settings)
    if not _is_map(backbone.output):
        raise UserError(_cannot_take(settings, "nothing is left of them at its output"))
    if any(getattr(layer, "groups", 1) > 1 for layer in backbone.layers):
        # Keras compiles these by XLA, which tf2onnx 1.17 does not follow: better said before the training than after.
        raise UserError(
            f"{settings.backbone} (finetuned.backbone) has grouped convolutions, as every ConvNeXt has, and cannot be "
            "exported to ONNX: set it to another."
        )
    backbone.trainable = False
    return backbone


def feature_maps(backbone: keras.Model) -> list[Any]:
    """The feature maps of a backbone: its output, and the last at the next finer resolution.

    What tells painters apart is not only in the last layers, which know objects: on the 50 artists, the mean and the
    standard deviation at the finer one recognise as many pictures as those of the output, and both together more.

    Returns:
        Two tensors (batch, rows, columns, channels), the finer first; one where the backbone has but one resolution.
    """
    coarse = backbone.output
    finer = [
        layer.output
        for layer in backbone.layers
        # A border of zeros says nothing of the picture.
        if not isinstance(layer, keras.layers.ZeroPadding2D)
        and _is_map(layer.output)
        and layer.output.shape[1] > coarse.shape[1]
    ]
    if not finer:
        return [coarse]
    rows = min(tensor.shape[1] for tensor in finer)
    return [[tensor for tensor in finer if tensor.shape[1] == rows][-1], coarse]


def digest(model: keras.Model) -> str:
    """A hash of all the weights of a network."""
    hashed = hashlib.blake2b(digest_size=16)
    for weight in model.get_weights():
        hashed.update(weight.tobytes())
    return hashed.hexdigest()


def _from_applications(settings: Finetuned) -> keras.Model:
    names = [name for name in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, name))]
    name, side = settings.backbone, settings.input_size
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        guess = f"did you mean {near[0]}?" if near else f"it can be {', '.join(names)}, or a .keras file."
        raise UserError(f"params.yaml: finetuned.backbone is {name!r}, which keras.applications does not have; {guess}")
    make = getattr(keras.applications, name)
    picture = keras.Input((side, side, 3), name="picture")
    has_own = "include_preprocessing" in inspect.signature(make).parameters
    # Each family's module has the preprocessing that its weights were trained with.
    scaled = picture if has_own else sys.modules[make.__module__].preprocess_input(picture)
    weights = "imagenet" if settings.weights == "imagenet" else None
    try:
        backbone: keras.Model = make(
            include_top=False, weights=weights, input_shape=(side, side, 3), input_tensor=scaled
        )
    except Exception as error:
        # keras.utils.get_file raises a bare Exception.
        is_offline = "URL fetch failure" in str(error)
        broken = _broken_weights(error) if weights and not is_offline else None
        if broken is not None:
            broken.unlink(missing_ok=True)
            raise UserError(
                f"the ImageNet weights of {settings.backbone} cannot be downloaded: {broken} is not what Keras "
                "published (often the login page of a network) and was deleted. Log in to the network and run it "
                "again, or set finetuned.weights to a file of weights."
            ) from None
        if isinstance(error, ValueError):
            raise UserError(_cannot_take(settings, error)) from None
        if not is_offline:
            raise
        address = str(error).split(" on ", 1)[-1].split(": ", 1)[0]
        raise UserError(
            f"the ImageNet weights of {settings.backbone} cannot be downloaded from {address}: go online once, or "
            "bring that file here and set finetuned.weights to it, or set finetuned.backbone to a .keras file."
        ) from None
    if settings.weights not in ("imagenet", "none"):
        _put_weights(backbone, Path(settings.weights).expanduser())
    return backbone


def _broken_weights(error: Exception) -> Path | None:
    """The file that Keras downloaded last, where it is not what was published; None where the error is another."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models")
    files = sorted(home.glob("*.h5"), key=lambda file: file.stat().st_mtime)
    if not files:
        return None
    with files[-1].open("rb") as file:
        is_hdf5 = file.read(len(_HDF5)) == _HDF5
    refused = "Incomplete or corrupted file" in str(error) or isinstance(error, OSError)
    return files[-1] if refused or not is_hdf5 else None


def _put_weights(backbone: keras.Model, path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} (finetuned.weights) is not there; set it to imagenet, none or a file of weights.")
    try:
        backbone.load_weights(path)
    except Exception as error:
        # HDF5 and Keras each raise kinds of their own.
        raise UserError(
            f"{path} (finetuned.weights) does not hold the weights of {backbone.name} without its top "
            f"({first_line(error)})."
        ) from None


def _from_file(settings: Finetuned) -> keras.Model:
    path = Path(settings.backbone).expanduser()
    if not path.is_file():
        raise UserError(f"{path} (finetuned.backbone) is not there; set it to a .keras file or a name.")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # A .keras file is a zip of JSON and HDF5: each layer fails in its own way, and safe mode in its own.
        raise UserError(
            f"{path} (finetuned.backbone) cannot be loaded: it is broken, or carries code of its own, which is never "
            f"run ({first_line(error)})."
        ) from None
    shape = getattr(model, "input_shape", None)
    if not isinstance(model, keras.Model) or not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3:
        raise UserError(f"{path} (finetuned.backbone) does not take RGB pictures, of shape (batch, side, side, 3).")
    maps = [layer.output for layer in model.layers[1:] if _is_map(layer.output)]
    if not maps:
        raise UserError(f"{path} (finetuned.backbone) is no feature extractor: none of its layers has feature maps.")
    return keras.Model(model.inputs[0], maps[-1], name=model.name)


def _resized(backbone: keras.Model, settings: Finetuned) -> keras.Model:
    """The same layers and weights for pictures of another size, with every layer in sight."""
    side = settings.input_size
    picture = keras.Input((side, side, 3), name="picture")
    try:
        resized = keras.models.clone_model(backbone, input_tensors=picture)
        resized.set_weights(backbone.get_weights())
    except Exception as error:
        raise UserError(_cannot_take(settings, error)) from None
    return resized


def _is_map(tensor: Any) -> bool:
    """Whether a layer's output is a feature map, with more places than one."""
    shape: tuple[int | None, ...] = tuple(getattr(tensor, "shape", ()))
    return len(shape) == 4 and shape[1] != 1


def _cannot_take(settings: Finetuned, reason: object) -> str:
    return (
        f"{settings.backbone} (finetuned.backbone) cannot take pictures of {settings.input_size} px: set "
        f"finetuned.input_size to another size ({first_line(reason)})."
    )
