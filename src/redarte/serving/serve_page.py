"""The page of `redarte serve`: predictions, evidence map and similar training images for an uploaded image.

A person on this machine can correct the artist of one of the project's images there.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from redarte import params
from redarte.evaluation.comparison import title
from redarte.images import decoding, folders, overlays
from redarte.images.decoding import ImageArray
from redarte.images.folders import display_name
from redarte.inference.predictor import Predictor
from redarte.reporting import pages
from redarte.reporting.pages import as_uri
from redarte.runtime import paths
from redarte.runtime.console import warn
from redarte.runtime.errors import UserError

_TEMPLATES = Path(__file__).parent
MAX_PIXELS = 64e6  # of an upload: a large phone camera's
MAX_UPLOAD = 20 * 2**20  # bytes: the largest request with an image
TOP = 5
_SHOWN_BY_BROWSERS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_THUMBNAIL = 240  # px
_NEAREST = 4


@dataclass(frozen=True)
class Example:
    """A test image that the page offers.

    Attributes:
        uri: a small version as a data URI.
    """

    path: Path
    artist: str
    uri: str


def load_models(named: list[Path]) -> dict[str, Predictor]:
    """Returns models by the names of their files: the study's three first, then the others.

    A file that cannot be used is reported and left out.

    Args:
        named: .onnx files and folders of them; none: those in models/.
    """
    order = {name: index for index, name in enumerate(params.REGISTRY)}
    places = named or ([paths.MODELS] if paths.MODELS.is_dir() else [])
    found = [file for path in places for file in (path.glob("*.onnx") if path.is_dir() else [path])]
    models: dict[str, Predictor] = {}
    problems = []
    for file in sorted(found, key=lambda file: (order.get(file.stem, len(order)), file.stem, file)):
        # Of two files with one name, the second has its path.
        name = file.stem if file.stem not in models else str(file)
        try:
            models[name] = Predictor(file)
        except UserError as error:
            problems.append(str(error))
    if not models:
        if problems:
            raise UserError("\n".join(problems))
        where = ", ".join(map(str, named)) or f"{paths.MODELS}/"
        raise UserError(
            f"there is no model in {where}; create one with `dvc repro`, get it with `dvc pull`, or name an .onnx file "
            "or a folder of them."
        )
    for problem in problems:
        warn(f"not available: {problem}")
    return models


def first_choice(models: dict[str, Predictor]) -> str:
    """Returns the model of params.yaml, or the first where it is not available or there is no project."""
    chosen = params.load().model if is_project() else ""
    return chosen if chosen in models else next(iter(models))


def is_project() -> bool:
    """Returns whether the service runs in a project, whose artists a person on this machine can correct."""
    return paths.PARAMS.is_file()


def label(name: str, model: Predictor) -> str:
    """Returns a model's label on the page: its name, its accuracy, and what it was trained on."""
    known = model.metadata
    images = {"sample": "the built-in sample", "kaggle": "the study's images"}.get(known.data, "own images")
    accuracy = f"{known.val_accuracy:.0%}".replace("%", "\u00a0%")
    return f"{title(name)}: val accuracy {accuracy}, {len(known.artists)} artists, from {images}"


def render(
    models: dict[str, Predictor], first: str, examples: list[Example], is_local: bool, has_label_issues: bool
) -> str:
    """Returns the page."""
    values = {
        "models": {name: label(name, model) for name, model in models.items()},
        "first": first,
        "examples": examples,
        "artists": sorted({display_name(artist) for model in models.values() for artist in model.metadata.artists}),
        "is_local": is_local and is_project(),
        "has_label_issues": has_label_issues,
        "sample_models": [title(name) for name, model in models.items() if model.metadata.data == "sample"],
        "max_upload": MAX_UPLOAD,
    }
    return pages.render(_TEMPLATES / "serve_page.html.j2", values)


def artist_named(name: str, models: dict[str, Predictor]) -> str:
    """Returns the class of an artist whose name a person typed."""
    typed = name.strip()
    if not typed:
        raise UserError("type the name of the right artist first.")
    known = {display_name(artist): artist for model in models.values() for artist in model.metadata.artists}
    return known.get(display_name(typed), typed.replace(" ", "_"))


def example_images() -> list[Example]:
    """Returns three test images of three artists if there are so many; always the same."""
    test = paths.SPLIT / "test"
    if not test.is_dir():
        return []
    names = [name for name in folders.list_images(test) if name.lower().endswith(_SHOWN_BY_BROWSERS)]
    random.Random(0).shuffle(names)
    of_each = {name.partition("/")[0]: test / name for name in names}
    return [
        Example(path, artist, as_uri(decoding.read_within(path, _THUMBNAIL)))
        for artist, path in sorted(of_each.items())[:3]
    ]


def result_html(model: Predictor, pixels: ImageArray) -> str:
    """Returns the prediction for an image as HTML, and the most similar training images.

    An image that is in distribution has bars and an evidence map. Of another image the ranking is folded, because its
    probabilities are those of the least unlikely of the known artists.

    Args:
        pixels: (side, side, 3), uint8, RGB.
    """
    predictions = model.predict([pixels[None]])
    in_distribution, evidence = bool(predictions.in_distribution[0]), ""
    if in_distribution:
        evidence = as_uri(overlays.overlay(pixels, model.evidence(pixels, int(predictions.predicted[0]))))
    values = {
        "ranking": predictions.ranking(0, TOP),
        "in_distribution": in_distribution,
        "evidence": evidence,
        "similar": [
            {"artist": name.partition("/")[0], "name": name.partition("/")[2], "similarity": value, "uri": _uri(name)}
            for name, value in predictions.nearest(0, _NEAREST)
        ],
    }
    return pages.render(_TEMPLATES / "prediction.html.j2", values)


def _uri(image_id: str) -> str:
    """A training image as a data URI; "" where it is not on this machine."""
    file = folders.find(paths.SPLIT / "train", image_id)
    return "" if file is None else as_uri(decoding.read_within(file, _THUMBNAIL))
