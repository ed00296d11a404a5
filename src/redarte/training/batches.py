"""The pictures of a split -> batches for TensorFlow.

The order of the pictures is drawn from (seed, epoch) and nothing else, so a training that goes on after an
interruption sees the batches that it would have seen.
"""

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from redarte.training.backend import tf
from redarte.training.dataset import Pictures


def training_batches(
    pictures: Pictures,
    batch_size: int,
    seed: int,
    epochs: range,
    devices: int = 1,
    mine: range = range(1),
    crop: bool = False,
    weights: np.ndarray | None = None,
) -> tf.data.Dataset:
    """The batches of all of `epochs`, one after the other, each epoch in its own order.

    Args:
        batch_size: a multiple of `devices`.
        devices: each batch is dealt out among so many. An epoch leaves out the few pictures, others each time,
            that would leave a device without one in the last batch.
        mine: the devices whose parts of each batch are wanted, one after the other.
        crop: gives random resized crops, mirrored or not, in each epoch others.
        weights: (artists,) float32: what a picture of each counts, which is then the third of a batch; None: the same.
    """

    def indices() -> Iterator[tuple[np.ndarray, int]]:
        for epoch in epochs:
            order = np.random.default_rng([seed, epoch]).permutation(len(pictures))
            for places in _cut(order[: _whole(pictures, devices)], batch_size):
                parts = np.split(places, devices)
                for device in mine:
                    yield parts[device], epoch

    def change(pixels: np.ndarray, places: np.ndarray, epoch: int) -> np.ndarray:
        rngs = (np.random.default_rng([seed, epoch, place]) for place in places)
        return np.stack([random_resized_crop(picture, rng) for picture, rng in zip(pixels, rngs, strict=True)])

    count = len(epochs) * steps(pictures, batch_size, devices) * len(mine)
    drawn = _batches(pictures, indices, count, change if crop else None)
    if weights is None:
        return drawn
    return drawn.map(lambda pixels, labels: (pixels, labels, tf.linalg.matvec(labels, weights)))


def steps(pictures: Pictures, batch_size: int, devices: int = 1) -> int:
    """How many batches an epoch takes; the last may be smaller."""
    return math.ceil(_whole(pictures, devices) / batch_size)


def ordered_batches(pictures: Pictures, batch_size: int) -> tf.data.Dataset:
    """The batches of one pass in the order of `pictures.paths`, for one device."""
    order = np.arange(len(pictures))
    return _batches(pictures, lambda: ((places, 0) for places in _cut(order, batch_size)), steps(pictures, batch_size))


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


def _batches(
    pictures: Pictures,
    indices: Callable[[], Iterator[tuple[np.ndarray, int]]],
    count: int,
    change: Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None = None,
) -> tf.data.Dataset:
    def load(places: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, labels = pictures.batch(places)
        return pixels if change is None else change(pixels, places, int(epoch)), labels

    def read(places: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Not stateful: the same places and epoch give the same batch, so several may be read at once.
        pixels, labels = tf.numpy_function(load, [places, epoch], (tf.uint8, tf.float32), stateful=False)
        return (
            tf.ensure_shape(pixels, [None, pictures.side, pictures.side, 3]),
            tf.ensure_shape(labels, [None, len(pictures.artists)]),
        )

    signature = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64))
    places = tf.data.Dataset.from_generator(indices, output_signature=signature)
    batches = places.map(read, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return batches.apply(tf.data.experimental.assert_cardinality(count))
