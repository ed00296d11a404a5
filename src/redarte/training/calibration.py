"""How sure a network is, and what is too far from its training pictures: fitted after the weights, on val pictures."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.covariance import LedoitWolf

_LEAST_VARIANCE = 1e-3  # of features whose own is 1
_TEMPERATURES = (0.05, 20.0)  # few val pictures, all right or all wrong, would have it at 0 or infinity


def cross_entropy(truth: np.ndarray, logits: np.ndarray) -> float:
    """The mean of -ln(the probability given to the true artist).

    Args:
        truth: (n,), the true artist of each picture, as its place in the network's outputs.
        logits: (n, artists).
    """
    return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())


def fit_temperature(truth: np.ndarray, logits: np.ndarray) -> float:
    """The temperature that calibrates probabilities: softmax(logits / it) has the least cross-entropy.

    Guo et al., "On calibration of modern neural networks" (2017). It lies between 0.05 and 20.

    Args:
        truth: (n,), of pictures that the network was not trained on.
        logits: (n, artists).
    """
    loss = lambda logarithm: cross_entropy(truth, logits / np.exp(logarithm))  # noqa: E731
    return float(np.exp(minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded").x))


def threshold(scores: np.ndarray, coverage: float) -> float:
    """The smallest of the scores (n,) that a share of at least `coverage` of them does not pass."""
    return float(np.sort(scores)[int(np.ceil(coverage * len(scores))) - 1])


def whitening(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the whitening matrix of the features of the training pictures.

    The length of (x - mean) @ matrix is x's Mahalanobis distance to them, the out-of-distribution score of Lee et al.,
    "A simple unified framework for detecting out-of-distribution samples" (2018). The covariance is shrunk as Ledoit
    and Wolf do ("A well-conditioned estimator", 2004): there may be fewer pictures than features.

    Args:
        features: (n, features), of n training pictures.

    Returns:
        mean (features,) and matrix (features, features).
    """
    spread = features.std(axis=0)
    # A feature that is near zero in all of them would make anything else infinitely far.
    scale = np.maximum(spread, max(1e-3 * spread.max(), 1e-12))
    variances, axes = np.linalg.eigh(LedoitWolf().fit(features / scale).covariance_)
    return features.mean(axis=0), axes / np.sqrt(np.maximum(variances, _LEAST_VARIANCE)) / scale[:, None]
