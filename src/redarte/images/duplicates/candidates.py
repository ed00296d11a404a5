"""Pairs of images that may be near-duplicates, from a fingerprint of each image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np

from redarte.images import decoding
from redarte.images.decoding import ImageArray
from redarte.images.duplicates import geometry
from redarte.runtime import workers
from redarte.runtime.console import progress

_SIDE = 256  # px: of the images in which candidates are searched
_KEYPOINTS, _DESCRIPTOR = 150, 32  # ORB keypoints of an image, and bytes of a descriptor
_TABLES, _BYTES = 32, 3  # hashes of a keypoint, and bytes of its descriptor in each
_IMAGES = 8192  # above, hashes have further bits
_MAX_SHARING = 16  # images with the same hash: a hash of more images says nothing
_MIN_SHARED = 8  # hashes that two candidates share
_SLOTS = 2**24
_MAX_DISTANCE = 64  # bits of 256 in which two matched ORB keypoints may differ
_MIN_AGREEING = 7  # keypoints that agree on a similarity
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
    grey = geometry.grey(image, _SIDE)
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


def pack(one: Fingerprint) -> np.ndarray:
    """Returns a fingerprint as one array, uint8."""
    return np.concatenate([one.colours, np.concatenate([one.points, one.straight, one.mirrored], axis=1).ravel()])


def unpack(array: np.ndarray) -> Fingerprint:
    colours, rows = array[: 3 * _THUMBNAIL**2], array[3 * _THUMBNAIL**2 :].reshape(-1, 2 + 2 * _DESCRIPTOR)
    return Fingerprint(rows[:, :2], rows[:, 2 : 2 + _DESCRIPTOR], rows[:, 2 + _DESCRIPTOR :], colours)


def search(prints: list[Fingerprint]) -> list[tuple[int, int, bool]]:
    """Returns pairs of images that share hashes of keypoints: the smaller index first, and whether one is mirrored."""
    count = len(prints)
    lengths = [len(one.points) for one in prints]
    # The mirror image of image i is image count + i.
    owners = np.repeat(np.arange(2 * count, dtype=np.uint64), [*lengths, *lengths])
    described = [getattr(one, name) for name in ("straight", "mirrored") for one in prints]
    every = np.concatenate([np.empty((0, _DESCRIPTOR), np.uint8), *described])
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(_DESCRIPTOR)[: _BYTES + 1] for _ in range(_TABLES)]
    # With twice as many images, twice as many share a hash by chance: a bit more keeps their number.
    bits = min(8, max(0, round(np.log2(max(count, 1) / _IMAGES))))

    def sharing(columns: np.ndarray) -> np.ndarray:
        """The pairs that share a hash of these bytes, once for each: one * 2 * count + other."""
        hashes = np.zeros(len(every), np.uint64)
        for column in columns[:_BYTES]:
            hashes = hashes << np.uint64(8) | every[:, column]
        hashes = hashes << np.uint64(bits) | every[:, columns[_BYTES]] >> np.uint8(8 - bits) if bits else hashes
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

    shared = np.concatenate(in_threads(sharing, chosen, "searching candidates", "tables"))
    # Most pairs share one hash: counting them by slots is quicker than by pairs.
    slots = shared % _SLOTS
    found, times = np.unique(shared[np.bincount(slots)[slots] >= _MIN_SHARED], return_counts=True)
    found = found[times >= _MIN_SHARED]
    return [
        (int(one), int(other % count), bool(other >= count))
        for one, other in (divmod(pair, 2 * count) for pair in found)
    ]


def agree(prints: list[Fingerprint], candidate: tuple[int, int, bool]) -> bool:
    one, other = prints[candidate[0]], prints[candidate[1]]
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    found = matcher.match(one.straight, other.mirrored if candidate[2] else other.straight)
    ends = np.array(
        [(match.queryIdx, match.trainIdx) for match in found if match.distance <= _MAX_DISTANCE], int
    ).reshape(-1, 2)
    target = other.points.astype(np.float32) * ([-1, 1] if candidate[2] else [1, 1])
    return len(geometry.similar(one.points[ends[:, 0]].astype(np.float32), target[ends[:, 1]])[0]) >= _MIN_AGREEING


def alike_in_colour(prints: list[Fingerprint]) -> Iterator[tuple[int, int]]:
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


def in_threads(function: Callable[[Any], Any], items: list[Any], label: str, unit: str = "pairs") -> list[Any]:
    """The results for all items; NumPy and OpenCV compute without Python's lock."""
    parallel = joblib.Parallel(n_jobs=workers.count(), prefer="threads", return_as="generator")
    return list(progress(parallel(joblib.delayed(function)(item) for item in items), len(items), label, unit))
