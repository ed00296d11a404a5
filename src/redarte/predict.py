"""`redarte predict`: who painted these pictures, as far as a network can tell."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from redarte import paintings, workers
from redarte.console import progress
from redarte.errors import UserError
from redarte.explanations import spoken
from redarte.prediction import Answers, Network
from redarte.sandbox import Sandbox

_WIDEST = 48  # columns for a picture's name
_BAR = 20  # columns for a probability of 1

# A file, and what a network answers to it (the answers to its batch, and its place there) or why it cannot.
Answered = tuple[Path, tuple[Answers, int] | UserError]


def files(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and those in the folders that are named, in order; a folder's own files sorted."""
    return [
        file
        for path in paths
        for file in (sorted(entry for entry in path.rglob("*") if not entry.is_dir()) if path.is_dir() else [path])
    ]


def answer(network: Network, paths: Sequence[Path], max_pixels: float) -> Iterator[Answered]:
    """Answers to files in their order; the next ones are decoded while the network works."""
    many = paintings.at_a_time(network.side)
    read = partial(paintings.read_strange, side=network.side, max_pixels=max_pixels)
    with Sandbox(min(workers.count(), max(len(paths), 1)), paintings.most_memory(max_pixels)) as sandbox:
        pictures = zip(paths, sandbox.over(read, paths), strict=True)
        while decoded := list(islice(pictures, many)):
            whole = [picture for _, picture in decoded if not isinstance(picture, UserError)]
            answers = network.answers([np.stack(whole)] if whole else [])
            place = iter(range(len(whole)))
            for path, picture in decoded:
                yield path, picture if isinstance(picture, UserError) else (answers, next(place))


def described(answers: Answers, index: int, top: int) -> dict[str, Any]:
    """One picture's answer for programs; probabilities are calibrated."""
    likeliest = [
        {"artist": artist, "probability": round(probability, 6)} for artist, probability in ranked(answers, index, top)
    ]
    return {**likeliest[0], "top": likeliest, "known": bool(answers.known[index])}


def ranked(answers: Answers, index: int, top: int) -> list[tuple[str, float]]:
    """The likeliest artists of one picture with their probabilities, likeliest first."""
    probabilities = answers.probabilities[index]
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(answers.card.artists[artist], float(probabilities[artist])) for artist in order]


def report(network: Network, paths: Sequence[Path], top: int, for_programs: bool, max_pixels: float) -> int:
    """Prints the answers, and gives the number of files that could not be answered.

    Raises:
        UserError: there are no files.
    """
    found = files(paths)
    if not found:
        raise UserError(f"there are no files in {', '.join(map(str, paths))}.")
    answered = answer(network, found, max_pixels)
    if len(found) > paintings.at_a_time(network.side):
        answered = progress(answered, len(found), "predicting")
    write = lines_of_json(answered, top) if for_programs else lines_of_table(answered, network, found, top)
    failed = 0
    for line, is_answer in write:
        failed += not is_answer
        # Above the bar, where there is one.
        tqdm.write(line)
    return failed


def lines_of_json(answered: Iterable[Answered], top: int) -> Iterator[tuple[str, bool]]:
    """One object a line, and whether it is an answer."""
    for path, result in answered:
        if isinstance(result, UserError):
            yield json.dumps({"path": str(path), "error": str(result)}, ensure_ascii=False), False
        else:
            yield json.dumps({"path": str(path), **described(*result, top)}, ensure_ascii=False), True


def lines_of_table(
    answered: Iterable[Answered], network: Network, paths: Sequence[Path], top: int
) -> Iterator[tuple[str, bool]]:
    """A few lines for each picture, and whether they are an answer."""
    names = min(_WIDEST, max(len(str(path)) for path in paths))
    widest = max(len(artist) for artist in network.card.artists)
    for path, result in answered:
        name = shortened(str(path), names).ljust(names)
        if isinstance(result, UserError):
            yield f"{name}  {result}", False
            continue
        answers, index = result
        likeliest = [
            f"{spoken(artist):<{widest}}  {probability:6.1%}  {'█' * round(_BAR * probability)}".rstrip()
            for artist, probability in ranked(answers, index, top)
        ]
        if not answers.known[index]:
            likeliest.insert(0, "none of the painters I know; if one of them:")
        yield "\n".join(f"{name if not number else ' ' * names}  {line}" for number, line in enumerate(likeliest)), True


def shortened(name: str, width: int) -> str:
    """A name with its middle left out where it is too long: its end tells files apart."""
    return name if len(name) <= width else f"{name[: width // 3]}…{name[len(name) - (width - width // 3 - 1) :]}"
