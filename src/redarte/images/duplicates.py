"""Near-duplicates: several files of one work, such as two scans, a detail, a photograph in a frame, or a mirror image.

A near-duplicate in train leaks a test image, and makes a model look better than it is. Pairs are found in three steps:

1. Candidates share several hashes of ORB keypoints (Rublee et al., 2011), by locality-sensitive hashing (Gionis et al.,
   1999), of the images or of one image and the mirror image of the other.
2. The keypoints of a candidate are matched, and must agree on a similarity: a shift, rotation and scale (RANSAC).
3. The same with SIFT (Lowe, 2004), which decides. Keypoints that agree must be spread over the image: a rim, a frame, a
   caption or a printed heading is no work.

Images with few or repeated keypoints, such as colour fields and grids, are only found by their colours: all images are
also compared as thumbnails. docs/images.md has what is found.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from redarte.images import decoding, folders
from redarte.images.decoding import ImageArray
from redarte.runtime import provenance, workers
from redarte.runtime.cache import Cache
from redarte.runtime.console import progress

_SIDE = 256  # px: of the images in which candidates are searched
_KEYPOINTS, _DESCRIPTOR = 150, 32  # ORB keypoints of an image, and bytes of a descriptor
_TABLES, _BYTES = 12, 3  # hashes of a keypoint, and bytes of its descriptor in each
_MAX_SHARING = 16  # images with the same hash: a hash of more images says nothing
_MIN_SHARED = 5  # hashes that two candidates share
_SLOTS = 2**24
_MAX_DISTANCE = 64  # bits of 256 in which two matched ORB keypoints may differ
_MIN_ORB = 7  # ORB keypoints that agree on a similarity
_SIFT_SIDE, _SIFT_KEYPOINTS = 320, 800
_RATIO = 0.8  # of the distances to the best and the second best match (Lowe, 2004)
_MIN_SIFT = 20  # SIFT keypoints that agree: on 8,446 images, 18 at most between two works, and 21 at least of one
_TOLERANCE = 5.0  # px
_SCALES = (0.3, 3.3)
_GRID, _MIN_INNER = 5, 2  # cells of an image a side, and those of the inner 3 by 3 in which keypoints agree
_THUMBNAIL = 8  # px a side
_MAX_DIFFERENCE = 4.0  # of 255, root mean square, between thumbnails: on 8,446 images, 6.3 at least between two works


@dataclass(frozen=True)
class Fingerprint:
    """What candidates are searched by.

    Attributes:
        points: (k, 2), uint8: the positions of k ORB keypoints, in px of an image of at most 256 px.
        straight: (k, 32), uint8: their descriptors.
        mirrored: (k, 32), uint8: their descriptors in the mirror image.
        colours: (192,), uint8: a thumbnail of 8 by 8 px, RGB.
    """

    points: np.ndarray
    straight: np.ndarray
    mirrored: np.ndarray
    colours: np.ndarray


def fingerprint(image: ImageArray) -> Fingerprint:
    """Returns the fingerprint of an image.

    Args:
        image: RGB, (height, width, 3), uint8.
    """
    colours = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = (_SIDE - 1) / max(grey.shape)
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    orb = cv2.ORB.create(_KEYPOINTS, nlevels=6, edgeThreshold=15, fastThreshold=10)
    found, straight = orb.compute(grey, orb.detect(grey))
    if not found:
        none = np.empty((0, _DESCRIPTOR), np.uint8)
        return Fingerprint(np.empty((0, 2), np.uint8), none, none, colours)
    width = grey.shape[1]
    flipped = [
        cv2.KeyPoint(width - 1 - p.pt[0], p.pt[1], p.size, (180 - p.angle) % 360, p.response, p.octave) for p in found
    ]
    _, mirrored = orb.compute(np.ascontiguousarray(grey[:, ::-1]), flipped)
    points = np.array([p.pt for p in found]).round().astype(np.uint8)
    return Fingerprint(points, straight, mirrored, colours)


def read(folder: Path, path: str) -> Fingerprint:
    """Returns the fingerprint of a file, "<artist>/<file>"."""
    return fingerprint(decoding.read_within(folder / path, _SIDE))


def pairs(folder: Path, paths: list[str]) -> list[tuple[str, str]]:
    """Returns the near-duplicates among some images: pairs of "<artist>/<file>", each once, in the order of `paths`."""
    if not paths:
        return []
    names = [folders.content_hash((folder / path).read_bytes()) for path in paths]
    stored = Cache(f"keypoints-{provenance.code_digest('images/decoding', 'images/duplicates.py')[:16]}", [])
    of_all = folders.content_hash("\n".join(names).encode())
    found = stored.read(of_all)
    if found is None:
        prints = _fingerprints(folder, paths, names, stored)
        found = np.array(sorted({*_of_one_work(folder, paths, prints), *_alike_in_colour(prints)}), np.int64)
        stored.write(of_all, found)
    return [(paths[one], paths[other]) for one, other in found.reshape(-1, 2).tolist()]


def groups(paths: list[str], found: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Returns groups of images that are connected by pairs, in the order of `paths`."""
    index = {path: number for number, path in enumerate(paths)}
    ends = np.array([(index[one], index[other]) for one, other in found], np.int64).reshape(-1, 2)
    linked = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(paths), len(paths)))
    members = defaultdict(list)
    for path, group in zip(paths, connected_components(linked, directed=False)[1], strict=True):
        members[group].append(path)
    return [group for group in members.values() if len(group) > 1]


