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
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import compress
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from redarte.images import decoding, folders
from redarte.images.decoding import ImageArray
from redarte.images.duplicates import candidates, geometry
from redarte.images.duplicates.candidates import Fingerprint, in_threads
from redarte.images.duplicates.geometry import Sift
from redarte.runtime import provenance, workers
from redarte.runtime.cache import Cache


def pairs(folder: Path, paths: list[str]) -> list[tuple[str, str]]:
    """Returns the near-duplicates among some images: pairs of "<artist>/<file>", each once, in the order of `paths`."""
    if not paths:
        return []
    names = [folders.content_hash((folder / path).read_bytes()) for path in paths]
    kind = f"keypoints-{provenance.code_digest('images/decoding', 'images/duplicates')[:16]}"
    stored = Cache(kind, [cv2.__version__])
    of_all = folders.content_hash("\n".join(names).encode())
    found = stored.read(of_all)
    if found is None:
        prints = _fingerprints(folder, paths, names, stored)
        found = np.array(sorted({*_of_one_work(folder, paths, prints), *candidates.alike_in_colour(prints)}), np.int64)
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
        first, second = geometry.described(one), geometry.described(other[:, ::-1] if flip else other)
        points, mates = geometry.agreeing(first, second)
        if len(points):
            found = np.stack([points / first.size, mates / second.size])
            if flip:
                found[1, :, 0] = 1 - found[1, :, 0]
            return found
    return np.empty((2, 0, 2))


def _fingerprints(folder: Path, paths: list[str], names: list[str], stored: Cache) -> list[Fingerprint]:
    """The fingerprints of all images, each computed once for its content."""
    found = [stored.read(name) for name in names]
    missing = [index for index, array in enumerate(found) if array is None]
    of_missing = [paths[index] for index in missing]
    computed = workers.map_parallel(partial(candidates.read, folder), of_missing, "finding keypoints")
    for index, one in zip(missing, computed, strict=True):
        found[index] = array = candidates.pack(one)
        stored.write(names[index], array)
    return [candidates.unpack(array) for array in found if array is not None]


def _of_one_work(folder: Path, paths: list[str], prints: list[Fingerprint]) -> Iterator[tuple[int, int]]:
    """The pairs of images whose keypoints show that they are one work."""
    found = candidates.search(prints)
    close = list(compress(found, in_threads(partial(candidates.agree, prints), found, "comparing keypoints")))
    # The second image of a mirrored pair is described mirrored.
    keys = list(dict.fromkeys(key for one, other, flip in close for key in ((one, False), (other, flip))))

    def described(key: tuple[int, bool]) -> Sift:
        image = decoding.read_within(folder / paths[key[0]], geometry.SIDE)
        return geometry.described(image[:, ::-1] if key[1] else image)

    features = dict(zip(keys, in_threads(described, keys, "describing candidates", "images"), strict=True))

    def is_one_work(pair: tuple[int, int, bool]) -> bool:
        one, other, flip = pair
        return len(geometry.agreeing(features[one, False], features[other, flip])[0]) > 0

    decided = in_threads(is_one_work, close, "comparing candidates")
    yield from ((one, other) for one, other, _ in compress(close, decided))
