"""The pictures of a split -> batches for TensorFlow.

The order of the pictures is drawn from (seed, epoch) and nothing else, so a training that goes on after an
interruption sees the batches that it would have seen.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from redarte.backend import tf
from redarte.dataset import Pictures


def training_batches(
    pictures: Pictures, batch_size: int, seed: int, epochs: range, devices: int = 1
) -> tf.data.Dataset:
    """The batches of all of `epochs`, one after the other, each epoch in its own order.

    Args:
        batch_size: a multiple of `devices`.
        devices: each batch is dealt out among so many. An epoch leaves out the few pictures, others each time,
            that would leave a device without one in the last batch.
    """

    def indices() -> Iterator[np.ndarray]:
        for epoch in epochs:
            order = np.random.default_rng([seed, epoch]).permutation(len(pictures))
            yield from _cut(order[: _whole(pictures, devices)], batch_size)

    return _batches(pictures, indices, len(epochs) * steps(pictures, batch_size, devices))


def steps(pictures: Pictures, batch_size: int, devices: int = 1) -> int:
    """How many batches an epoch takes; the last may be smaller."""
    return math.ceil(_whole(pictures, devices) / batch_size)


def ordered_batches(pictures: Pictures, batch_size: int) -> tf.data.Dataset:
    """The batches of one pass in the order of `pictures.paths`, for one device."""
    order = np.arange(len(pictures))
    return _batches(pictures, lambda: _cut(order, batch_size), steps(pictures, batch_size))


def _whole(pictures: Pictures, devices: int) -> int:
    return len(pictures) - len(pictures) % devices


def _cut(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _batches(pictures: Pictures, indices: Callable[[], Iterator[np.ndarray]], count: int) -> tf.data.Dataset:
    def read(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Not stateful: the same places give the same batch, so several may be read at once.
        pixels, labels = tf.numpy_function(pictures.batch, [places], (tf.uint8, tf.float32), stateful=False)
        return (
            tf.ensure_shape(pixels, [None, pictures.side, pictures.side, 3]),
            tf.ensure_shape(labels, [None, len(pictures.artists)]),
        )

    places = tf.data.Dataset.from_generator(indices, output_signature=tf.TensorSpec([None], tf.int64))
    batches = places.map(read, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return batches.apply(tf.data.experimental.assert_cardinality(count)).with_options(_options())


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # One process reads for all of its GPUs: a batch is dealt out among them, not files.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
