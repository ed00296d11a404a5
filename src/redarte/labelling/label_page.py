"""The page of `redarte label-issues`: one HTML file to look at suspicious images and to correct their artists."""

import hashlib
from dataclasses import asdict
from datetime import date
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from redarte.images import duplicates
from redarte.images.decoding import ImageArray
from redarte.labelling.corrections_file import images_digest
from redarte.labelling.findings import Findings
from redarte.reporting import pages
from redarte.reporting.pages import as_uri
from redarte.runtime import outputs, paths

_TEMPLATES = Path(__file__).parent
_SIDE, _SIMILAR_SIDE = 400, 160  # px of the images in the file
_QUALITY = 75
_SIMILAR = 2  # training images of the given and of the predicted artist
_OUTLIERS = 30
_PAIRS, _LINES = 3, 25  # pairs of a group that are drawn, and lines of a pair
_GAP = 16  # px between its images


def write(findings: Findings) -> None:
    """Writes plots/label_issues.html."""
    outputs.write_text(paths.LABEL_PAGE, render(findings))


def render(findings: Findings) -> str:
    """Returns the page."""
    listed = shown(findings)
    similar = {index: _similar(findings, index) for index in listed}
    small = sorted({other for groups in similar.values() for _, others in groups for other in others})
    uris, small_uris = (
        {index: as_uri(image, _QUALITY) for index, image in findings.read(some, side).items()}
        for some, side in ((listed, _SIDE), (small, _SIMILAR_SIDE))
    )

    def card(index: int, note: str = "") -> dict[str, Any]:
        judgement, source = findings.judgement, findings.sources[index]
        predicted, probability = judgement.predicted[index], float(judgement.self_confidence[index])
        return {
            "source": source,
            "artist": judgement.artists[judgement.labels[index]],
            "probability": probability,
            "predicted": judgement.artists[predicted],
            "predicted_probability": float(judgement.probabilities[index, predicted]),
            "split": findings.splits[index],
            "note": note,
            "reason": f"label-issues {findings.model} {probability:.4f}",
            "uri": uris[index],
            "similar": [
                {
                    "artist": judgement.artists[artist],
                    "images": [{"source": findings.sources[other], "uri": small_uris[other]} for other in others],
                }
                for artist, others in similar[index]
            ],
        }

    names = "\n".join(findings.sources[index] for index in listed)
    values = {
        "model": findings.model,
        "images": len(findings.judgement.ids),
        "artists": findings.judgement.artists,
        "disagreeing": findings.disagreeing,
        "worst": [card(index) for index in findings.worst],
        "across": [
            {
                "pairs": _pairs(findings, group),
                "images": [
                    card(index, "near-duplicate of " + ", ".join(_others(findings, group, index))) for index in group
                ],
            }
            for group in findings.across
        ],
        "outliers": [
            card(index, f"similarity {findings.judgement.similarity[index]:.2f}")
            for index in findings.outliers[:_OUTLIERS]
        ],
        "same_artists": findings.judgement.same_artists(),
        "existing": [asdict(row) for row in findings.corrections],
        "images_digest": images_digest(),
        "today": f"{date.today():%Y-%m-%d}",
        # The browser keeps the decisions for this list of images.
        "digest": hashlib.blake2b(names.encode(), digest_size=8).hexdigest(),
    }
    return pages.render(_TEMPLATES / "label_page.html.j2", values)


def shown(findings: Findings) -> list[int]:
    """Returns the images that have a row on the page, each once."""
    across = (index for group in findings.across for index in group)
    return list(dict.fromkeys([*findings.worst, *across, *findings.outliers[:_OUTLIERS]]))


def _similar(findings: Findings, index: int) -> list[tuple[int, list[int]]]:
    """The most similar training images of the given and of the predicted artist: (artist, images)."""
    judgement = findings.judgement
    candidates = np.array([split == "train" for split in findings.splits])
    artists = dict.fromkeys([int(judgement.labels[index]), int(judgement.predicted[index])])
    return [(artist, judgement.nearest(index, artist, candidates, _SIMILAR)) for artist in artists]


def _others(findings: Findings, group: list[int], index: int) -> list[str]:
    return [findings.sources[other] for other in group if other != index]


def _pairs(findings: Findings, group: list[int]) -> list[str]:
    """Pairs of near-duplicates of two artists, as data URIs: side by side, with lines between points that match."""
    labels, images = findings.judgement.labels, findings.read(group, _SIDE)
    pairs = [(images[one], images[other]) for one, other in combinations(group, 2) if labels[one] != labels[other]]
    matched = ((one, other, duplicates.matches(one, other)) for one, other in pairs)
    drawn = (_draw(one, other, points) for one, other, points in matched if points.size)
    return [as_uri(image, _QUALITY) for image in islice(drawn, _PAIRS)]


def _draw(one: ImageArray, other: ImageArray, points: np.ndarray) -> ImageArray:
    """Two images side by side, with lines between their points; see `duplicates.matches`."""
    start = one.shape[1] + _GAP
    canvas = np.full((max(len(one), len(other)), start + other.shape[1], 3), 255, np.uint8)
    canvas[: len(one), : one.shape[1]] = one
    canvas[: len(other), start:] = other
    first, second = points[0] * one.shape[1::-1], points[1] * other.shape[1::-1] + [start, 0]
    chosen = np.linspace(0, len(first) - 1, min(len(first), _LINES)).round().astype(int)
    ends = np.concatenate([first, second], axis=1)[np.argsort(first[:, 1])][chosen].round().astype(int).tolist()
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        for x, y, to_x, to_y in ends:
            cv2.line(canvas, (x, y), (to_x, to_y), colour, thickness, cv2.LINE_AA)
    return canvas
