"""Image backbones of keras-hub, such as DINOv2 and ViT: `finetuned.backbone: keras_hub:<preset>`.

A preset is a name of keras-hub, a folder that `save_to_preset` wrote, or a handle of Kaggle or Hugging Face. keras-hub
is not installed with the pipeline: pip install 'redarte[hub]'.
"""

import math
from pathlib import Path
from typing import Any

from redarte.devices.backend import keras
from redarte.models.backbones.common import load_weights, wrong_size
from redarte.params import Finetuned
from redarte.runtime.errors import UserError, first_line

PREFIX = "keras_hub:"


def load(settings: Finetuned) -> keras.Model:
    """Builds a backbone from a preset, with the scaling that its weights were trained with.

    Returns:
        As `backbones.load`. The tokens of a transformer are arranged as a feature map, without its class token.
    """
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise UserError(
            f"{settings.backbone} (finetuned.backbone) needs the package {error.name}; type: python -m pip install "
            "'redarte[hub]', or in a clone of the project: .venv/bin/pip install -c constraints.txt -e '.[hub]'"
        ) from None
    side, preset = settings.input_size, settings.backbone.removeprefix(PREFIX)
    image = keras.Input((side, side, 3), name="image")
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
        whole = _load_backbone(keras_hub.models.Backbone, preset, side, settings.weights == "imagenet")
    except Exception as error:
        # kagglehub, huggingface_hub, keras-hub and each backbone have their own exceptions.
        raise UserError(_reason(settings, preset, error)) from None
    if settings.weights not in ("imagenet", "none"):
        load_weights(whole, Path(settings.weights).expanduser())
    try:
        scaled = _scaled(image, converter)
        images = dict.fromkeys(whole.input, scaled) if isinstance(whole.input, dict) else scaled
        # One layer of the model: the layers inside cannot all be copied one by one.
        return keras.Model(image, _feature_map(whole(images)), name="backbone")
    except Exception as error:
        raise UserError(wrong_size(settings, error)) from None


def _load_backbone(backbones: Any, preset: str, side: int, pretrained: bool) -> Any:
    """A backbone for this size; EfficientNet's argument has another name."""
    try:
        return backbones.from_preset(preset, load_weights=pretrained, image_shape=(side, side, 3))
    except TypeError:
        return backbones.from_preset(preset, load_weights=pretrained, input_shape=(side, side, 3))


def _scaled(image: Any, converter: Any) -> Any:
    """Images of 0 to 255, scaled as the preset's converter does it; their size stays as it is."""
    if converter.scale is None and converter.offset is None:
        return image
    scale = 1.0 if converter.scale is None else converter.scale
    return keras.layers.Rescaling(scale, 0.0 if converter.offset is None else converter.offset)(image)


def _feature_map(output: Any) -> Any:
    """The output of a backbone as a feature map (batch, rows, columns, channels); of several, the coarsest.

    The patches of a transformer follow its class and register tokens, of which there are fewer than 2 * rows.
    """
    if isinstance(output, dict):
        output = min(output.values(), key=lambda tensor: tensor.shape[1])
    if len(output.shape) != 3:
        return output
    tokens, channels = output.shape[1:]
    rows = math.isqrt(tokens)
    patches = keras.layers.Cropping1D((tokens - rows * rows, 0))(output)
    return keras.layers.Reshape((rows, rows, channels))(patches)


def _reason(settings: Finetuned, preset: str, error: Exception) -> str:
    """The error of a preset that cannot be loaded."""
    text, where = f"{type(error).__name__}: {error}", f"{settings.backbone} (finetuned.backbone)"
    if "Unknown preset" in text:
        return (
            f"{where} is not a preset of keras-hub, such as {PREFIX}dinov2_small, and not {PREFIX} with a folder that "
            "save_to_preset wrote or with a handle of Kaggle or Hugging Face."
        )
    is_remote = not Path(preset).exists()
    if is_remote and (isinstance(error, OSError) or "onnection" in text or "has no config.json" in text):
        return (
            f"{where} cannot be downloaded: go online once and check that you have access, or set it to {PREFIX} and a "
            "folder that keras-hub's save_to_preset wrote."
        )
    return (
        f"{where} cannot be loaded for images of {settings.input_size} px ({first_line(error)}). Either it is no "
        "complete image backbone, or finetuned.input_size is wrong: it is a multiple of the patch size, and for ViT "
        "and Swin the size that they were trained with."
    )
