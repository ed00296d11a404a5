"""Batches for training and validation.

The order of the images is drawn from (seed, epoch) and nothing else, so that a resumed training sees the batches that
an uninterrupted one would have seen.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from redarte.images.dataset import Dataset
from redarte.runtime import workers

# Images (b, side, side, 3) uint8, one-hot labels (b, artists) float32, and optionally sample weights (b,) float32.
Batch = tuple[np.ndarray, ...]
_Item = tuple[np.ndarray, int]  # indices of images, and the epoch


def training_batches(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    epochs: range,
    devices: int = 1,
    split: bool = False,
    crop: bool = False,
    weights: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Yields the batches of all of `epochs`, each epoch in a different order.

    Args:
        epochs: from 0.
        devices: how many devices share a batch. An epoch leaves out the few images, different ones each time, that
            would leave a device without an image in the last batch.
        split: whether the parts of each batch for the devices are yielded, one after the other.
        weights: (artists,), float32: the weight of an image of each artist; None: no sample weights.
    """

    def items() -> Iterator[_Item]:
        for epoch in epochs:
            order = np.random.default_rng([seed, epoch]).permutation(len(dataset))
            for indices in _split_into(order[: images_per_epoch(dataset, devices)], batch_size):
                yield from ((part, epoch) for part in (np.split(indices, devices) if split else [indices]))

    def load(indices: np.ndarray, epoch: int) -> Batch:
        pixels, labels = dataset.batch(indices)
        if crop:
            rngs = [np.random.default_rng([seed, epoch, index]) for index in indices]
            pixels = np.stack([random_resized_crop(image, rng) for image, rng in zip(pixels, rngs, strict=True)])
        return (pixels, labels) if weights is None else (pixels, labels, labels @ weights)

    return _load_ahead(load, items(), workers.count() if crop or not dataset.in_memory else 1)


def steps(dataset: Dataset, batch_size: int, devices: int = 1) -> int:
    """Returns the number of batches in an epoch; the last batch may be smaller."""
    return math.ceil(images_per_epoch(dataset, devices) / batch_size)


def images_per_epoch(dataset: Dataset, devices: int) -> int:
    """Returns the number of images in an epoch, a multiple of the number of devices."""
    return len(dataset) - len(dataset) % devices


def ordered_batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """Yields the batches of one pass in the order of the dataset, for one device.

    Args:
        batch_size: 1 or more.
    """
    items = ((indices, 0) for indices in _split_into(np.arange(len(dataset)), batch_size))
    return _load_ahead(lambda indices, _: dataset.batch(indices), items, 1 if dataset.in_memory else workers.count())


def random_resized_crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a random crop of an image, resized to the image's size and flipped horizontally or not.

    The crop has 0.4 to 1 of the area and an aspect ratio of 3:4 to 4:3, as in Szegedy et al., "Going deeper with
    convolutions" (2015), who start at 0.08 of the area; smaller details say less about a painter.

    Args:
        image: (side, side, 3), uint8.

    Returns:
        (side, side, 3), uint8.
    """
    side = image.shape[0]
    area, ratio = rng.uniform(0.4, 1), np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
    width, height = (min(side, round(side * math.sqrt(area * by))) for by in (ratio, 1 / ratio))
    x, y = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
    crop = cv2.resize(image[y : y + height, x : x + width], (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _split_into(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _load_ahead(load: Callable[[np.ndarray, int], Batch], items: Iterator[_Item], threads: int) -> Iterator[Batch]:
    pool = ThreadPoolExecutor(threads)
    try:
        for _, batch in workers.look_ahead(lambda item: pool.submit(load, *item), items, threads):
            yield batch.result()
    finally:
        # A training that ends early does not wait for the remaining batches.
        pool.shutdown(wait=False, cancel_futures=True)