def matches(one: ImageArray, other: ImageArray) -> np.ndarray:
    """Returns the positions at which two near-duplicates match, as shares of width and height.

    Args:
        one: RGB, (height, width, 3), uint8.
        other: the same.

    Returns:
        (2, points, 2), float: x and y, 0 to 1, in each of the images; no points where they do not match, also mirrored.
    """
    for flip in (False, True):
        first, second = _sift(one), _sift(other[:, ::-1] if flip else other)
        found = [
            points / size for points, size in zip(_agreeing(first, second), (first.size, second.size), strict=True)
        ]
        if len(found[0]):
            found[1][:, 0] = 1 - found[1][:, 0] if flip else found[1][:, 0]
            return np.stack(found)
    return np.empty((2, 0, 2))


def candidates(prints: list[Fingerprint]) -> list[tuple[int, int, bool]]:
    """Returns pairs of images that share hashes of keypoints: the smaller index first, and whether one is mirrored."""
    count = len(prints)
    lengths = [len(one.points) for one in prints]
    # The mirror image of image i is image count + i.
    owners = np.repeat(np.arange(2 * count, dtype=np.uint64), [*lengths, *lengths])
    described = [getattr(one, name) for name in ("straight", "mirrored") for one in prints]
    every = np.concatenate([np.empty((0, _DESCRIPTOR), np.uint8), *described])
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(_DESCRIPTOR)[:_BYTES] for _ in range(_TABLES)]

    def sharing(columns: np.ndarray) -> np.ndarray:
        """The pairs that share a hash of these bytes, once for each: one * 2 * count + other."""
        hashes = np.zeros(len(every), np.uint64)
        for column in columns:
            hashes = hashes << np.uint64(8) | every[:, column]
        keys = np.sort(hashes << np.uint64(32) | owners)
        keys = keys[np.diff(keys, prepend=keys[:1] + np.uint64(1)) > 0]  # each hash of an image once
        hashes, images = keys >> np.uint64(32), (keys & np.uint64(2**32 - 1)).astype(np.int64)
        sizes = np.diff(np.flatnonzero(np.diff(hashes, prepend=hashes[:1] + np.uint64(1))), append=len(hashes))
        is_rare = np.repeat((sizes > 1) & (sizes <= _MAX_SHARING), sizes)
        hashes, images = hashes[is_rare], images[is_rare]
        found = [np.empty(0, np.int64)]
        for offset in range(1, min(_MAX_SHARING, len(hashes))):
            is_same = hashes[:-offset] == hashes[offset:]
            one, other = images[:-offset][is_same], images[offset:][is_same]
            kept = (one < count) & (one < other % count)  # a mirrored pair counts from its smaller index
            found.append(one[kept] * 2 * count + other[kept])
        return np.concatenate(found)

    shared = np.concatenate(_in_threads(sharing, chosen, "searching candidates", "tables"))
    # Most pairs share one hash: counting them by slots is quicker than by pairs.
    slots = shared % _SLOTS
    found, times = np.unique(shared[np.bincount(slots)[slots] >= _MIN_SHARED], return_counts=True)
    found = found[times >= _MIN_SHARED]
    return [
        (int(one), int(other % count), bool(other >= count))
        for one, other in (divmod(pair, 2 * count) for pair in found)
    ]


@dataclass(frozen=True)
class _Sift:
    """SIFT keypoints: positions (k, 2), descriptors (k, 128) uint8, and the width and height of the image."""

    points: np.ndarray
    descriptors: np.ndarray
    size: np.ndarray


def _fingerprints(folder: Path, paths: list[str], names: list[str], stored: Cache) -> list[Fingerprint]:
    """The fingerprints of all images, each computed once for its content."""
    found = [stored.read(name) for name in names]
    missing = [index for index, array in enumerate(found) if array is None]
    computed = workers.map_parallel(partial(read, folder), [paths[index] for index in missing], "finding keypoints")
    for index, one in zip(missing, computed, strict=True):
        rows = np.concatenate([one.points, one.straight, one.mirrored], axis=1).ravel()
        stored.write(names[index], array := np.concatenate([one.colours, rows]))
        found[index] = array
    return [_unpacked(array) for array in found if array is not None]


def _unpacked(array: np.ndarray) -> Fingerprint:
    colours, rows = array[: 3 * _THUMBNAIL**2], array[3 * _THUMBNAIL**2 :].reshape(-1, 2 + 2 * _DESCRIPTOR)
    return Fingerprint(rows[:, :2], rows[:, 2 : 2 + _DESCRIPTOR], rows[:, 2 + _DESCRIPTOR :], colours)


