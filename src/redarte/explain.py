"""`redarte explain`: where in a picture a network sees its painter."""

import difflib
from functools import partial
from pathlib import Path

from redarte import outputs, paintings
from redarte.errors import UserError
from redarte.explanations import overlay, spoken
from redarte.paintings import Picture
from redarte.prediction import Network
from redarte.sandbox import Sandbox

_LARGEST = 1024  # px: the longer side of an explained picture


def write(network: Network, picture: Path, out: Path, artist: str | None, max_pixels: float) -> str:
    """`redarte explain`: writes a picture with the evidence for its likeliest artist, or for another, over it.

    Returns:
        One sentence about what was written.

    Raises:
        UserError: the picture cannot be read, the artist is unknown, or `out` cannot be written.
    """
    if out.suffix.lower() not in (".jpg", ".jpeg"):
        raise UserError(f"{out}: name a .jpg to write to.")
    with Sandbox(1, paintings.most_memory(max_pixels)) as sandbox:
        try:
            seen, shape = sandbox.call(partial(_read, network.side, max_pixels), picture)
        except UserError as error:
            raise UserError(f"{picture} {error}.") from None
    answers = network.answers([seen[None]])
    probabilities, artists = answers.probabilities[0], network.card.artists
    chosen = int(probabilities.argmax()) if artist is None else place_of(artist, artists)
    with outputs.whole_file(out) as written:
        paintings.write_jpeg(written, overlay(shape, network.evidence(seen, chosen)), quality=90)
    doubt = "" if answers.known[0] else " It is unlike what the network was trained on."
    return f"{out}: where {spoken(artists[chosen])} ({probabilities[chosen]:.0%}) is seen.{doubt}"


def place_of(artist: str, artists: list[str]) -> int:
    """An artist's number by the name, with spaces or underscores.

    Raises:
        UserError: the network does not know the artist.
    """
    for number, known in enumerate(artists):
        if spoken(known).casefold() == spoken(artist).casefold():
            return number
    near = difflib.get_close_matches(artist, map(spoken, artists), n=1)
    raise UserError(f"the network does not know {artist}{f'; did you mean {near[0]}?' if near else '.'}")


def _read(side: int, max_pixels: float, picture: Path) -> tuple[Picture, Picture]:
    """A picture as a network sees it, and in its own proportions."""
    return paintings.read_strange(picture, side, max_pixels), paintings.read_within(picture, _LARGEST)
