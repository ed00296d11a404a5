"""`redarte predict`: predicts the artists of images."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from redarte.images import decoding
from redarte.images.collection import checks
from redarte.images.collection import files as tree
from redarte.images.decoding import ImageArray
from redarte.images.decoding.folders import display_name
from redarte.runtime import tables, workers
from redarte.runtime.console import progress, say, warn
from redarte.runtime.errors import UNPRINTABLE, UserError, escaped, printable
from redarte.runtime.sandbox import Sandbox

if TYPE_CHECKING:
    from redarte.inference.predictor import Predictions, Predictor

Style = Literal["table", "json", "csv"]

MODELS = Path("models")
SAMPLE_ONLY = (
    "this model was trained on the built-in sample, invented schools of painting; it cannot recognise real painters "
    "(train on your own images: redarte train)"
)
_MAX_WIDTH = 48  # characters for an image's name
_BAR = 20  # characters for a probability of 1

# A file with the predictions of its batch and its index there, or with the reason why it cannot be read.
Result = tuple[Path, "tuple[Predictions, int] | UserError"]


def files(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Lists the named files and the images in the named folders.

    Returns:
        The files, and the number of other files in the folders.

    Raises:
        UserError: a folder cannot be read.
    """
    found: list[Path] = []
    others = 0
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        for name, reason in tree.walk(path):
            if reason in tree.NOT_CANDIDATES:
                others += 1
            else:
                found.append(path / name)
    return found, others


def predict(model: "Predictor", paths: Sequence[Path], max_pixels: float, sandbox: Sandbox) -> Iterator[Result]:
    """Predicts files in their order; the next files are decoded during the prediction.

    Yields:
        Each file with its predictions, or with the reason why it cannot be read.
    """
    many = decoding.inference_batch_size(model.side)
    images = zip(paths, sandbox.map(reader(model, max_pixels), paths), strict=True)
    while decoded := list(islice(images, many)):
        readable = [image for _, image in decoded if not isinstance(image, UserError)]
        predictions = model.predict([np.stack(readable)] if readable else [])
        rows = iter(range(len(readable)))
        for path, image in decoded:
            yield path, image if isinstance(image, UserError) else (predictions, next(rows))


def reader(model: "Predictor", max_pixels: float) -> Callable[[Path | bytes], ImageArray]:
    """Returns the function that reads an unchecked file as a model sees it; see `checks.read_resized`."""
    return partial(
        checks.read_resized, side=model.side, max_pixels=max_pixels, jpeg_quality=model.metadata.jpeg_quality
    )


def as_json(predictions: "Predictions", index: int, top: int) -> dict[str, Any]:
    """Returns one image's prediction as JSON values; probabilities are calibrated."""
    ranking = [
        {"artist": artist, "probability": round(probability, 6)}
        for artist, probability in predictions.ranking(index, top)
    ]
    return {**ranking[0], "top": ranking, "in_distribution": bool(predictions.in_distribution[index])}


def model_file(name: str | None) -> Path:
    """Returns the .onnx file of a model.

    Args:
        name: a path, a model's name, or None for params.yaml's `model`.

    Raises:
        UserError: no model is named, and params.yaml is missing or cannot be read.
    """
    if name is None:
        if not Path("params.yaml").exists():
            raise UserError("there is no params.yaml here that names a model; name one, such as --model red1.onnx.")
        from redarte import params

        name = params.load().model
    return Path(name) if name.endswith(".onnx") else MODELS / f"{name}.onnx"


