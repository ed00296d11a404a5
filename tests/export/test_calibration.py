"""Temperature, threshold and whitening against cases worked by hand."""

import numpy as np
import pytest

from redarte.evaluation import metrics
from redarte.export import calibration


def test_a_temperature_calibrates_overconfident_logits() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (4000, 5))
    shares = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    truth = (shares.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    assert metrics.fit_temperature(truth, 3 * honest) == pytest.approx(3, rel=0.05)
    # Few images, all right or all wrong: no temperature is best, and one is given all the same.
    for truth in ([0, 1], [1, 0]):
        assert 0.05 <= metrics.fit_temperature(np.array(truth), np.array([[9.0, 0.0], [0.0, 9.0]])) <= 20


def test_the_threshold_covers_a_share() -> None:
    values = np.array([0.5, 0.1, 0.9, 0.7])
    assert calibration.threshold(values, 1.0) == 0.9
    assert calibration.threshold(values, 0.75) == 0.7
    assert calibration.threshold(values, 0.51) == 0.7
    assert calibration.threshold(values, 0.01) == 0.1


def test_whitened_features_have_unit_covariance() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, 3)) @ np.array([[2.0, 1, 0], [0, 2, 0], [0, 0, 30]]) + [5, 0, -40]
    mean, matrix = calibration.whitening(features)
    np.testing.assert_allclose(mean, features.mean(axis=0))
    np.testing.assert_allclose(np.cov((features - mean) @ matrix, rowvar=False), np.eye(3), atol=0.05)
    # A channel that is the same in every image, and fewer images than channels.
    for few in (np.c_[features, np.ones(5000)], features[:2], np.zeros((4, 3))):
        assert np.isfinite(calibration.whitening(few)[1]).all()


@pytest.mark.parametrize("count", [1, 7, 20, 100, 839])
def test_the_threshold_covers_the_smallest_share(count: int) -> None:
    """0.55 of 100 is 55, and not 56 for the binary 55.000000000000007."""
    for percent in range(1, 101):
        found = calibration.threshold(np.arange(count, dtype=float), percent / 100)
        assert found + 1 == -(-percent * count // 100)
