"""Numbers against cases worked by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from redarte.evaluation import comparison, metrics
from redarte.inference import predictor

TRUTH = np.array([0, 0, 1, 2])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.5, 0.2], [0.5, 0.3, 0.2]])
LOGITS = np.log(PROBABILITIES)
PREDICTED = PROBABILITIES.argmax(axis=1)  # 0, 1, 1, 0


def test_accuracy() -> None:
    assert metrics.accuracy(TRUTH, LOGITS) == 0.5
    assert metrics.accuracy(TRUTH[:3], LOGITS[:3]) == pytest.approx(2 / 3)
    assert metrics.accuracy(np.array([2, 1, 1, 0]), LOGITS) == 0.75


def test_top_k() -> None:
    assert metrics.top_k_accuracy(TRUTH, LOGITS, k=2) == 0.5
    assert metrics.top_k_accuracy(TRUTH, LOGITS, k=1) == 0.5
    assert metrics.top_k_accuracy(TRUTH, LOGITS, k=5) == 1.0
    six = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 5.0]])
    assert metrics.top_k_accuracy(np.array([0]), six) == 0.0
    assert metrics.top_k_accuracy(np.array([1]), six) == 1.0


def test_macro_f1() -> None:
    # Artist 0: precision 1/2, recall 1/2; artist 1: precision 1/2, recall 1; artist 2: never predicted.
    assert metrics.macro_f1(TRUTH, PREDICTED, 3) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


def test_macro_f1_counts_only_artists_with_images() -> None:
    assert metrics.macro_f1(np.array([0, 1]), np.array([0, 1]), 3) == 1.0


def test_cross_entropy() -> None:
    expected = -(math.log(0.7) + math.log(0.1) + math.log(0.5) + math.log(0.2)) / 4
    assert metrics.cross_entropy(TRUTH, LOGITS) == pytest.approx(expected)
    # A probability that underflows to 0 does not give an infinite loss.
    assert metrics.cross_entropy(np.array([1]), np.array([[1000.0, 0.0]])) == pytest.approx(1000)


def test_rank() -> None:
    assert metrics.rank(TRUTH, LOGITS).tolist() == [1, 3, 1, 3]


def test_ranks_of_probabilities_that_underflow() -> None:
    """Softmax of these logits is 1 and seven times 0, where every artist would be among the five likeliest."""
    logits = np.arange(0.0, -8000.0, -1000.0)[None].repeat(8, axis=0)
    assert (predictor.softmax(logits)[:, 1:] == 0).all()
    assert metrics.rank(np.arange(8), logits).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert metrics.top_k_accuracy(np.arange(8), logits) == 0.625


def test_among_equal_logits_the_first_class_ranks_first() -> None:
    logits = np.array([[1.0, 2.0, 2.0, 1.0]]).repeat(4, axis=0)
    assert metrics.rank(np.arange(4), logits).tolist() == [3, 1, 2, 4]
    assert metrics.accuracy(np.arange(4), logits) == np.mean(metrics.rank(np.arange(4), logits) == 1)


def test_recall() -> None:
    recall = metrics.recall(TRUTH, PREDICTED, artists=4)
    assert recall[:3].tolist() == [0.5, 1.0, 0.0]
    assert math.isnan(recall[3])


def test_confusion_and_the_most_confused_pairs() -> None:
    counts = metrics.confusion(TRUTH, PREDICTED, artists=3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert metrics.confused_pairs(counts, most=5) == [(0, 1, 1), (0, 2, 1)]
    assert metrics.confused_pairs(np.array([[5, 1, 2], [3, 5, 0], [0, 1, 5]]), most=2) == [(0, 1, 4), (0, 2, 2)]
    # The most confused first, and those that are as confused by their numbers.
    assert metrics.confused_pairs(np.array([[5, 0, 1], [0, 5, 0], [0, 6, 5]]), most=2) == [(1, 2, 6), (0, 2, 1)]
    assert metrics.confused_pairs(np.array([[5, 0, 0, 1], [0, 5, 1, 0], [0, 0, 5, 0], [0, 0, 0, 5]]), most=9) == [
        (0, 3, 1), (1, 2, 1),
    ]  # fmt: skip
    assert [pair[:2] for pair in metrics.confused_pairs(1 - np.eye(3, dtype=int), most=2)] == [(0, 1), (0, 2)]


def test_a_confusion_matrix_by_rows() -> None:
    counts = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]])
    assert metrics.normalise_rows(counts).tolist() == [
        [0.75, 0.25, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0.5, 0, 0, 0.5],
    ]  # fmt: skip


def test_the_baseline() -> None:
    assert metrics.baseline_accuracy(["b/1", "a/1", "b/2"], ["a/3", "b/4", "b/5", "c/6"]) == 0.5
    assert metrics.baseline_accuracy(["b/1", "a/1"], ["a/2", "b/3", "b/4"]) == pytest.approx(1 / 3)


def test_reliability() -> None:
    # A wrong prediction with 0.95, and two with 0.55, one of them right.
    measured = metrics.reliability(np.array([False, True, False]), np.array([0.95, 0.55, 0.55]))
    assert measured.images.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    assert measured.accuracy[5] == 0.5
    assert measured.error == pytest.approx((2 * 0.05 + 0.95) / 3)
    # 1.0 belongs to the last bin, 0.1 to the first.
    assert metrics.reliability(np.array([True, True]), np.array([1.0, 0.1])).images.tolist() == [1] + [0] * 8 + [1]
    assert metrics.reliability(np.array([False]), np.array([0.0])).images.tolist() == [1] + [0] * 9
    assert len(metrics.reliability(np.array([False]), np.array([0.15])).accuracy) == 10


def test_per_artist_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 6, 90), rng.integers(0, 7, 90)
    ours = metrics.per_artist(truth, predicted, 8)
    theirs = precision_recall_fscore_support(truth, predicted, labels=range(8), zero_division=np.nan)
    assert ours["images"].tolist() == theirs[3].tolist()
    for name, values in zip(("precision", "recall"), theirs, strict=False):
        np.testing.assert_allclose(ours[name], values)
    np.testing.assert_allclose(ours["f1"][:6], theirs[2][:6])
    assert np.isnan(ours["f1"][7])


def test_per_artist_metrics_of_an_artist_without_images_or_predictions() -> None:
    # TRUTH is 0 0 1 2 and PREDICTED 0 1 1 0; 2 is never predicted, and has one image.
    measured = metrics.per_artist(TRUTH, PREDICTED, 4)
    np.testing.assert_allclose(measured["precision"], [0.5, 0.5, np.nan, np.nan])
    np.testing.assert_allclose(measured["f1"], [0.5, 2 / 3, 0.0, np.nan])
    alone = metrics.per_artist(np.array([0, 1]), np.array([0, 1]), 2)
    assert alone["precision"].tolist() == alone["f1"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("right", "images"), [(0, 12), (12, 12), (75, 100), (1, 3), (1, 1), (679, 839)])
def test_the_interval_of_a_share_is_scipys(right: int, images: int) -> None:
    theirs = binomtest(right, images).proportion_ci(method="wilson")
    assert metrics.wilson(right / images, images) == pytest.approx((theirs.low, theirs.high), abs=1e-7)


def test_the_interval_of_a_perfect_accuracy_is_not_a_point() -> None:
    low, high = metrics.wilson(1.0, 12)
    assert 0.7 < low < 0.8
    assert high == 1.0


def test_mcnemar() -> None:
    one = np.array([True] * 8 + [False] * 1 + [True] * 11)
    other = np.array([False] * 8 + [True] * 1 + [True] * 11)
    # 8 against 1 of 9 that differ: 2 · (1 + 9) / 2⁹.
    assert metrics.mcnemar(one, other) == pytest.approx(2 * 10 / 512)
    assert metrics.mcnemar(one, one) == 1.0


def test_a_small_p_value_is_not_printed_as_zero() -> None:
    assert "(p = 2.5e-24)" in comparison.verdict("Red 1", "Fine-tuned", 2.5346874e-24)
    assert comparison.verdict("Red 1", "Red 2", 0.039) == (
        "The difference between Red 1 and Red 2 is significant (p = 0.039)."
    )
    for p_value in (0.05, 0.62):
        assert comparison.verdict("Red 1", "Red 2", p_value) == (
            f"The difference between Red 1 and Red 2 is not significant (p = {p_value})."
        )
