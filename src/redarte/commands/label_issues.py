"""`redarte label-issues`: images whose artist is probably wrong, as a list and as a page to correct them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redarte import params
from redarte.commands import corrections_file
from redarte.commands.corrections_file import CORRECTIONS, IMAGES, PAGE, listed
from redarte.commands.predict import json_line, model_file
from redarte.evaluation import label_issues
from redarte.evaluation.label_issues import Judgement
from redarte.images import dataset
from redarte.images.decoding.folders import display_name
from redarte.images.splitting import corrections
from redarte.images.splitting.corrections import Correction
from redarte.inference.predictor import Predictor
from redarte.runtime.console import say
from redarte.runtime.errors import UserError, printable

SPLITS = ("train", "val", "test")
_PRINTED, _ON_PAGE = 20, 200  # images
_MOST = 10  # lines for each of the other findings


@dataclass(frozen=True)
class Findings:
    """What is suspicious about the images of the project; images are indices into `judgement`.

    Attributes:
        model: the name of the model.
        judgement: the predictions.
        sources: the identity of each image in the source, by which corrections.csv names it.
        splits: train, val or test, of each image.
        disagreeing: how many images are predicted to be another artist's.
        worst: the first of these, the lowest probability of their own artist first.
        across: groups of near-duplicates with different artists.
        outliers: the images that are unlike all others, the least similar first.
        corrections: the rows of corrections.csv. Their images are not among the others.
    """

    model: str
    judgement: Judgement
    sources: list[str]
    splits: list[str]
    disagreeing: int
    worst: list[int]
    across: list[list[int]]
    outliers: list[int]
    corrections: list[Correction]


def report(model_name: str | None, top: int | None, as_json: bool) -> None:
    """Prints the images whose artist is probably wrong, and what else is suspicious, and writes the page.

    Args:
        top: how many images; None: 20 in print, 200 on the page and as JSON.

    Raises:
        UserError: the model or the images are missing, there are too few images, or corrections.csv cannot be read.
    """
    findings = find(model_file(model_name), top or _ON_PAGE)
    if as_json:
        for index in findings.worst:
            say(json_line(row(findings, index)))
        return
    from redarte.commands import label_issues_page

    label_issues_page.write(findings)
    say("\n".join(_text(findings, top or _PRINTED)))
    say(f"\nTo look at them and to correct them, open {PAGE} in a browser.")


def find(file: Path, top: int) -> Findings:
    """Predicts every image of the project by a classifier that did not see it, and searches for what is suspicious.

    Returns:
        What was found.

    Raises:
        UserError: as `report`.
    """
    images = {row["image"]: row for row in listed()}
    model = Predictor(file)
    ids, splits, descriptors, features = described(model)
    missing = [image_id for image_id in ids if image_id not in images]
    if missing:
        raise UserError(f"{IMAGES} does not list {printable(missing[0])}; run `dvc repro split`.")
    group_of = [images[image_id]["near_duplicates"] for image_id in ids]
    names = [group or image_id for group, image_id in zip(group_of, ids, strict=True)]
    judgement = label_issues.judge(model.metadata.artists, ids, descriptors, features, names, params.load().seed)
    sources = [images[image_id]["source"] for image_id in ids]
    rows = corrections.read(CORRECTIONS) if CORRECTIONS.is_file() else []
    named = corrections_file.by_source(rows)
    decided = {index for index, source in enumerate(sources) if source in named}
    groups: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(group_of):
        if group and index not in decided:
            groups[group].append(index)
    worst = [
        index
        for index in judgement.worst_first().tolist()
        if index not in decided and judgement.predicted[index] != judgement.labels[index]
    ]
    return Findings(
        model.metadata.model,
        judgement,
        sources,
        splits,
        len(worst),
        worst[:top],
        [group for group in groups.values() if len({int(judgement.labels[index]) for index in group}) > 1],
        [index for index in judgement.outliers().tolist() if index not in decided],
        rows,
    )


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


def described(model: Predictor) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Describes all images of the project.

    A descriptor is the sum of the feature maps over all positions. For a model that ends in pooling and a dense layer,
    this is the input of that layer, which separates artists better than the embedding.

    Returns:
        The identities and splits of n images, their descriptors (n, m), and their embeddings (n, features), both
        float32.

    Raises:
        UserError: a folder of images is missing, or has artists that the model does not know.
    """
    ids: list[str] = []
    splits: list[str] = []
    descriptors, features = [], []
    for split in SPLITS:
        images = dataset.load_as_trained(split, model.metadata.artists, model.side, model.metadata.jpeg_quality)
        of_split = model.described(images, f"describing {split}")
        descriptors.append(of_split[0])
        features.append(of_split[1])
        ids += images.ids
        splits += [split] * len(images)
    return ids, splits, np.concatenate(descriptors), np.concatenate(features)


def _text(findings: Findings, top: int) -> Iterator[str]:
    judgement = findings.judgement
    yield (
        f"{findings.disagreeing} of {len(judgement.ids)} images are predicted to be another artist's, by classifiers "
        f"that did not see them, on the descriptors of {findings.model}."
    )
    if findings.worst:
        yield "Lowest probability of their own artist:"
    for found in (row(findings, index) for index in findings.worst[:top]):
        yield (
            f"{found['probability']:7.2%}  {printable(found['image'])}  {found['split']}  "
            f"predicted: {display_name(printable(found['predicted']))}"
        )
    sources = findings.sources
    if findings.corrections:
        yield from ("", f"{len(findings.corrections)} images in {CORRECTIONS} are left out.")
    unjudged = [sources[index] for index in np.flatnonzero(~judgement.judged)]
    yield from _section("not judged, because their artist has too few images", unjudged)
    across = [" = ".join(sources[index] for index in group) for group in findings.across]
    yield from _section("near-duplicates of different artists", across)
    same = [f"{one} and {other} ({share:.0%})" for one, other, share in judgement.same_artists()]
    yield from _section("artists whose images are predicted to be each other's, perhaps one artist", same)
    unlike = [f"{sources[index]} ({judgement.similarity[index]:.2f})" for index in findings.outliers]
    yield from _section("images unlike all others (cosine similarity to the fifth most similar)", unlike)


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
        yield from ("", f"{title}:", *(f"  {printable(line)}" for line in [*lines[:_MOST], *more]))
