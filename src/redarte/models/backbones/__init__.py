"""Pretrained backbones for `finetuned`: from keras.applications, from keras-hub, or a .keras file.

Each takes images of 0 to 255 as they are: the preprocessing that it was trained with (division by 255, scaling to -1 to
1, subtraction of ImageNet's mean in BGR) is part of the backbone.
"""

import hashlib
import itertools
from pathlib import Path
from typing import Any

from redarte.devices.backend import keras
from redarte.models.backbones import applications, hub
from redarte.models.backbones.common import wrong_size
from redarte.params import Finetuned
from redarte.runtime.errors import UserError, first_line

_KERAS = ".keras"


def load(settings: Finetuned) -> keras.Model:
    """Builds the backbone of the section `finetuned`.

    Returns:
        A functional model that maps images (batch, side, side, 3), 0 to 255, with `finetuned.input_size` as the side,
        to feature maps (batch, rows, columns, channels) without global pooling. Its weights are frozen.
    """
    if settings.backbone.startswith(hub.PREFIX):
        backbone = hub.load(settings)
    elif settings.backbone.endswith(_KERAS):
        backbone = _with_input_size(_from_file(settings), settings)
    else:
        backbone = applications.load(settings)
    if not _is_map(backbone.output):
        raise UserError(wrong_size(settings, "its output has no spatial positions left"))
    backbone = _with_depthwise(backbone)
    if any(getattr(layer, "groups", 1) > 1 for layer in all_layers(backbone)):
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

    Returns:
        Two tensors (batch, rows, columns, channels), the finer first; one where the backbone has a single resolution.
    """
    coarse = backbone.output
    finer = [
        layer.output
        # Before the first layer with weights, maps are the image itself.
        for layer in itertools.dropwhile(lambda layer: not layer.weights, backbone.layers)
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
    """Copies a backbone into another precision."""

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if "dtype" in config and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = policy
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(backbone, clone_function=clone)
    copy.set_weights(backbone.get_weights())
    return copy


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns every layer of a model, also those inside other layers."""
    return list(model._flatten_layers(include_self=False))  # Keras has no public function for it


def digest(model: keras.Model) -> str:
    """Returns a hash of all weights."""
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
    try:
        image = keras.Input((side, side, 3), name="image")
        resized = keras.models.clone_model(backbone, input_tensors=image)
        resized.set_weights(backbone.get_weights())
        return resized
    except Exception as error:
        raise UserError(wrong_size(settings, error)) from None


def _is_map(tensor: Any) -> bool:
    """Whether a layer's output is a feature map with more than one position."""
    shape: tuple[int | None, ...] = tuple(getattr(tensor, "shape", ()))
    return len(shape) == 4 and shape[1] != 1
