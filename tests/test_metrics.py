"""Numbers against cases worked by hand."""

import math

import numpy as np
import pytest

from redarte import metrics

TRUTH = np.array([0, 0, 1, 2])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.5, 0.2], [0.5, 0.3, 0.2]])
PREDICTED = PROBABILITIES.argmax(axis=1)  # 0, 1, 1, 0


def test_accuracy() -> None:
    assert metrics.accuracy(TRUTH, PROBABILITIES) == 0.5


def test_top_k() -> None:
    assert metrics.top_k_accuracy(TRUTH, PROBABILITIES, k=2) == 0.5
    assert metrics.top_k_accuracy(TRUTH, PROBABILITIES, k=1) == 0.5
    assert metrics.top_k_accuracy(TRUTH, PROBABILITIES, k=5) == 1.0
    six = np.array([[0.05, 0.1, 0.15, 0.2, 0.25, 0.25]])
    assert metrics.top_k_accuracy(np.array([0]), six) == 0.0
    assert metrics.top_k_accuracy(np.array([1]), six) == 1.0


def test_macro_f1() -> None:
    # Artist 0: precision 1/2, recall 1/2; artist 1: precision 1/2, recall 1; artist 2: never answered.
    assert metrics.macro_f1(TRUTH, PROBABILITIES) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


def test_macro_f1_counts_only_artists_with_pictures() -> None:
    assert metrics.macro_f1(np.array([0, 1]), np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])) == 1.0


def test_cross_entropy() -> None:
    expected = -(math.log(0.7) + math.log(0.1) + math.log(0.5) + math.log(0.2)) / 4
    assert metrics.cross_entropy(TRUTH, PROBABILITIES) == pytest.approx(expected)


def test_rank() -> None:
    assert metrics.rank(TRUTH, PROBABILITIES).tolist() == [1, 3, 1, 3]


def test_recall() -> None:
    recall = metrics.recall(TRUTH, PREDICTED, artists=4)
    assert recall[:3].tolist() == [0.5, 1.0, 0.0]
    assert math.isnan(recall[3])


def test_confusion_and_the_most_confused_pairs() -> None:
    counts = metrics.confusion(TRUTH, PREDICTED, artists=3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert metrics.confused_pairs(counts, most=5) == [(0, 1, 1), (0, 2, 1)]
    assert metrics.confused_pairs(np.array([[5, 1, 2], [3, 5, 0], [0, 1, 5]]), most=2) == [(0, 1, 4), (0, 2, 2)]


def test_always_answering_the_largest_class() -> None:
    assert metrics.largest_class_accuracy(["b", "a", "b"], ["a", "b", "b", "c"]) == 0.5
    assert metrics.largest_class_accuracy(["b", "a"], ["a", "b", "b"]) == pytest.approx(1 / 3)
