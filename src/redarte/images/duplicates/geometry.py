"""Keypoints of two images that show one work: SIFT keypoints that agree on a similarity, and are spread."""

from dataclasses import dataclass

import cv2
import numpy as np

from redarte.images.decoding import ImageArray

SIDE, _KEYPOINTS = 320, 800
_RATIO = 0.8  # of the distances to the best and the second best match (Lowe, 2004)
_MIN_AGREEING = 20  # SIFT keypoints that agree: on 8,446 images, 18 at most between two works, and 21 at least of one
_TOLERANCE = 5.0  # px
_SCALES = (0.3, 3.3)
_GRID, _MIN_INNER = 5, 2  # cells of an image a side, and those of the inner 3 by 3 in which keypoints agree


@dataclass(frozen=True)
class Sift:
    """SIFT keypoints: positions (k, 2), descriptors (k, 128) uint8, and the width and height of the image."""

    points: np.ndarray
    descriptors: np.ndarray
    size: np.ndarray


def grey(image: ImageArray, side: int) -> np.ndarray:
    """Returns an image in grey, with that longest side in px: (height, width), uint8."""
    single = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    scale = side / max(single.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(single, None, fx=scale, fy=scale, interpolation=how))


def described(image: ImageArray) -> Sift:
    """Returns the keypoints of an image: RGB, (height, width, 3), uint8."""
    single = grey(image, SIDE)
    found, descriptors = cv2.SIFT.create(_KEYPOINTS).detectAndCompute(single, None)
    points = np.array([p.pt for p in found], np.float32).reshape(-1, 2)
    rows = np.empty((0, 128), np.uint8) if descriptors is None else descriptors.astype(np.uint8)
    return Sift(points, rows, np.array(single.shape[::-1], np.float32))


def agreeing(one: Sift, other: Sift) -> tuple[np.ndarray, np.ndarray]:
    """The points (n, 2) of two images that show that they are one work; none where they do not."""
    none = np.empty((0, 2), np.float32)
    if min(len(one.points), len(other.points)) < _MIN_AGREEING:
        return none, none
    first, second = (each.descriptors.astype(np.float32) for each in (one, other))
    nearest = cv2.BFMatcher(cv2.NORM_L2).knnMatch(first, second, k=2)
    good = [best for best, next_best in nearest if best.distance < _RATIO * next_best.distance]
    ends = np.array([(match.queryIdx, match.trainIdx) for match in good], int).reshape(-1, 2)
    found = similar(one.points[ends[:, 0]], other.points[ends[:, 1]])
    is_spread = all(
        _inner_cells(points / each.size) >= _MIN_INNER for points, each in zip(found, (one, other), strict=True)
    )
    return found if len(found[0]) >= _MIN_AGREEING and is_spread else (none, none)


def similar(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (n, 2) that agree on a similarity, in both images, each once; none where its scale is extreme."""
    none = np.empty((0, 2), np.float32)
    if len(source) < 2:
        return none, none
    matrix, inliers = cv2.estimateAffinePartial2D(
        source, target.astype(np.float32), method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE
    )
    if matrix is None or not _SCALES[0] < float(np.hypot(matrix[0, 0], matrix[1, 0])) < _SCALES[1]:
        return none, none
    ends = np.concatenate([source, target], axis=1)[inliers.ravel() > 0].round()
    for columns in (slice(0, 2), slice(2, 4)):
        ends = ends[np.unique(ends[:, columns], axis=0, return_index=True)[1]]
    return ends[:, :2], ends[:, 2:]


def _inner_cells(positions: np.ndarray) -> int:
    """In how many cells of the inner 3 by 3 of 5 by 5 there are positions, as shares of width and height."""
    cells = {(int(x), int(y)) for x, y in positions * _GRID}
    return sum(0 < x < _GRID - 1 and 0 < y < _GRID - 1 for x, y in cells)
