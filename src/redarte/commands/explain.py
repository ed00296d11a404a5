"""`redarte explain`: where in a picture a network sees its painter."""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from redarte.commands.predict import network_file, reader
from redarte.inference.explanations import overlay
from redarte.inference.predictor import Predictor
from redarte.pictures import images
from redarte.pictures.collection import checks
from redarte.pictures.images import Picture, display_name
from redarte.runtime import outputs
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import Sandbox

_LARGEST = 1024  # px: the longer side of an explained picture


def write(network_name: str | None, picture: Path, out: Path, artist: str | None, max_pixels: float) -> str:
    """`redarte explain`: writes a picture with the evidence map for its likeliest artist, or for another, over it.

    Args:
        network_name: as for `predict.network_file`.

    Returns:
        One sentence about what was written.

    Raises:
        UserError: the picture cannot be read, the artist is unknown, or `out` cannot be written.
    """
    if out.suffix.lower() not in (".jpg", ".jpeg") or out.is_dir():
        raise UserError(f"{out}: name a .jpg to write to.")
    if out.exists() and picture.exists() and out.samefile(picture):
        raise UserError(f"{out} is the picture itself, and would be overwritten: name another file with --out.")
    with Sandbox(1, checks.most_memory(max_pixels), checks.__name__) as sandbox:
        network = Predictor(network_file(network_name))
        try:
            square, whole = sandbox.call(partial(_read, reader(network, max_pixels)), picture)
        except UserError as error:
            raise UserError(f"{picture} {error}.") from None
    predictions = network.predict([square[None]])
    probabilities, artists = predictions.calibrated[0], network.metadata.artists
    chosen = int(predictions.predicted[0]) if artist is None else place_of(artist, artists)
    try:
        with outputs.atomic_file(out) as written:
            images.write_jpeg(written, overlay(whole, network.evidence(square, chosen)), quality=90)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); name another file with --out.") from None
    doubt = "" if predictions.in_distribution[0] else " It is unlike what the network was trained on."
    return f"{out}: where {display_name(artists[chosen])} ({probabilities[chosen]:.0%}) is seen.{doubt}"


def place_of(artist: str, artists: list[str]) -> int:
    """An artist's number by the name, with spaces or underscores.

    Raises:
        UserError: the network does not know the artist.
    """
    for number, known in enumerate(artists):
        if display_name(known).casefold() == display_name(artist).casefold():
            return number
    near = difflib.get_close_matches(artist, map(display_name, artists), n=1)
    raise UserError(f"the network does not know {artist}{f'; did you mean {near[0]}?' if near else '.'}")


def _read(read: Callable[[Path], Picture], picture: Path) -> tuple[Picture, Picture]:
    """A picture as a network sees it, and in its own proportions."""
    return read(picture), images.read_within(picture, _LARGEST)
