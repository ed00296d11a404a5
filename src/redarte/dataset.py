"""data/resized -> batches for TensorFlow.

The order of the pictures is drawn from (seed, epoch) and nothing else, so a training that goes on after an
interruption sees the batches that it would have seen.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import psutil

from redarte import paintings, workers
from redarte.backend import tf
from redarte.errors import UserError

# Keep decoded pictures in memory while they take no more than this share of what is free.
_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class Pictures:
    """The pictures of one split.

    Attributes:
        folder: their class-per-folder tree.
        paths: "<artist>/<file>", sorted.
        labels: (n,), int64: each picture's artist, by its place in `artists`.
        artists: the classes, in the order of the network's outputs.
        side: of the square pictures, in px.
    """

    folder: Path
    paths: list[str]
    labels: np.ndarray
    artists: list[str]
    side: int
    _decoded: np.ndarray | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pictures at `indices` as (b, side, side, 3) uint8, and their one-hot labels (b, artists) float32."""
        if self._decoded is not None:
            pixels = self._decoded[indices]
        else:
            pixels = np.stack([self._read(self.paths[index]) for index in indices])
        return pixels, np.eye(len(self.artists), dtype=np.float32)[self.labels[indices]]

    def digest(self) -> str:
        """A hash of the names and the bytes of all the pictures."""
        hashed = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            hashed.update(path.encode() + b"\0" + (self.folder / path).read_bytes())
        return hashed.hexdigest()

    def _read(self, path: str) -> paintings.Picture:
        return paintings.read_square(self.folder / path, self.side)


def load(folder: Path, artists: list[str] | None = None) -> Pictures:
    """Lists a split of data/resized, and decodes it where it fits in memory.

    Args:
        folder: a class-per-folder tree of square pictures.
        artists: the classes, in the order of the network's outputs; None: the folders' names, sorted.

    Raises:
        UserError: the folder holds no pictures, or an artist that the network does not know.
    """
    artists = paintings.classes(folder) if artists is None else artists
    paths = paintings.listing(folder)
    if not paths:
        raise UserError(f"{folder} holds no pictures; run `dvc repro resize`.")
    place = {artist: number for number, artist in enumerate(artists)}
    unknown = sorted({path.partition("/")[0] for path in paths} - set(artists))
    if unknown:
        raise UserError(f"{folder} holds artists that the network was not trained on: {', '.join(unknown)}.")
    labels = np.array([place[path.partition("/")[0]] for path in paths], dtype=np.int64)
    side = paintings.size(folder / paths[0])[0]
    listed = Pictures(folder, paths, labels, artists, side, None)
    if len(paths) * side * side * 3 > psutil.virtual_memory().available * _MEMORY_SHARE:
        return listed
    return Pictures(folder, paths, labels, artists, side, _decode_all(listed))


def _decode_all(pictures: Pictures) -> np.ndarray:
    decoded = np.empty((len(pictures), pictures.side, pictures.side, 3), np.uint8)

    def put(index: int) -> None:
        decoded[index] = pictures._read(pictures.paths[index])

    # Threads suffice: OpenCV decodes outside Python's lock, and the pixels need not travel.
    joblib.Parallel(n_jobs=workers.count(), prefer="threads")(
        joblib.delayed(put)(index) for index in range(len(pictures))
    )
    return decoded


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
