"""Metrics of predictions. Pure functions of arrays."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

_TEMPERATURES = (0.05, 20.0)  # with few val images, all right or all wrong, the optimum is 0 or infinity


def accuracy(truth: np.ndarray, logits: np.ndarray) -> float:
    """Returns the share of images whose predicted class, the one with the highest logit, is the true one.

    Args:
        truth: (n,), int: the true class of each image.
        logits: (n, artists), float. Not probabilities: several of these may underflow to the same value.
    """
    return float(np.mean(logits.argmax(axis=1) == truth))


def top_k_accuracy(truth: np.ndarray, logits: np.ndarray, k: int = 5) -> float:
    """Returns the share of images whose true class has one of the k highest logits; 1.0 for at most k classes.

    Args:
        k: 1 or more.
    """
    return float(np.mean(rank(truth, logits) <= k))


def macro_f1(truth: np.ndarray, predicted: np.ndarray, artists: int) -> float:
    """Returns the unweighted mean of F1 over the artists that have images here.

    Args:
        truth: (n,), int: true classes.
        predicted: (n,), int: predicted classes.
    """
    hits, of_truth, of_prediction = _counts(truth, predicted, artists)
    tested = of_truth > 0
    return float(np.mean(2 * hits[tested] / (of_truth + of_prediction)[tested]))


def cross_entropy(truth: np.ndarray, logits: np.ndarray) -> float:
    """Returns the mean of -ln(probability of the true class), without any penalty on weights."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    of_truth = np.take_along_axis(shifted, truth[:, None], axis=1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - of_truth).mean())


def fit_temperature(truth: np.ndarray, logits: np.ndarray) -> float:
    """Returns the temperature that calibrates probabilities: softmax(logits / T) has the least cross-entropy.

    Guo et al., "On calibration of modern neural networks" (2017).

    Args:
        truth: (n,), int: the true classes of images that the model was not trained on.
        logits: (n, artists), float.

    Returns:
        T, from 0.05 to 20.
    """
    # Imported here, because the other metrics need no slow library.
    from scipy.optimize import minimize_scalar

    loss = lambda logarithm: cross_entropy(truth, logits / np.exp(logarithm))  # noqa: E731
    return float(np.exp(minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded").x))


def rank(truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Returns the rank, from 1, of each image's true class among the predictions.

    Of classes with equal logits the first ranks first, as in argmax: rank 1 is the predicted class.

    Returns:
        (n,), int64.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    return np.asarray(1 + (order == truth[:, None]).argmax(axis=1))


def recall(truth: np.ndarray, predicted: np.ndarray, artists: int) -> np.ndarray:
    """Returns each artist's recall: (artists,), float; NaN for an artist without images.

    Args:
        truth: as for `macro_f1`.
        predicted: as for `macro_f1`.
    """
    images = np.bincount(truth, minlength=artists).astype(float)
    hits = np.bincount(truth[truth == predicted], minlength=artists)
    return np.asarray(np.divide(hits, images, out=np.full(artists, np.nan), where=images > 0))


def per_artist(truth: np.ndarray, predicted: np.ndarray, artists: int) -> dict[str, np.ndarray]:
    """Returns each artist's "precision", "recall" and "f1" (NaN where undefined) and "images": (artists,) each.

    Args:
        truth: as for `macro_f1`.
        predicted: as for `macro_f1`.
    """
    hits, of_truth, of_prediction = _counts(truth, predicted, artists)
    return {
        "precision": np.where(of_prediction > 0, hits / np.maximum(of_prediction, 1), np.nan),
        "recall": recall(truth, predicted, artists),
        "f1": np.where(of_truth > 0, 2 * hits / np.maximum(of_truth + of_prediction, 1), np.nan),
        "images": of_truth,
    }


def confusion(truth: np.ndarray, predicted: np.ndarray, artists: int) -> np.ndarray:
    """Returns the confusion matrix: (artists, artists), int64; rows are the truth, columns the predictions.

    Args:
        truth: as for `macro_f1`.
        predicted: as for `macro_f1`.
    """
    counts = np.zeros((artists, artists), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def normalise_rows(counts: np.ndarray) -> np.ndarray:
    """Returns a confusion matrix with rows that add up to 1; rows without images stay zero.

    Args:
        counts: (artists, artists), from `confusion`.
    """
    return np.asarray(counts / np.maximum(counts.sum(axis=1), 1)[:, None])


def confused_pairs(counts: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Returns the most confused pairs: (artist, artist, errors in either direction), in descending order.

    Args:
        counts: (artists, artists), from `confusion`.
    """
    both = np.triu(counts + counts.T, k=1)
    pairs = [(int(i), int(j), int(both[i, j])) for i, j in zip(*np.nonzero(both), strict=True)]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]


def baseline_accuracy(train: list[str], test: list[str]) -> float:
    """Returns the test accuracy of the majority class: the artist with the most training images.

    Args:
        train: the identities of the training images, "<artist>/<stem>".
    """
    counts = Counter(image_id.partition("/")[0] for image_id in train)
    largest = min(counts, key=lambda artist: (-counts[artist], artist))
    return float(np.mean([image_id.startswith(f"{largest}/") for image_id in test]))


@dataclass(frozen=True)
class Reliability:
    """How often predictions of a given confidence are right.

    Attributes:
        confidence: (bins,), the mean probability of the predictions in each bin; NaN for an empty bin.
        accuracy: (bins,), the share of right predictions; NaN for an empty bin.
        images: (bins,), the number of predictions.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    images: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean of |confidence - accuracy| over the images."""
        gaps = np.abs(self.confidence - self.accuracy)[self.images > 0]
        return float((gaps * self.images[self.images > 0]).sum() / self.images.sum())


def reliability(right: np.ndarray, confidence: np.ndarray, bins: int = 10) -> Reliability:
    """Groups predictions into bins of equal width by their confidence (Naeini et al., 2015; Guo et al., 2017).

    Args:
        right: (n,), bool: whether each prediction is right.
        confidence: (n,), the probability of each prediction, above 0, to 1.
    """
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    images = np.bincount(bin_of, minlength=bins)
    sums = (np.bincount(bin_of, weights=values, minlength=bins) for values in (confidence, right))
    with np.errstate(invalid="ignore"):
        mean_confidence, mean_right = (total / np.where(images, images, np.nan) for total in sums)
    return Reliability(mean_confidence, mean_right, images)


def wilson(share: float, images: int) -> tuple[float, float]:
    """Returns the 95 % score interval of a share: (low, high), in 0 to 1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927). A share of 0 or 1 has
    an interval too, unlike with resampling.

    Args:
        share: 0 to 1, such as an accuracy.
        images: how many images the share was measured on, 1 or more.
    """
    z2 = 1.959964**2
    centre = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = math.sqrt(z2 * (share * (1 - share) / images + z2 / (4 * images**2))) / (1 + z2 / images)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """Returns the p-value of McNemar's exact test: whether two models have different error rates on the same images.

    McNemar, "Note on the sampling error of the difference between correlated proportions" (1947), in its exact
    binomial form.

    Args:
        first_right: (n,), bool: whether the first model is right for each image.
        second_right: (n,), bool: the same for the second model.
    """
    only_first, only_second = int((first_right & ~second_right).sum()), int((~first_right & second_right).sum())
    different = only_first + only_second
    tail = sum(math.comb(different, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / (1 << different))


def _counts(truth: np.ndarray, predicted: np.ndarray, artists: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hits = np.bincount(truth[truth == predicted], minlength=artists)
    return hits, np.bincount(truth, minlength=artists), np.bincount(predicted, minlength=artists)
