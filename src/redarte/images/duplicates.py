"""Near-duplicates: several files of one painting, such as two scans, or an image and its mirror image.

A near-duplicate in train leaks a test image, and makes a model look better than it is. A pair is found in two steps.
Perceptual hashes (imagehash's pHash) that differ in few of their 64 bits give the candidates; most of these only share
a composition. Candidates are accepted if their edges correlate: images of 32×32 px, minus their own blur. On 760
paintings of the study's data set the two measures found five pairs, all correct, where the hash alone finds about
thirty. Of images cropped by 2 % on each side, re-encoded, resized or mirrored they find 99 %.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from redarte.images import decoding
from redarte.images.decoding import ImageArray
from redarte.runtime import workers

_MAX_BITS = 14  # of 64 that may differ; hashes of a crop by 2 % differ in 14 at most
_MIN_CORRELATION = 0.55  # of edges: 0.60 at least after such a crop, 0.40 at most between two paintings
_MAX_SIDE = 256  # px: of the compared images
_GRID = 32  # px
_BLUR = 3.0  # px of the grid
# Grey values, root mean square: a smoother image has no edges except those of blurring at the border. Of 760 paintings
# the smoothest has 6.5.
_MIN_CONTRAST = 6.0
_BLOCK = 2**22  # pairs of hashes compared at once: 32 MB


@dataclass(frozen=True)
class Fingerprint:
    """What two images are compared by.

    Attributes:
        hash: pHash of the image, 64 bits.
        mirrored: pHash of its mirror image.
        edges: (32, 32), float32: mean 0, L2-normalised; zeros for an image that is too smooth to have edges.
    """

    hash: int
    mirrored: int
    edges: np.ndarray


def fingerprint(image: ImageArray) -> Fingerprint:
    """Returns the fingerprint of an image.

    Args:
        image: RGB, (height, width, 3), uint8.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    edges = small - cv2.GaussianBlur(small, (0, 0), _BLUR)
    edges -= edges.mean()
    length = float(np.linalg.norm(edges))
    edges = edges / length if length > _MIN_CONTRAST * _GRID else np.zeros_like(edges)
    return Fingerprint(_hash(grey), _hash(grey[:, ::-1]), edges)


def read(folder: Path, path: str) -> Fingerprint:
    """Returns the fingerprint of a file.

    Args:
        folder: a class-per-folder tree.
        path: "<artist>/<file>".

    Raises:
        UserError: the file cannot be decoded.
    """
    return fingerprint(decoding.read_within(folder / path, _MAX_SIDE))


def pairs(fingerprints: list[Fingerprint]) -> list[tuple[int, int]]:
    """Returns the near-duplicates among some images: pairs of indices, each once, the smaller index first.

    Args:
        fingerprints: of the images.
    """
    return [
        (one, other) for one, other in _candidates(fingerprints) if _correlate(fingerprints[one], fingerprints[other])
    ]


def groups(folder: Path, paths: list[str]) -> list[list[str]]:
    """Groups near-duplicates: images that are connected by pairs are one group.

    Args:
        folder: a class-per-folder tree.
        paths: "<artist>/<file>" of its images.

    Returns:
        The groups of two images and more, in the order of `paths`.

    Raises:
        UserError: a file cannot be decoded.
    """
    fingerprints = list(workers.map_parallel(partial(read, folder), paths, "comparing images"))
    found = np.array(pairs(fingerprints), dtype=np.int64).reshape(-1, 2)
    linked = coo_array((np.ones(len(found)), (found[:, 0], found[:, 1])), shape=(len(paths), len(paths)))
    members = defaultdict(list)
    for path, group in zip(paths, connected_components(linked, directed=False)[1], strict=True):
        members[group].append(path)
    return [group for group in members.values() if len(group) > 1]


def _hash(grey: np.ndarray) -> int:
    bits = imagehash.phash(Image.fromarray(np.ascontiguousarray(grey))).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _candidates(fingerprints: list[Fingerprint]) -> Iterator[tuple[int, int]]:
    hashes = np.array([one.hash for one in fingerprints], dtype=np.uint64)
    mirrored = np.array([one.mirrored for one in fingerprints], dtype=np.uint64)
    rows = max(1, _BLOCK // max(len(fingerprints), 1))
    for start in range(0, len(fingerprints), rows):
        block = hashes[start : start + rows, None]
        differ = np.minimum(np.bitwise_count(block ^ hashes), np.bitwise_count(block ^ mirrored))
        for one, other in zip(*np.nonzero(differ <= _MAX_BITS), strict=True):
            if start + one < other:
                yield int(start + one), int(other)


def _correlate(one: Fingerprint, other: Fingerprint) -> bool:
    straight = float((one.edges * other.edges).sum())
    mirror = float((one.edges * other.edges[:, ::-1]).sum())
    return max(straight, mirror) >= _MIN_CORRELATION