def report(model_name: str | None, paths: Sequence[Path], top: int, style: Style, max_pixels: float) -> int:
    """Prints the predictions of a model.

    Returns:
        The number of files that could not be read.

    Raises:
        UserError: there are no images, or no such model.
    """
    found, others = files(paths)
    if not found:
        raise UserError(f"there are no images in {', '.join(map(str, paths))}.")
    if others:
        warn(f"{others} other files in these folders are not images")
    failed = 0
    processes = 1 if len(found) == 1 else min(workers.count(), len(found))
    with Sandbox(processes, checks.max_memory(max_pixels), checks.__name__) as sandbox:
        # Imported while the first worker of the sandbox starts.
        from redarte.inference.predictor import Predictor

        model = Predictor(model_file(model_name))
        if model.metadata.data == "sample" and not all(map(_is_of_project, found)):
            warn(SAMPLE_ONLY)
        predicted = predict(model, found, max_pixels, sandbox)
        write: Callable[[str], None] = say
        if len(found) > decoding.inference_batch_size(model.side):
            from tqdm import tqdm

            # Prints above the bar.
            predicted, write = progress(predicted, len(found), "predicting"), lambda line: tqdm.write(escaped(line))
        if style == "csv":
            lines = csv_rows(predicted, top, len(model.metadata.artists))
        else:
            lines = json_rows(predicted, top) if style == "json" else table_rows(predicted, model, found, top)
        for line, is_prediction in lines:
            failed += not is_prediction
            write(line)
    return failed


def _is_of_project(path: Path) -> bool:
    return path.resolve().is_relative_to(Path("data").resolve())


def json_rows(predicted: Iterable[Result], top: int) -> Iterator[tuple[str, bool]]:
    """Yields one JSON object for each file, and whether it is a prediction."""
    for path, result in predicted:
        if isinstance(result, UserError):
            yield json_line({"path": str(path), "error": str(result)}), False
        else:
            yield json_line({"path": str(path), **as_json(*result, top)}), True


def json_line(values: dict[str, Any]) -> str:
    """Returns a JSON object on one line, with control characters as JSON escapes."""
    line = json.dumps(values, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], line)


def csv_rows(predicted: Iterable[Result], top: int, artists: int) -> Iterator[tuple[str, bool]]:
    """Yields a header, then one row of CSV for each file, and whether they are no error."""

    def line(*cells: object) -> str:
        return tables.to_csv([cells]).removesuffix("\n")

    numbers = range(1, min(top, artists) + 1)
    ranking = [f"{name}_{number}" for number in numbers for name in ("artist", "probability")]
    yield line("path", "error", "in_distribution", *ranking), True
    for path, result in predicted:
        # A path stays a path, without the apostrophe of `tables.to_csv`.
        name = f"./{path}" if str(path).startswith(("=", "+", "-", "@")) else str(path)
        if isinstance(result, UserError):
            yield line(name, result, "", *[""] * len(ranking)), False
            continue
        predictions, index = result
        values = [
            value for artist, probability in predictions.ranking(index, top) for value in (artist, f"{probability:.6f}")
        ]
        yield line(name, "", "yes" if predictions.in_distribution[index] else "no", *values), True


def table_rows(
    predicted: Iterable[Result], model: "Predictor", paths: Sequence[Path], top: int
) -> Iterator[tuple[str, bool]]:
    """Yields a few lines for each file, and whether they are a prediction."""
    names = min(_MAX_WIDTH, max(len(printable(path)) for path in paths))
    widest = max(len(artist) for artist in model.metadata.artists)
    for path, result in predicted:
        name = shortened(printable(path), names).ljust(names)
        if isinstance(result, UserError):
            yield f"{name}  {result}", False
            continue
        predictions, index = result
        ranking = [
            f"{display_name(artist):<{widest}}  {probability:6.1%}  {'█' * round(_BAR * probability)}".rstrip()
            for artist, probability in predictions.ranking(index, top)
        ]
        if not predictions.in_distribution[index]:
            ranking.insert(0, "out of distribution, probably none of the known artists; the most similar:")
        yield "\n".join(f"{name if not number else ' ' * names}  {line}" for number, line in enumerate(ranking)), True


def shortened(name: str, width: int) -> str:
    """Returns a name without its middle if it is too long: the end distinguishes files."""
    return name if len(name) <= width else f"{name[: width // 3]}…{name[len(name) - (width - width // 3 - 1) :]}"
