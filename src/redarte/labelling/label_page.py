"""The page of `redarte label-issues`: one HTML file to look at suspicious images and to correct their artists."""

import hashlib
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from redarte.images import decoding, folders
from redarte.labelling.corrections_file import images_digest
from redarte.labelling.findings import Findings
from redarte.reporting import pages
from redarte.reporting.pages import as_uri
from redarte.runtime import outputs, paths, workers

_TEMPLATES = Path(__file__).parent
_SIDE, _SIMILAR_SIDE = 400, 160  # px of the images in the file
_QUALITY = 75
_SIMILAR = 2  # training images of the given and of the predicted artist
_OUTLIERS = 30


def write(findings: Findings) -> None:
    """Writes plots/label_issues.html."""
    outputs.write_text(paths.LABEL_PAGE, render(findings))


def render(findings: Findings) -> str:
    """Returns the page."""
    outliers = findings.outliers[:_OUTLIERS]
    shown = list(dict.fromkeys([*findings.worst, *(i for group in findings.across for i in group), *outliers]))
    similar = {index: _similar(findings, index) for index in shown}
    small = sorted({other for groups in similar.values() for _, others in groups for other in others})
    uris = _uris(findings, shown, _SIDE)
    small_uris = _uris(findings, small, _SIMILAR_SIDE)

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

    names = "\n".join(findings.sources[index] for index in shown)
    values = {
        "model": findings.model,
        "images": len(findings.judgement.ids),
        "artists": findings.judgement.artists,
        "disagreeing": findings.disagreeing,
        "worst": [card(index) for index in findings.worst],
        "across": [
            [card(index, "near-duplicate of " + ", ".join(_others(findings, group, index))) for index in group]
            for group in findings.across
        ],
        "outliers": [card(index, f"similarity {findings.judgement.similarity[index]:.2f}") for index in outliers],
        "same_artists": findings.judgement.same_artists(),
        "existing": [asdict(row) for row in findings.corrections],
        "images_digest": images_digest(),
        "today": f"{date.today():%Y-%m-%d}",
        # The browser keeps the decisions for this list of images.
        "digest": hashlib.blake2b(names.encode(), digest_size=8).hexdigest(),
    }
    return pages.render(_TEMPLATES / "label_page.html.j2", values)


def _similar(findings: Findings, index: int) -> list[tuple[int, list[int]]]:
    """The most similar training images of the given and of the predicted artist: (artist, images)."""
    judgement = findings.judgement
    candidates = np.array([split == "train" for split in findings.splits])
    artists = dict.fromkeys([int(judgement.labels[index]), int(judgement.predicted[index])])
    return [(artist, judgement.nearest(index, artist, candidates, _SIMILAR)) for artist in artists]


def _others(findings: Findings, group: list[int], index: int) -> list[str]:
    return [findings.sources[other] for other in group if other != index]


def _uris(findings: Findings, indices: list[int], side: int) -> dict[int, str]:
    """The images as data URIs, with their aspect ratio."""
    splits = sorted({findings.splits[index] for index in indices})
    files = {split: folders.files_by_id(paths.SPLIT / split) for split in splits}

    def uri(index: int) -> str:
        file = files[findings.splits[index]][findings.judgement.ids[index]]
        return as_uri(decoding.read_within(file, side), _QUALITY)

    made = joblib.Parallel(n_jobs=workers.count(), prefer="threads")(joblib.delayed(uri)(index) for index in indices)
    return dict(zip(indices, made, strict=True))
