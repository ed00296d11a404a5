"""`redarte explain`: which regions of an image speak for an artist."""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from redarte import params
from redarte.images import decoding
from redarte.images.decoding import ImageArray
from redarte.images.folders import display_name
from redarte.images.overlays import overlay
from redarte.inference.predictor import Predictor
from redarte.ingestion import checks
from redarte.runtime import outputs
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import Sandbox

_MAX_SIDE = 1024  # px: of the written image


def write(model_name: str | None, image: Path, out: Path, artist: str | None) -> str:
    """Writes an image with the evidence map for its predicted artist, or for another artist.

    Args:
        artist: by name; None: the predicted artist.
    """
    if out.exists() and image.exists() and out.samefile(image):
        raise UserError(f"{out} is the image itself, and would be overwritten: choose another file with --out.")
    with Sandbox(1, checks.max_memory(checks.MAX_PIXELS), checks.__name__) as sandbox:
        model = Predictor(params.model_file(model_name))
        try:
            resized, original = sandbox.call(partial(_read, model.reader(checks.MAX_PIXELS)), image)
        except UserError as error:
            raise UserError(f"{image} {error}.") from None
    predictions = model.predict([resized[None]])
    probabilities, artists = predictions.calibrated[0], model.metadata.artists
    chosen = int(predictions.predicted[0]) if artist is None else artist_index(artist, artists)
    with outputs.user_file(out, "--out", ".jpg", ".jpeg") as written:
        decoding.write_jpeg(written, overlay(original, model.evidence(resized, chosen)), quality=90)
    doubt = (
        ""
        if predictions.in_distribution[0]
        else " The image is out of distribution: it is not similar to the training images."
    )
    return f"{out}: evidence for {display_name(artists[chosen])} ({100 * probabilities[chosen]:.0f} %).{doubt}"


def artist_index(artist: str, artists: list[str]) -> int:
    """Returns an artist's index by the name, with spaces or underscores."""
    for number, known in enumerate(artists):
        if display_name(known).casefold() == display_name(artist).casefold():
            return number
    near = difflib.get_close_matches(artist, map(display_name, artists), n=1)
    raise UserError(f"the model does not know {artist}{f'; did you mean {near[0]}?' if near else '.'}")


def _read(read: Callable[[Path], ImageArray], image: Path) -> tuple[ImageArray, ImageArray]:
    """An image as a model sees it, and with its aspect ratio."""
    return read(image), decoding.read_within(image, _MAX_SIDE)
