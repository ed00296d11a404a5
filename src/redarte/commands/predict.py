"""`redarte predict`: predicts the artists of images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from redarte.images import dataset
from redarte.images.folders import display_name
from redarte.ingestion import checks
from redarte.ingestion.collection import files as listing
from redarte.runtime import tables, workers
from redarte.runtime.console import json_line, progress, say, warn
from redarte.runtime.errors import UserError, escaped, printable
from redarte.runtime.sandbox import Sandbox

if TYPE_CHECKING:
    from redarte.inference.predictor import Predictions, Predictor

Style = Literal["table", "json", "csv"]

SAMPLE_ONLY = (
    "this model was trained on the built-in sample, invented schools of painting; it cannot recognise real painters "
    "(train on your own images: redarte train)"
)
_MAX_WIDTH = 48  # characters for an image's name
_BAR = 20  # characters for a probability of 1

# A file with the predictions of its batch and its index there, or with the reason why it cannot be read.
Result = tuple[Path, "tuple[Predictions, int] | UserError"]


def files(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Returns the named files and the images in the named folders, and the number of other files in the folders."""
    found: list[Path] = []
    others = 0
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        for name, reason in listing.walk(path):
            if reason in listing.NOT_CANDIDATES:
                others += 1
            else:
                found.append(path / name)
    return found, others


def predict(model: "Predictor", paths: Sequence[Path], sandbox: Sandbox) -> Iterator[Result]:
    """Yields files in their order with their predictions, or with the reason why they cannot be read.

    The next files are decoded during the prediction.
    """
    many = dataset.inference_batch_size(model.side)
    images = zip(paths, sandbox.map(model.reader(checks.MAX_PIXELS), paths), strict=True)
    while decoded := list(islice(images, many)):
        readable = [image for _, image in decoded if not isinstance(image, UserError)]
        predictions = model.predict([np.stack(readable)] if readable else [])
        rows = iter(range(len(readable)))
        for path, image in decoded:
            yield path, image if isinstance(image, UserError) else (predictions, next(rows))


def report(model_name: str | None, paths: Sequence[Path], top: int, style: Style) -> int:
    """Prints the predictions of a model, and returns how many files could not be read."""
    found, others = files(paths)
    if not found:
        raise UserError(f"there are no images in {', '.join(map(str, paths))}.")
    if others:
        warn(f"{others} other files in these folders are not images")
    failed = 0
    processes = 1 if len(found) == 1 else min(workers.count(), len(found))
    with Sandbox(processes, checks.max_memory(checks.MAX_PIXELS), checks.__name__) as sandbox:
        # Imported while the first worker of the sandbox starts.
        from redarte import params
        from redarte.inference.predictor import Predictor

        model = Predictor(params.model_file(model_name))
        if model.metadata.data == "sample" and not all(map(_is_of_project, found)):
            warn(SAMPLE_ONLY)
        predicted = predict(model, found, sandbox)
        write: Callable[[str], None] = say
        if len(found) > dataset.inference_batch_size(model.side):
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
            predictions, index = result
            yield json_line({"path": str(path), **predictions.as_json(index, top)}), True


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
            f"{display_name(artist):<{widest}}  {100 * probability:5.1f} %  {'█' * round(_BAR * probability)}".rstrip()
            for artist, probability in predictions.ranking(index, top)
        ]
        if not predictions.in_distribution[index]:
            ranking.insert(0, "out of distribution, probably none of the known artists; the most similar:")
        yield "\n".join(f"{name if not number else ' ' * names}  {line}" for number, line in enumerate(ranking)), True


def shortened(name: str, width: int) -> str:
    """Returns a name without its middle if it is too long: the end distinguishes files."""
    return name if len(name) <= width else f"{name[: width // 3]}…{name[len(name) - (width - width // 3 - 1) :]}"
