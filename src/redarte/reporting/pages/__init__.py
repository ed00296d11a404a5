"""What all HTML pages share: the templates of charts and styles, images as data URIs, and numbers for people."""

import base64
from pathlib import Path
from typing import Any

import jinja2

from redarte.evaluation.comparison import Curve
from redarte.images import decoding
from redarte.images.decoding import ImageArray
from redarte.images.folders import display_name

_SHARED = Path(__file__).parent


def render(template: Path, values: dict[str, Any]) -> str:
    """Returns a rendered template. Names of artists and files are escaped in HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _SHARED]),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{value:.0%}".replace("%", "\u00a0%")
    environment.filters |= {"confidence": confidence, "display": display_name}
    return environment.get_template(template.name).render(values)


def as_uri(image: ImageArray, quality: int = 82) -> str:
    """Returns an image as a data URI, so that the page needs no other file.

    Args:
        image: (height, width, 3), uint8.
        quality: of the JPEG, 1 to 100.
    """
    return "data:image/jpeg;base64," + base64.b64encode(decoding.jpeg(image, quality)).decode("ascii")


def confidence(probability: float) -> str:
    """Returns a probability as a percentage that is never 0 % or 100 %.

    Args:
        probability: 0 to 1.
    """
    if probability < 0.005:
        return "under 1\u00a0%"
    return "over 99\u00a0%" if probability > 0.995 else f"{probability:.0%}".replace("%", "\u00a0%")


def curve_chart(curve: Curve) -> dict[str, Any]:
    """Returns the accuracy by epoch as points in a square of 100 by 100, with the origin at the top left."""
    last = max(epoch for points in curve.values() for epoch, _ in points)
    return {
        "last": last,
        **{
            split: [(100 * (epoch - 1) / (last - 1) if last > 1 else 50, 100 * (1 - value)) for epoch, value in points]
            for split, points in curve.items()
        },
        "ends": {split: points[-1][1] for split, points in curve.items()},
    }
