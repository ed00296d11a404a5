"""Out-of-distribution scores, fitted after the training."""

import numpy as np
from sklearn.covariance import LedoitWolf

_MIN_VARIANCE = 1e-3  # of features that are scaled to variance 1


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
