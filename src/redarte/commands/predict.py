"""`redarte predict`: who painted these pictures, as far as a network can tell."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from redarte.pictures import images
from redarte.pictures.collection import checks
from redarte.pictures.collection import files as tree
from redarte.pictures.images import Picture, display_name
from redarte.runtime import workers
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError, printable
from redarte.runtime.sandbox import Sandbox

if TYPE_CHECKING:
    from redarte.inference.predictor import Predictions, Predictor

MODELS = Path("models")
_WIDEST = 48  # columns for a picture's name
_BAR = 20  # columns for a probability of 1

# A file, and what a network predicts for it (the predictions for its batch, and its place there) or why it cannot.
Result = tuple[Path, "tuple[Predictions, int] | UserError"]


def files(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """The files that are named and the pictures in the folders that are named, and how many other files are in these.

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
            if reason in tree.PASSED_OVER:
                others += 1
            else:
                found.append(path / name)
    return found, others


def predict(network: "Predictor", paths: Sequence[Path], max_pixels: float, sandbox: Sandbox) -> Iterator[Result]:
    """Predictions for files in their order; the next ones are decoded while the network works."""
    many = images.at_a_time(network.side)
    pictures = zip(paths, sandbox.map(reader(network, max_pixels), paths), strict=True)
    while decoded := list(islice(pictures, many)):
        whole = [picture for _, picture in decoded if not isinstance(picture, UserError)]
        predictions = network.predict([np.stack(whole)] if whole else [])
        place = iter(range(len(whole)))
        for path, picture in decoded:
            yield path, picture if isinstance(picture, UserError) else (predictions, next(place))


def reader(network: "Predictor", max_pixels: float) -> Callable[[Path | bytes], Picture]:
    """What reads a file that nobody has checked as a network sees it: `checks.read_square`."""
    return partial(
        checks.read_square, side=network.side, max_pixels=max_pixels, jpeg_quality=network.metadata.jpeg_quality
    )


def described(predictions: "Predictions", index: int, top: int) -> dict[str, Any]:
    """One picture's prediction for programs; probabilities are calibrated."""
    likeliest = [
        {"artist": artist, "probability": round(probability, 6)}
        for artist, probability in ranked(predictions, index, top)
    ]
    return {**likeliest[0], "top": likeliest, "in_distribution": bool(predictions.in_distribution[index])}


def ranked(predictions: "Predictions", index: int, top: int) -> list[tuple[str, float]]:
    """The likeliest artists of one picture with their probabilities, likeliest first."""
    probabilities = predictions.calibrated[index]
    # Ranked as `metrics.rank` does: probabilities may underflow to the same value.
    order = np.argsort(-predictions.logits[index], kind="stable")[:top]
    return [(predictions.metadata.artists[artist], float(probabilities[artist])) for artist in order]


def network_file(name: str | None) -> Path:
    """The .onnx file that a person means: by its path, by the network's name, or the one of params.yaml's `model`."""
    if name is None:
        from redarte import params

        name = params.load().model
    return Path(name) if name.endswith(".onnx") else MODELS / f"{name}.onnx"


def report(network_name: str | None, paths: Sequence[Path], top: int, for_programs: bool, max_pixels: float) -> int:
    """Prints the predictions of a network, and gives the number of files that could not be read.

    Args:
        network_name: as for `network_file`.

    Raises:
        UserError: there are no pictures, or no such network.
    """
    found, others = files(paths)
    if not found:
        raise UserError(f"there are no pictures in {', '.join(map(str, paths))}.")
    if others:
        print(f"redarte: {others} other files in these folders are no pictures", file=sys.stderr)
    failed = 0
    processes = 1 if len(found) == 1 else min(workers.count(), len(found))
    with Sandbox(processes, checks.most_memory(max_pixels), checks.__name__) as sandbox:
        # Imported here, while the first worker of the sandbox starts.
        from redarte.inference.predictor import Predictor

        network = Predictor(network_file(network_name))
        predicted = predict(network, found, max_pixels, sandbox)
        write: Callable[[str], None] = print
        if len(found) > images.at_a_time(network.side):
            from tqdm import tqdm

            # Above the bar.
            predicted, write = progress(predicted, len(found), "predicting"), tqdm.write
        lines = lines_of_json(predicted, top) if for_programs else lines_of_table(predicted, network, found, top)
        for line, is_prediction in lines:
            failed += not is_prediction
            write(line)
    return failed


def lines_of_json(predicted: Iterable[Result], top: int) -> Iterator[tuple[str, bool]]:
    """One object a line, and whether it is a prediction."""
    for path, result in predicted:
        if isinstance(result, UserError):
            yield json.dumps({"path": str(path), "error": str(result)}, ensure_ascii=False), False
        else:
            yield json.dumps({"path": str(path), **described(*result, top)}, ensure_ascii=False), True


def lines_of_table(
    predicted: Iterable[Result], network: "Predictor", paths: Sequence[Path], top: int
) -> Iterator[tuple[str, bool]]:
    """A few lines for each picture, and whether they are a prediction."""
    names = min(_WIDEST, max(len(printable(path)) for path in paths))
    widest = max(len(artist) for artist in network.metadata.artists)
    for path, result in predicted:
        name = shortened(printable(path), names).ljust(names)
        if isinstance(result, UserError):
            yield f"{name}  {result}", False
            continue
        predictions, index = result
        likeliest = [
            f"{display_name(artist):<{widest}}  {probability:6.1%}  {'█' * round(_BAR * probability)}".rstrip()
            for artist, probability in ranked(predictions, index, top)
        ]
        if not predictions.in_distribution[index]:
            likeliest.insert(0, "none of the painters I know; if one of them:")
        yield "\n".join(f"{name if not number else ' ' * names}  {line}" for number, line in enumerate(likeliest)), True


def shortened(name: str, width: int) -> str:
    """A name with its middle left out where it is too long: its end tells files apart."""
    return name if len(name) <= width else f"{name[: width // 3]}…{name[len(name) - (width - width // 3 - 1) :]}"
