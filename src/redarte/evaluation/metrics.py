"""Predictions -> numbers. Arrays in, numbers out: no files, and no library that takes a second to import."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

MOST_SHOWN = 60  # artists of a confusion matrix or a list of recalls: more cannot be read, and take gigabytes to draw


def accuracy(truth: np.ndarray, logits: np.ndarray) -> float:
    """The share of images whose predicted artist, the one with the highest logit, is the true one.

    Args:
        truth: (n,), the true artist of each image, as an index into the classes.
        logits: (n, artists). Not probabilities: several of these may underflow to the same value.
    """
    return float(np.mean(logits.argmax(axis=1) == truth))


def top_k_accuracy(truth: np.ndarray, logits: np.ndarray, k: int = 5) -> float:
    """The share of images whose true artist has one of the k highest logits; 1.0 where there are at most k artists.

    Args:
        truth, logits: as for `accuracy`.
    """
    return float(np.mean(rank(truth, logits) <= k))


def macro_f1(truth: np.ndarray, predicted: np.ndarray, artists: int) -> float:
    """The mean F1 over the artists that have pictures here, each counting the same.

    Args:
        truth, predicted: (n,), artists by their number.
        artists: how many there are.
    """
    right, of_truth, of_prediction = _counts(truth, predicted, artists)
    tested = of_truth > 0
    return float(np.mean(2 * right[tested] / (of_truth + of_prediction)[tested]))


def cross_entropy(truth: np.ndarray, logits: np.ndarray) -> float:
    """The mean of -ln(the probability given to the true artist), without any penalty on weights.

    Args:
        truth, logits: as for `accuracy`.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    of_truth = np.take_along_axis(shifted, truth[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - of_truth).mean())