def _in_threads(function: Callable[[Any], Any], items: list[Any], label: str, unit: str = "pairs") -> list[Any]:
    """The results for all items; NumPy and OpenCV compute without Python's lock."""
    parallel = joblib.Parallel(n_jobs=workers.count(), prefer="threads", return_as="generator")
    return list(progress(parallel(joblib.delayed(function)(item) for item in items), len(items), label, unit))


def _of_one_work(folder: Path, paths: list[str], prints: list[Fingerprint]) -> Iterator[tuple[int, int]]:
    """The pairs of images whose keypoints show that they are one work."""
    found = candidates(prints)
    close = list(compress(found, _in_threads(partial(_agree_on_orb, prints), found, "comparing keypoints")))
    # An image of a mirrored pair is described mirrored, if it is the second.
    keys = list(dict.fromkeys(key for one, other, mirrored in close for key in ((one, False), (other, mirrored))))
    described = _in_threads(partial(_sift_of, folder, paths), keys, "describing candidates", "images")
    features = dict(zip(keys, described, strict=True))

    def is_one_work(pair: tuple[int, int, bool]) -> bool:
        return len(_agreeing(features[pair[0], False], features[pair[1], pair[2]])[0]) > 0

    decided = _in_threads(is_one_work, close, "comparing candidates")
    yield from ((one, other) for one, other, _ in compress(close, decided))


def _agree_on_orb(prints: list[Fingerprint], candidate: tuple[int, int, bool]) -> bool:
    one, other = prints[candidate[0]], prints[candidate[1]]
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    found = matcher.match(one.straight, other.mirrored if candidate[2] else other.straight)
    ends = np.array(
        [(match.queryIdx, match.trainIdx) for match in found if match.distance <= _MAX_DISTANCE], int
    ).reshape(-1, 2)
    target = other.points.astype(np.float32) * ([-1, 1] if candidate[2] else [1, 1])
    return len(_similar(one.points[ends[:, 0]].astype(np.float32), target[ends[:, 1]])[0]) >= _MIN_ORB


def _similar(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points (n, 2) that agree on a similarity, in both images, each once; none where its scale is extreme."""
    none = np.empty((0, 2), np.float32)
    if len(source) < _MIN_ORB:
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


def _sift_of(folder: Path, paths: list[str], key: tuple[int, bool]) -> _Sift:
    image = decoding.read_within(folder / paths[key[0]], _SIFT_SIDE)
    return _sift(image[:, ::-1] if key[1] else image)


def _sift(image: ImageArray) -> _Sift:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    scale = _SIFT_SIDE / max(grey.shape)
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    found, descriptors = cv2.SIFT.create(_SIFT_KEYPOINTS).detectAndCompute(grey, None)
    points = np.array([p.pt for p in found], np.float32).reshape(-1, 2)
    rows = np.empty((0, 128), np.uint8) if descriptors is None else descriptors.astype(np.uint8)
    return _Sift(points, rows, np.array(grey.shape[::-1], np.float32))


def _agreeing(one: _Sift, other: _Sift) -> tuple[np.ndarray, np.ndarray]:
    """The points (n, 2) of two images that show that they are one work; none where they do not."""
    none = np.empty((0, 2), np.float32)
    if min(len(one.points), len(other.points)) < _MIN_SIFT:
        return none, none
    first, second = (described.descriptors.astype(np.float32) for described in (one, other))
    nearest = cv2.BFMatcher(cv2.NORM_L2).knnMatch(first, second, k=2)
    good = [best for best, next_best in nearest if best.distance < _RATIO * next_best.distance]
    ends = np.array([(match.queryIdx, match.trainIdx) for match in good], int).reshape(-1, 2)
    found = _similar(one.points[ends[:, 0]], other.points[ends[:, 1]])
    is_spread = all(
        _inner_cells(points / sift.size) >= _MIN_INNER for points, sift in zip(found, (one, other), strict=True)
    )
    return found if len(found[0]) >= _MIN_SIFT and is_spread else (none, none)


def _inner_cells(positions: np.ndarray) -> int:
    """In how many cells of the inner 3 by 3 of 5 by 5 there are positions, as shares of width and height."""
    cells = {(int(x), int(y)) for x, y in positions * _GRID}
    return sum(0 < x < _GRID - 1 and 0 < y < _GRID - 1 for x, y in cells)


def _alike_in_colour(prints: list[Fingerprint]) -> Iterator[tuple[int, int]]:
    """The pairs of images that have the same colours at the same places, or mirrored."""
    # Here, because most runs find all pairs in the cache.
    from sklearn.neighbors import NearestNeighbors

    colours = np.stack([one.colours for one in prints]).astype(np.float64)
    mirrored = colours.reshape(-1, _THUMBNAIL, _THUMBNAIL, 3)[:, :, ::-1].reshape(colours.shape)
    radius = _MAX_DIFFERENCE * np.sqrt(colours.shape[1])
    near = NearestNeighbors(radius=radius, algorithm="brute").fit(colours)
    for version in (colours, mirrored):
        for one, others in enumerate(near.radius_neighbors(version, return_distance=False)):
            yield from ((one, int(other)) for other in others if one < other)
