"""What is suspicious about the labels of the project's images."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import joblib
import numpy as np

from redarte import params
from redarte.images import dataset, decoding, folders
from redarte.images.decoding import ImageArray
from redarte.images.splitting import SPLITS, corrections
from redarte.images.splitting.corrections import Correction
from redarte.inference.predictor import Predictor
from redarte.labelling import corrections_file
from redarte.labelling.judgement import Judgement, judge
from redarte.runtime import paths, workers
from redarte.runtime.errors import UserError, printable


@dataclass(frozen=True)
class Findings:
    """What is suspicious about the images of the project; images are indices into `judgement`.

    Attributes:
        sources: the identity of each image in the source, by which corrections.csv names it.
        splits: train, val or test, of each image.
        disagreeing: how many images are predicted to be another artist's.
        worst: the first of these, the lowest probability of their own artist first.
        groups: near-duplicates.
        across: those of them with different artists, without the images that corrections.csv names.
        outliers: the images that are unlike all others, the least similar first.
        corrections: the rows of corrections.csv. Their images are not among the others.
    """

    model: str
    judgement: Judgement
    sources: list[str]
    splits: list[str]
    disagreeing: int
    worst: list[int]
    groups: list[list[int]]
    across: list[list[int]]
    outliers: list[int]
    corrections: list[Correction]

    @cached_property
    def files(self) -> list[Path]:
        """The file of each image, below data/split."""
        found = {split: folders.files_by_id(paths.SPLIT / split) for split in sorted(set(self.splits))}
        return [found[split][name] for split, name in zip(self.splits, self.judgement.ids, strict=True)]

    def read(self, indices: Iterable[int], side: int) -> dict[int, ImageArray]:
        """Returns images that fit into a square, with their aspect ratio.

        Args:
            side: px.

        Returns:
            index -> (height, width, 3), uint8, RGB.
        """
        chosen = list(indices)
        found = joblib.Parallel(n_jobs=workers.count(), prefer="threads")(
            joblib.delayed(decoding.read_within)(self.files[index], side) for index in chosen
        )
        return dict(zip(chosen, found, strict=True))


def find(file: Path, top: int) -> Findings:
    """Predicts every image of the project by a classifier that did not see it, and searches for what is suspicious."""
    images = {row["image"]: row for row in corrections_file.listed()}
    model = Predictor(file)
    ids, splits, descriptors, features = described(model)
    missing = [image_id for image_id in ids if image_id not in images]
    if missing:
        raise UserError(f"{paths.IMAGES} does not list {printable(missing[0])}; run `dvc repro split`.")
    group_of = [images[image_id]["near_duplicates"] for image_id in ids]
    names = [group or image_id for group, image_id in zip(group_of, ids, strict=True)]
    judgement = judge(model.metadata.artists, ids, descriptors, features, names, params.load().seed)
    sources = [images[image_id]["source"] for image_id in ids]
    rows = corrections.read(paths.CORRECTIONS) if paths.CORRECTIONS.is_file() else []
    named = corrections_file.by_source(rows)
    decided = {index for index, source in enumerate(sources) if source in named}
    groups: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(group_of):
        if group:
            groups[group].append(index)
    open_groups = [[index for index in group if index not in decided] for group in groups.values()]
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
        list(groups.values()),
        [group for group in open_groups if len({int(judgement.labels[index]) for index in group}) > 1],
        [index for index in judgement.outliers().tolist() if index not in decided],
        rows,
    )


def described(model: Predictor) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Describes all images of the project.

    A descriptor is the sum of the feature maps over all positions. For a model that ends in pooling and a dense layer,
    this is the input of that layer, which separates artists better than the embedding.

    Returns:
        The identities and splits of n images, their descriptors (n, m), and their embeddings (n, features), both
        float32.
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
