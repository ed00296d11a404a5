"""Pretrained backbones for `finetuned`: from keras.applications, or a .keras file.

Each takes images of 0 to 255 as they are: the preprocessing that it was trained with (division by 255, scaling to -1 to
1, subtraction of ImageNet's mean in BGR) is part of the backbone.
"""

import difflib
import hashlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from redarte.devices.backend import keras
from redarte.params import Finetuned
from redarte.runtime.errors import UserError, first_line

_KERAS = ".keras"
_HDF5 = b"\x89HDF\r\n\x1a\n"  # the signature of a file of weights


def load(settings: Finetuned) -> keras.Model:
    """Builds the backbone of the section `finetuned`.

    Args:
        settings: backbone, weights and input_size are used.

    Returns:
        A functional model that maps images (batch, side, side, 3), 0 to 255, with `finetuned.input_size` as the side,
        to feature maps (batch, rows, columns, channels) without global pooling. Its weights are frozen.

    Raises:
        UserError: there is no such backbone, its file or weights cannot be used or downloaded, or it does not take
            images of this size.
    """
    from_file = settings.backbone.endswith(_KERAS)
    backbone = _with_input_size(_from_file(settings), settings) if from_file else _from_applications(settings)
    if not _is_map(backbone.output):
        raise UserError(_wrong_size(settings, "its output has no spatial positions left"))
    backbone = _with_depthwise(backbone)
    if any(getattr(layer, "groups", 1) > 1 for layer in backbone.layers):
        # Keras compiles these by XLA, which tf2onnx 1.17 cannot convert: better reported before the training.
        raise UserError(
            f"{settings.backbone} (finetuned.backbone) has grouped convolutions that are not depthwise, and cannot be "
            "exported to ONNX: choose another backbone."
        )
    backbone.trainable = False
    return backbone


def feature_maps(backbone: keras.Model) -> list[Any]:
    """Returns the feature maps of a backbone: its output, and the last map at the next finer resolution.

    The last layers respond to objects; the finer maps add texture. On the 50 artists, the mean and the standard
    deviation of either are about equally accurate, and both together are more accurate.

    Args:
        backbone: from `load`.

    Returns:
        Two tensors (batch, rows, columns, channels), the finer first; one where the backbone has a single resolution.
    """
    coarse = backbone.output
    finer = [
        layer.output
        for layer in backbone.layers
        # Zero padding has no information about the image.
        if not isinstance(layer, keras.layers.ZeroPadding2D)
        and _is_map(layer.output)
        and layer.output.shape[1] > coarse.shape[1]
    ]
    if not finer:
        return [coarse]
    rows = min(tensor.shape[1] for tensor in finer)
    return [[tensor for tensor in finer if tensor.shape[1] == rows][-1], coarse]


def with_policy(backbone: keras.Model, policy: str) -> keras.Model:
    """Copies a backbone into another precision.

    Args:
        backbone: from `load`.
        policy: a Keras dtype policy.

    Returns:
        A model with the same weights.
    """

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if "dtype" in config and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = policy
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(backbone, clone_function=clone)
    copy.set_weights(backbone.get_weights())
    return copy


def digest(model: keras.Model) -> str:
    """Returns a hash of all weights.

    Args:
        model: any Keras model.
    """
    hashed = hashlib.blake2b(digest_size=16)
    for weight in model.get_weights():
        hashed.update(weight.tobytes())
    return hashed.hexdigest()


def _with_depthwise(backbone: keras.Model) -> keras.Model:
    """Replaces convolutions with one group for each channel, as in ConvNeXt, by equal depthwise convolutions.

    The kernel (rows, columns, 1, channels) becomes (rows, columns, channels, 1).
    """

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if not _is_depthwise(layer):
            return layer.__class__.from_config(config)
        renamed = {
            f"depthwise_{part}": config[f"kernel_{part}"] for part in ("initializer", "regularizer", "constraint")
        }
        kept = ("strides", "padding", "data_format", "dilation_rate", "activation", "use_bias", "bias_initializer")
        options = {name: config[name] for name in ("name", "dtype", "kernel_size", *kept)}
        return keras.layers.DepthwiseConv2D.from_config(options | renamed)

    if not any(map(_is_depthwise, backbone.layers)):
        return backbone
    copy = keras.models.clone_model(backbone, clone_function=clone)
    for original, layer in zip(backbone.layers, copy.layers, strict=True):
        weights = original.get_weights()
        if _is_depthwise(original):
            weights[0] = weights[0].swapaxes(2, 3)
        layer.set_weights(weights)
    return copy


