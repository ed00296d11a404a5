"""The pictures of a split -> batches.

The order of the pictures is drawn from (seed, epoch) and nothing else, so a training that goes on after an
interruption sees the batches that it would have seen.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import cv2
import numpy as np

from redarte.runtime import workers
from redarte.training.dataset import Pictures

# Pictures (b, side, side, 3) uint8, one-hot labels (b, artists) float32, and perhaps what each counts, (b,) float32.
Batch = tuple[np.ndarray, ...]
_Item = tuple[np.ndarray, int]  # places of pictures, and the epoch


def training_batches(
    pictures: Pictures,
    batch_size: int,
    seed: int,
    epochs: range,
    devices: int = 1,
    mine: range | None = None,
    crop: bool = False,
    weights: np.ndarray | None = None,
) -> Iterator[Batch]:
    """The batches of all of `epochs`, one after the other, each epoch in its own order.

    Args:
        batch_size: a multiple of `devices`.
        devices: each batch is dealt out among so many. An epoch leaves out the few pictures, others each time,
            that would leave a device without one in the last batch.
        mine: the devices whose parts of each batch are wanted, one after the other; None: whole batches.
        crop: gives random resized crops, mirrored or not, in each epoch others.
        weights: (artists,) float32: what a picture of each counts, which is then the third of a batch; None: the same.
    """

    def items() -> Iterator[_Item]:
        for epoch in epochs:
            order = np.random.default_rng([seed, epoch]).permutation(len(pictures))
            for places in _cut(order[: _whole(pictures, devices)], batch_size):
                for part in [places] if mine is None else np.split(places, devices)[mine.start : mine.stop]:
                    yield part, epoch

    def load(places: np.ndarray, epoch: int) -> Batch:
        pixels, labels = pictures.batch(places)
        if crop:
            rngs = [np.random.default_rng([seed, epoch, place]) for place in places]
            pixels = np.stack([random_resized_crop(picture, rng) for picture, rng in zip(pixels, rngs, strict=True)])
        return (pixels, labels) if weights is None else (pixels, labels, labels @ weights)

    return _ahead(load, items(), workers.count() if crop or not pictures.in_memory else 1)


def steps(pictures: Pictures, batch_size: int, devices: int = 1) -> int:
    """How many batches an epoch takes; the last may be smaller."""
    return math.ceil(_whole(pictures, devices) / batch_size)


def ordered_batches(pictures: Pictures, batch_size: int) -> Iterator[Batch]:
    """The batches of one pass in the order of `pictures.paths`, for one device."""
    items = ((places, 0) for places in _cut(np.arange(len(pictures)), batch_size))
    return _ahead(lambda places, _: pictures.batch(places), items, 1 if pictures.in_memory else workers.count())


def random_resized_crop(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part of a picture, as large as the picture, mirrored or not: (side, side, 3) uint8.

    The part has 0.4 to 1 of the area and sides in a proportion of 3:4 to 4:3, as in Szegedy et al., "Going deeper with
    convolutions" (2015), who begin at 0.08: a painting is known by more than one detail.
    """
    side = picture.shape[0]
    area, proportion = rng.uniform(0.4, 1), np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
    width, height = (min(side, round(side * math.sqrt(area * by))) for by in (proportion, 1 / proportion))
    x, y = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
    part = cv2.resize(picture[y : y + height, x : x + width], (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(part[:, ::-1] if rng.random() < 0.5 else part)


def _whole(pictures: Pictures, devices: int) -> int:
    return len(pictures) - len(pictures) % devices


def _cut(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _ahead(load: Callable[[np.ndarray, int], Batch], items: Iterator[_Item], threads: int) -> Iterator[Batch]:
    """load(*item) for each item, in their order, a few ahead of what is asked for."""
    pool = ThreadPoolExecutor(threads)
    try:
        started = (pool.submit(load, *item) for item in items)
        waiting = deque(islice(started, threads + 1))
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(islice(started, 1))
            yield batch
    finally:
        # A training that ends early does not wait for batches that nobody wants.
        pool.shutdown(wait=False, cancel_futures=True)