def rank(truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The rank, from 1, of each image's true artist among the predictions.

    Of artists with equal logits the first class ranks first, as in argmax: rank 1 is the predicted artist.

    Args:
        truth, logits: as for `accuracy`.

    Returns:
        (n,), int64.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    return np.asarray(1 + (order == truth[:, None]).argmax(axis=1))


def recall(truth: np.ndarray, predicted: np.ndarray, artists: int) -> np.ndarray:
    """Each artist's recall, the share of the artist's pictures that are recognised: (artists,), NaN for none."""
    pictures = np.bincount(truth, minlength=artists).astype(float)
    right = np.bincount(truth[truth == predicted], minlength=artists)
    return np.asarray(np.divide(right, pictures, out=np.full(artists, np.nan), where=pictures > 0))


def confusion(truth: np.ndarray, predicted: np.ndarray, artists: int) -> np.ndarray:
    """Counts of pictures: (artists, artists), rows are the truth, columns the predictions."""
    counts = np.zeros((artists, artists), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def shares_of_rows(counts: np.ndarray) -> np.ndarray:
    """Each row of a confusion matrix as shares of its pictures: (artists, artists), zeros where there are none."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1), 1)[:, None])


def best_recognised_first(counts: np.ndarray) -> np.ndarray:
    """The order of artists by their recall in a confusion matrix, those without pictures last: (artists,), int64."""
    without = counts.sum(axis=1) == 0
    return np.lexsort((np.arange(len(counts)), -shares_of_rows(counts).diagonal(), without))


def confused_pairs(counts: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """The pairs of artists taken for each other most often: (one, other, pictures either way), most first."""
    both = np.triu(counts + counts.T, k=1)
    pairs = [(int(i), int(j), int(both[i, j])) for i, j in zip(*np.nonzero(both), strict=True)]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]


def most_confused(counts: np.ndarray, most: int = MOST_SHOWN) -> np.ndarray:
    """Artists for a confusion matrix that can be read: all, or those of the most confused pairs where they are more.

    Returns:
        (at most `most`,), int64, best recognised first.
    """
    order = best_recognised_first(counts)
    if len(order) <= most:
        return order
    of_pairs = (artist for one, other, _ in confused_pairs(counts, most) for artist in (one, other))
    chosen = list(dict.fromkeys([*of_pairs, *order.tolist()]))[:most]
    return np.array([artist for artist in order if artist in chosen])


def largest_class_accuracy(train: list[str], test: list[str]) -> float:
    """The accuracy on test of always answering the artist with the most training pictures.

    Args:
        train, test: the artist of each picture.
    """
    counts = Counter(train)
    largest = min(counts, key=lambda artist: (-counts[artist], artist))
    return float(np.mean([artist == largest for artist in test]))


@dataclass(frozen=True)
class Reliability:
    """How often predictions of one confidence are right.

    Attributes:
        confidence: (bins,), the mean probability of the predictions in each bin; NaN for none.
        accuracy: (bins,), the share of them that is right; NaN for none.
        pictures: (bins,), how many they are.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    pictures: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean of |confidence - accuracy|, each picture counting the same."""
        gaps = np.abs(self.confidence - self.accuracy)[self.pictures > 0]
        return float((gaps * self.pictures[self.pictures > 0]).sum() / self.pictures.sum())


def reliability(right: np.ndarray, confidence: np.ndarray, bins: int = 10) -> Reliability:
    """Sorts predictions into bins of equal width by their confidence (Naeini et al., 2015; Guo et al., 2017).

    Args:
        right: (n,), bool.
        confidence: (n,), the probability of each prediction, above 0, to 1.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    pictures = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right))
    with np.errstate(invalid="ignore"):
        of_confidence, of_right = (total / np.where(pictures, pictures, np.nan) for total in sums)
    return Reliability(of_confidence, of_right, pictures)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a bootstrap's values: (low, high)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def bootstrap(
    truth: np.ndarray, predicted: np.ndarray, ranks: np.ndarray, artists: int, resamples: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of accuracy, top-5 accuracy and macro-F1: the test pictures drawn again, with replacement.

    Args:
        truth, predicted: (n,), artists by their number.
        ranks: (n,), the place of the true artist among the predictions, from 1.

    Returns:
        "accuracy", "top5_accuracy", "macro_f1": (low, high).
    """
    draws = np.random.default_rng(seed).integers(0, len(truth), (resamples, len(truth)))
    return {
        "accuracy": interval((predicted == truth)[draws].mean(axis=1)),
        "top5_accuracy": interval((ranks <= 5)[draws].mean(axis=1)),
        "macro_f1": interval(np.array([macro_f1(truth[draw], predicted[draw], artists) for draw in draws])),
    }


def per_artist(truth: np.ndarray, predicted: np.ndarray, artists: int) -> dict[str, np.ndarray]:
    """Each artist's "precision", "recall" and "f1" (NaN where they have no meaning) and "pictures": (artists,)."""
    right, of_truth, of_prediction = _counts(truth, predicted, artists)
    return {
        "precision": np.where(of_prediction > 0, right / np.maximum(of_prediction, 1), np.nan),
        "recall": recall(truth, predicted, artists),
        "f1": np.where(of_truth > 0, 2 * right / np.maximum(of_truth + of_prediction, 1), np.nan),
        "pictures": of_truth,
    }


def mcnemar(one_right: np.ndarray, other_right: np.ndarray) -> float:
    """The p-value of McNemar's exact test: whether two networks, asked the same pictures, err at different rates.

    McNemar, "Note on the sampling error of the difference between correlated proportions" (1947), in its exact
    binomial form.

    Args:
        one_right, other_right: (n,), bool, for the same pictures in the same order.
    """
    only_one, only_other = int((one_right & ~other_right).sum()), int((~one_right & other_right).sum())
    differ = only_one + only_other
    tail = sum(math.comb(differ, right) for right in range(min(only_one, only_other) + 1))
    return min(1.0, 2 * tail / (1 << differ))


def verdict(one: str, other: str, chance: float) -> str:
    """What McNemar's test allows to be said of two networks that answered the same pictures."""
    within = "is within chance" if chance >= 0.05 else "is more than chance"
    return f"The difference between {one} and {other} {within} (p = {chance:.2g})."


def _counts(truth: np.ndarray, predicted: np.ndarray, artists: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    right = np.bincount(truth[truth == predicted], minlength=artists)
    return right, np.bincount(truth, minlength=artists), np.bincount(predicted, minlength=artists)