def _is_depthwise(layer: keras.Layer) -> bool:
    is_grouped = type(layer) is keras.layers.Conv2D and layer.groups > 1
    return is_grouped and layer.groups == layer.filters == layer.input.shape[-1]


def _from_applications(settings: Finetuned) -> keras.Model:
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
    try:
        backbone: keras.Model = make(
            include_top=False, weights=weights, input_shape=(side, side, 3), input_tensor=scaled
        )
    except Exception as error:
        # keras.utils.get_file raises a bare Exception.
        is_offline = "URL fetch failure" in str(error)
        corrupt = _corrupt_download(error) if weights and not is_offline else None
        if corrupt is not None:
            corrupt.unlink(missing_ok=True)
            raise UserError(
                f"the ImageNet weights of {settings.backbone} cannot be downloaded: {corrupt} is not what Keras "
                "published (often the login page of a network) and was deleted. Log in to the network and run it "
                "again, or set finetuned.weights to a file of weights."
            ) from None
        if isinstance(error, ValueError):
            raise UserError(_wrong_size(settings, error)) from None
        if not is_offline:
            raise
        address = str(error).split(" on ", 1)[-1].split(": ", 1)[0]
        raise UserError(
            f"the ImageNet weights of {settings.backbone} cannot be downloaded from {address}: go online once, or "
            "copy the file to this machine and set finetuned.weights to it, or set finetuned.backbone to a .keras file."
        ) from None
    if settings.weights not in ("imagenet", "none"):
        _load_weights(backbone, Path(settings.weights).expanduser())
    return backbone


def _corrupt_download(error: Exception) -> Path | None:
    """The file that Keras downloaded last, where it is not what was published; None where the error is another one."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models")
    files = sorted(home.glob("*.h5"), key=lambda file: file.stat().st_mtime)
    if not files:
        return None
    with files[-1].open("rb") as file:
        is_hdf5 = file.read(len(_HDF5)) == _HDF5
    is_refused = "Incomplete or corrupted file" in str(error) or isinstance(error, OSError)
    return files[-1] if is_refused or not is_hdf5 else None


def _load_weights(backbone: keras.Model, path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} (finetuned.weights) does not exist; set it to imagenet, none or a file of weights.")
    try:
        backbone.load_weights(path)
    except Exception as error:
        # HDF5 and Keras have their own exceptions.
        raise UserError(
            f"{path} (finetuned.weights) does not have the weights of {backbone.name} without its top layers "
            f"({first_line(error)})."
        ) from None


def _from_file(settings: Finetuned) -> keras.Model:
    path = Path(settings.backbone).expanduser()
    if not path.is_file():
        raise UserError(f"{path} (finetuned.backbone) does not exist; set it to a .keras file or a name.")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # A .keras file is a zip of JSON and HDF5: each layer raises its own exceptions, and so does safe mode.
        raise UserError(
            f"{path} (finetuned.backbone) cannot be loaded: it is corrupt, or contains code, which is never executed "
            f"({first_line(error)})."
        ) from None
    shape = getattr(model, "input_shape", None)
    if not isinstance(model, keras.Model) or not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3:
        raise UserError(f"{path} (finetuned.backbone) does not take RGB images, of shape (batch, side, side, 3).")
    maps = [layer.output for layer in model.layers[1:] if _is_map(layer.output)]
    if not maps:
        raise UserError(f"{path} (finetuned.backbone) is no feature extractor: none of its layers has feature maps.")
    return keras.Model(model.inputs[0], maps[-1], name=model.name)


def _with_input_size(backbone: keras.Model, settings: Finetuned) -> keras.Model:
    """The same layers and weights for another input size, with nested models expanded."""
    side = settings.input_size
    image = keras.Input((side, side, 3), name="image")
    try:
        resized = keras.models.clone_model(backbone, input_tensors=image)
        resized.set_weights(backbone.get_weights())
    except Exception as error:
        raise UserError(_wrong_size(settings, error)) from None
    return resized


def _is_map(tensor: Any) -> bool:
    """Whether a layer's output is a feature map with more than one position."""
    shape: tuple[int | None, ...] = tuple(getattr(tensor, "shape", ()))
    return len(shape) == 4 and shape[1] != 1


def _wrong_size(settings: Finetuned, reason: object) -> str:
    return (
        f"{settings.backbone} (finetuned.backbone) does not take images of {settings.input_size} px: set "
        f"finetuned.input_size to another size ({first_line(reason)})."
    )
