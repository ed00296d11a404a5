"""Predictions -> numbers. Arrays in, numbers out: no files, no TensorFlow."""

from collections import Counter

import numpy as np
from sklearn.metrics import f1_score, log_loss, top_k_accuracy_score


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The share of pictures whose likeliest artist is the true one.

    Args:
        truth: (n,), the true artist of each picture, as its place in the network's outputs.
        probabilities: (n, artists), each row adding up to 1.
    """
    return float(np.mean(probabilities.argmax(axis=1) == truth))


def top_k_accuracy(truth: np.ndarray, probabilities: np.ndarray, k: int = 5) -> float:
    """The share of pictures whose true artist is among the k likeliest; 1.0 where there are no more than k."""
    artists = probabilities.shape[1]
    if artists <= k:
        return 1.0
    return float(top_k_accuracy_score(truth, probabilities, k=k, labels=np.arange(artists)))


def macro_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean F1 over the artists that have pictures here, each counting the same."""
    return float(
        f1_score(truth, probabilities.argmax(axis=1), average="macro", labels=np.unique(truth), zero_division=0)
    )


def cross_entropy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean of -ln(the probability given to the true artist), without any penalty on weights."""
    return float(log_loss(truth, probabilities, labels=np.arange(probabilities.shape[1])))


def rank(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """At which place, from 1, each picture's true artist stands among the answers: (n,), int64."""
    of_truth = np.take_along_axis(probabilities, truth[:, None], axis=1)
    return np.asarray(1 + (probabilities > of_truth).sum(axis=1))


def recall(truth: np.ndarray, predicted: np.ndarray, artists: int) -> np.ndarray:
    """Each artist's recall, the share of the artist's pictures that are recognised: (artists,), NaN for none."""
    pictures = np.bincount(truth, minlength=artists).astype(float)
    right = np.bincount(truth[truth == predicted], minlength=artists)
    return np.asarray(np.divide(right, pictures, out=np.full(artists, np.nan), where=pictures > 0))


def confusion(truth: np.ndarray, predicted: np.ndarray, artists: int) -> np.ndarray:
    """Counts of pictures: (artists, artists), rows are the truth, columns the answers."""
    counts = np.zeros((artists, artists), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def confused_pairs(counts: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """The pairs of artists taken for each other most often: (one, other, pictures either way), most first."""
    both = np.triu(counts + counts.T, k=1)
    pairs = [(int(i), int(j), int(both[i, j])) for i, j in zip(*np.nonzero(both), strict=True)]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]


def largest_class_accuracy(train: list[str], test: list[str]) -> float:
    """The accuracy on test of always answering the artist with the most training pictures.

    Args:
        train, test: the artist of each picture.
    """
    counts = Counter(train)
    largest = min(counts, key=lambda artist: (-counts[artist], artist))
    return float(np.mean([artist == largest for artist in test]))
