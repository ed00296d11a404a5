"""What backbones of all kinds share: files of weights, and the error of a wrong size."""

from pathlib import Path

from redarte.devices.backend import keras
from redarte.params import Finetuned
from redarte.runtime.errors import UserError, first_line


def load_weights(backbone: keras.Model, path: Path) -> None:
    """Loads the weights of finetuned.weights."""
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


def wrong_size(settings: Finetuned, reason: object) -> str:
    """Returns the error of a backbone that does not take images of finetuned.input_size."""
    return (
        f"{settings.backbone} (finetuned.backbone) does not take images of {settings.input_size} px: set "
        f"finetuned.input_size to another size ({first_line(reason)})."
    )
