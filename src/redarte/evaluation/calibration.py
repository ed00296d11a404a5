"""Temperature scaling of probabilities and out-of-distribution scores, both fitted after the training."""

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.covariance import LedoitWolf

from redarte.evaluation.metrics import cross_entropy

_MIN_VARIANCE = 1e-3  # of features that are scaled to variance 1
_TEMPERATURES = (0.05, 20.0)  # with few val images, all right or all wrong, the optimum is 0 or infinity


def fit_temperature(truth: np.ndarray, logits: np.ndarray) -> float:
    """Returns the temperature that calibrates probabilities: softmax(logits / T) has the least cross-entropy.

    Guo et al., "On calibration of modern neural networks" (2017).

    Args:
        truth: (n,), int: the true classes of images that the model was not trained on.
        logits: (n, artists), float.

    Returns:
        T, from 0.05 to 20.
    """
    loss = lambda logarithm: cross_entropy(truth, logits / np.exp(logarithm))  # noqa: E731
    return float(np.exp(minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded").x))


def threshold(scores: np.ndarray, coverage: float) -> float:
    """Returns the smallest score that at least a share `coverage` of the scores do not exceed.

    Args:
        scores: (n,), float.
        coverage: above 0, to 1.
    """
    # 0.55 * 100 is more than 55 in binary numbers.
    return float(np.sort(scores)[int(np.ceil(round(coverage * len(scores), 6))) - 1])


def whitening(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the whitening matrix of the features of the training images.

    The length of (x - mean) @ matrix is the Mahalanobis distance of x to the training images, the out-of-distribution
    score of Lee et al., "A simple unified framework for detecting out-of-distribution samples" (2018). The covariance
    is shrunk as in Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004),
    because there may be fewer images than features.

    Args:
        features: (n, features), float: the embeddings of n training images.

    Returns:
        The mean (features,) and the matrix (features, features), float64.
    """
    deviation = features.std(axis=0)
    # A feature that is almost constant would put every other image at an infinite distance.
    scale = np.maximum(deviation, max(1e-3 * deviation.max(), 1e-12))
    variances, axes = np.linalg.eigh(LedoitWolf().fit(features / scale).covariance_)
    return features.mean(axis=0), axes / np.sqrt(np.maximum(variances, _MIN_VARIANCE)) / scale[:, None]
