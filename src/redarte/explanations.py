"""Where a network looked: evidence over the picture that it is about."""

import difflib
from pathlib import Path

import cv2
import numpy as np

from redarte import outputs, paintings
from redarte.errors import UserError
from redarte.paintings import Picture
from redarte.prediction import Network

_DIMMED = 0.55
_LARGEST = 1024  # px: the longer side of an explained picture
_STRONGEST = 0.8  # how much of the picture the strongest evidence covers


def overlay(picture: Picture, evidence: np.ndarray) -> Picture:
    """Colours the places that speak for an artist, the brighter the more; places that speak against stay grey.

    Args:
        picture: (height, width, 3) uint8, RGB.
        evidence: (rows, columns), as `prediction.Network.evidence` gives it.

    Returns:
        A picture of the same size.
    """
    height, width = picture.shape[:2]
    heat = cv2.resize(np.maximum(evidence, 0).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    heat /= max(float(heat.max()), 1e-12)
    # Smoothed to the size of what one place of the last block sees.
    spread = max(height, width) / max(evidence.shape) / 2
    heat = np.clip(cv2.GaussianBlur(heat, (0, 0), spread), 0, 1)
    heat /= max(float(heat.max()), 1e-12)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    # Grey and dimmed, so that the colours stand out of bright and of colourful pictures alike.
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32) * _DIMMED
    cover = (_STRONGEST * np.sqrt(heat))[..., None]
    return np.asarray(grey * (1 - cover) + colours * cover).round().astype(np.uint8)


def write(network: Network, picture: Path, out: Path, artist: str | None, max_pixels: float) -> str:
    """`redarte explain`: writes a picture with the evidence for its likeliest artist, or for another, over it.

    Returns:
        One sentence about what was written.

    Raises:
        UserError: the picture cannot be read, the artist is unknown, or `out` cannot be written.
    """
    if out.suffix.lower() not in (".jpg", ".jpeg"):
        raise UserError(f"{out}: name a .jpg to write to.")
    try:
        seen = paintings.read_strange(picture, network.side, max_pixels)
    except UserError as error:
        raise UserError(f"{picture} {error}.") from None
    answers = network.answers([seen[None]])
    probabilities, artists = answers.probabilities[0], network.card.artists
    chosen = int(probabilities.argmax()) if artist is None else place_of(artist, artists)
    shape = paintings.read_within(picture, _LARGEST)
    with outputs.whole_file(out) as partial:
        paintings.write_jpeg(partial, overlay(shape, network.evidence(seen, chosen)), quality=90)
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


def spoken(artist: str) -> str:
    """A folder's name as a person's."""
    return artist.replace("_", " ")
