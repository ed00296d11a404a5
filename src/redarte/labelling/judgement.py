"""Images whose artist is probably wrong, found by models that did not see them.

The images are split into folds; a logistic regression that is fitted to the descriptors of the other folds gives the
probabilities of a fold's images. An image is suspicious if the probability of its given artist (its self-confidence) is
low: C. Northcutt and others, "Confident learning: estimating uncertainty in dataset labels" (2021).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from redarte.runtime.console import progress
from redarte.runtime.errors import UserError

_FOLDS = 5
_COMPONENTS = 300  # of the descriptors, which have up to 12,000 features
_MIN_VARIANCE = 1e-3  # relative to the mean variance: a feature that hardly varies carries no information
# Of descriptors with a mean squared length of 1: from 3 to 30 the precision changes by 0.03 at most, for each model
# (docs/label-issues.md).
_C = 5.0
_MAX_ITERATIONS = 300
_NEIGHBOURS = 5
_BLOCK = 1000  # images compared with all others at once
_MIN_LENGTH = 1e-12  # of a divisor
_SAME_ARTIST = 0.25  # of both artists' images are predicted to be the other's


@dataclass(frozen=True)
class Judgement:
    """What out-of-sample predictions say about n labelled images.

    Attributes:
        ids: "<artist>/<stem>" of each image.
        labels: (n,), int: the given artists, as indices into `artists`.
        probabilities: (n, artists), float64, out of sample; rows add up to 1.
        judged: (n,), bool: whether the predicting classifier saw other images of the given artist.
        embeddings: (n, features), float32, L2-normalised.
    """

    artists: list[str]
    ids: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    judged: np.ndarray
    embeddings: np.ndarray

    @property
    def self_confidence(self) -> np.ndarray:
        """The probability of each image's given artist: (n,)."""
        return np.asarray(self.probabilities[np.arange(len(self.ids)), self.labels])

    @property
    def predicted(self) -> np.ndarray:
        """The most probable artist of each image: (n,), int."""
        return np.asarray(self.probabilities.argmax(axis=1))

    def worst_first(self) -> np.ndarray:
        """Returns the indices of the judged images, the lowest self-confidence first."""
        order = np.argsort(self.self_confidence, kind="stable")
        return np.asarray(order[self.judged[order]])

    @cached_property
    def similarity(self) -> np.ndarray:
        """The cosine similarity of each image to the fifth most similar other image: (n,), float32, -1 to 1."""
        count = min(_NEIGHBOURS, len(self.ids) - 1)
        result = np.empty(len(self.ids), np.float32)
        for start in range(0, len(self.ids), _BLOCK):
            block = self.embeddings[start : start + _BLOCK] @ self.embeddings.T
            block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
            result[start : start + len(block)] = np.partition(block, -count, axis=1)[:, -count]
        return result

    def outliers(self) -> np.ndarray:
        """Returns the indices of the images that are unlike all others, the least similar first.

        Their similarity is more than three interquartile ranges below the first quartile (J. Tukey, "Exploratory data
        analysis", 1977).
        """
        first, third = np.quantile(self.similarity, [0.25, 0.75])
        order = np.argsort(self.similarity, kind="stable")
        return np.asarray(order[self.similarity[order] < first - 3 * (third - first)])

    def nearest(self, index: int, artist: int, candidates: np.ndarray, most: int) -> list[int]:
        """Returns the indices of the images of an artist that are most similar to an image, most similar first.

        Args:
            candidates: (n,), bool.
        """
        others = np.flatnonzero(candidates & (self.labels == artist))
        others = others[others != index]
        order = np.argsort(-(self.embeddings[others] @ self.embeddings[index]), kind="stable")[:most]
        return [int(other) for other in others[order]]

    def same_artists(self) -> list[tuple[str, str, float]]:
        """Returns pairs of artists that may be one artist under two names.

        Returns:
            Both names, and the smaller of the two shares of images that are predicted to be the other's, the largest
            first.
        """
        count = len(self.artists)
        confusion = np.zeros((count, count))
        np.add.at(confusion, (self.labels, self.predicted), 1)
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        mutual = np.triu(np.minimum(shares, shares.T), 1)
        pairs = [(self.artists[i], self.artists[j], float(mutual[i, j])) for i, j in np.argwhere(mutual > _SAME_ARTIST)]
        return sorted(pairs, key=lambda pair: -pair[2])


def judge(
    artists: list[str], ids: list[str], descriptors: np.ndarray, features: np.ndarray, groups: list[str], seed: int
) -> Judgement:
    """Predicts every image by a classifier that did not see it.

    Args:
        ids: "<artist>/<stem>" of n images.
        descriptors: (n, m), float32: the classifier is fitted to their principal components.
        features: (n, features), float32: the embeddings, for the similarity.
    """
    index_of = {artist: index for index, artist in enumerate(artists)}
    labels = np.array([index_of[image_id.partition("/")[0]] for image_id in ids])
    counts = np.bincount(labels)
    if counts.max() < _FOLDS or (counts > 0).sum() < 2 or len(set(groups)) < _FOLDS:
        raise UserError(
            f"label-issues needs two artists, one of them with {_FOLDS} images or more; near-duplicates count as one."
        )
    components = principal_components(descriptors, seed)
    probabilities = np.zeros((len(ids), len(artists)))
    judged = np.zeros(len(ids), bool)
    for train, held_out in progress(_folds(labels, groups, seed), _FOLDS, "predicting held-out images", "folds"):
        if len(set(labels[train])) < 2:
            continue
        model = classifier().fit(components[train], labels[train])
        probabilities[np.ix_(held_out, model.classes_)] = model.predict_proba(components[held_out])
        judged[held_out] = np.isin(labels[held_out], model.classes_)
    return Judgement(artists, ids, labels, probabilities, judged, normalise(features))


def classifier() -> LogisticRegression:
    """Returns the classifier that is fitted to the components of the training folds."""
    return LogisticRegression(C=_C, max_iter=_MAX_ITERATIONS)


def normalise(features: np.ndarray) -> np.ndarray:
    """Returns L2-normalised rows; a row of zeros stays as it is.

    Args:
        features: (n, features), float32.
    """
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _MIN_LENGTH))


def principal_components(descriptors: np.ndarray, seed: int) -> np.ndarray:
    """Returns the principal components of the standardised descriptors: (n, components), mean squared length 1.

    Args:
        descriptors: (n, m), float32.
    """
    variance = descriptors.var(axis=0)
    scale = np.sqrt(variance + max(_MIN_VARIANCE * float(variance.mean()), _MIN_LENGTH))
    standardised = (descriptors - descriptors.mean(axis=0)) / scale
    # scikit-learn's default normaliser, an LU decomposition, takes minutes here.
    fitted = PCA(
        min(_COMPONENTS, *descriptors.shape), svd_solver="randomized", iterated_power=2,
        power_iteration_normalizer="QR", random_state=seed,
    ).fit_transform(standardised)  # fmt: skip
    return np.asarray(fitted / max(float(np.sqrt((fitted**2).sum(axis=1).mean())), _MIN_LENGTH))


def _folds(labels: np.ndarray, groups: list[str], seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with warnings.catch_warnings():
        # Of artists with fewer images than folds; `judged` says which images are concerned.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folds = list(StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed).split(labels, labels, groups))
    yield from folds
