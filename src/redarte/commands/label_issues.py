"""`redarte label-issues`: images whose artist is probably wrong, as a list and as a page to correct them."""

from collections.abc import Iterator

import numpy as np

from redarte import params
from redarte.images.folders import display_name
from redarte.labelling import findings, label_page, map_page
from redarte.labelling.findings import Findings
from redarte.runtime import paths
from redarte.runtime.console import json_line, say
from redarte.runtime.errors import printable

_PRINTED, _ON_PAGE = 20, 200  # images
_MOST = 10  # lines for each of the other findings


def report(model_name: str | None, top: int | None, as_json: bool) -> None:
    """Prints the images whose artist is probably wrong, and what else is suspicious, and writes the page and the map.

    Args:
        top: how many images; None: 20 in print, 200 on the page and as JSON.
    """
    found = findings.find(params.model_file(model_name), top or _ON_PAGE)
    if as_json:
        for index in found.worst:
            say(json_line(row(found, index)))
        return
    label_page.write(found)
    map_page.write(found)
    say("\n".join(_text(found, top or _PRINTED)))
    say(f"\nTo look at them and to correct them, open {paths.LABEL_PAGE} in a browser.")
    say(f"All images, similar ones beside each other: {paths.MAP_PAGE}")


def row(findings: Findings, index: int) -> dict[str, object]:
    """Returns the JSON object of an image."""
    judgement = findings.judgement
    return {
        "image": findings.sources[index],
        "artist": judgement.artists[judgement.labels[index]],
        "probability": round(float(judgement.self_confidence[index]), 4),
        "predicted": judgement.artists[judgement.predicted[index]],
        "split": findings.splits[index],
    }


def _text(findings: Findings, top: int) -> Iterator[str]:
    judgement = findings.judgement
    yield (
        f"{findings.disagreeing} of {len(judgement.ids)} images are predicted to be another artist's, by classifiers "
        f"that did not see them, on the descriptors of {findings.model}."
    )
    if findings.worst:
        yield "Lowest probability of their own artist:"
    for index in findings.worst[:top]:
        found = row(findings, index)
        yield (
            f"{_percent(float(judgement.self_confidence[index])):>7}  {printable(found['image'])}  {found['split']}  "
            f"predicted: {display_name(printable(found['predicted']))}"
        )
    sources = findings.sources
    if findings.corrections:
        yield from ("", f"{len(findings.corrections)} images in {paths.CORRECTIONS} are left out.")
    unjudged = [sources[index] for index in np.flatnonzero(~judgement.judged)]
    yield from _section("not judged, because their artist has too few images", unjudged)
    across = [" = ".join(sources[index] for index in group) for group in findings.across]
    yield from _section("near-duplicates of different artists", across)
    same = [f"{one} and {other} ({share:.0%})" for one, other, share in judgement.same_artists()]
    yield from _section("artists whose images are predicted to be each other's, perhaps one artist", same)
    unlike = [f"{sources[index]} ({judgement.similarity[index]:.2f})" for index in findings.outliers]
    yield from _section("images unlike all others (cosine similarity to the fifth most similar)", unlike)


def _percent(probability: float) -> str:
    return "<0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
        yield from ("", f"{title}:", *(f"  {printable(line)}" for line in [*lines[:_MOST], *more]))
