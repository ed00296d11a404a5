"""Pairs of similar hashes among many images: by the index of `images.duplicates`, and by comparing all pairs.

    python -m benchmarks.near_hashes --counts 8446 100000 1000000 2000000

The hashes are random, with a near-duplicate of every hundredth image, whose hash differs in 14 bits.
"""

import argparse
import time

import numpy as np

from redarte.images import duplicates

_COMPARED = 100_000  # all pairs of more images take too long
_BLOCK = 40  # rows: the differences of a block fit in the cache of a core


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[8446, 100_000])
    counts = parser.parse_args().counts
    print("| images | pairs | seconds | seconds for all pairs, one core | equal |\n| --- | --- | --- | --- | --- |")
    for count in counts:
        hashes, mirrored = draw(count)
        started = time.perf_counter()
        found = duplicates.near_hashes(hashes, mirrored)
        row = [f"{count:,}", f"{len(found):,}", f"{time.perf_counter() - started:.1f}"]
        if count <= _COMPARED:
            started = time.perf_counter()
            expected = all_pairs(hashes, mirrored)
            row += [f"{time.perf_counter() - started:.1f}", "yes" if np.array_equal(found, expected) else "NO"]
        print(f"| {' | '.join(row + [''] * (5 - len(row)))} |", flush=True)


def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns hashes of images and of their mirror images: (count,), uint64, each."""
    rng = np.random.default_rng(0)
    hashes, mirrored = rng.integers(0, 2**64, (2, count), dtype=np.uint64)
    for index in range(0, count - 1, 100):
        bits = np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, 14, replace=False).astype(np.uint64))
        hashes[index] = (hashes, mirrored)[index // 100 % 2][rng.integers(index + 1, count)] ^ bits
    return hashes, mirrored


def all_pairs(hashes: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Returns the pairs of indices whose hashes differ in 14 bits at most: (pairs, 2), int64, sorted."""
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK, None]
        differ = np.minimum(np.bitwise_count(rows ^ hashes[start:]), np.bitwise_count(rows ^ mirrored[start:]))
        one, other = np.nonzero(differ <= 14)
        later = one < other
        found.append(np.stack([one[later], other[later]], axis=1) + start)
    return np.concatenate(found)


if __name__ == "__main__":
    main()
