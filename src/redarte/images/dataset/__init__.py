"""The images of a split with their labels, decoded in memory where they fit."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from redarte.images import decoding, folders
from redarte.images.dataset import shards
from redarte.runtime import memory, paths, workers
from redarte.runtime.errors import UserError

ImageFile = Path | shards.Member
_BATCH_SIZE = 32  # for images of 224 px
_MEMORY_SHARE = 0.5  # of the free memory, for decoded images, without REDARTE_MEMORY


@dataclass(frozen=True)
class Dataset:
    """The images of one split.

    Attributes:
        ids: the images' identities, "<artist>/<stem>", sorted.
        labels: (n,), int64: the artist of each image, as an index into `artists`.
        artists: the classes, in the order of the model's outputs.
        side: the width and height of the images as the model sees them, in px.
        jpeg_quality: images are compressed with this quality after resizing, as those of data/resized were; None: not.
    """

    ids: list[str]
    files: list[ImageFile]
    labels: np.ndarray
    artists: list[str]
    side: int
    _decoded: np.ndarray | None = field(repr=False)
    jpeg_quality: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def in_memory(self) -> bool:
        """Whether the images are decoded."""
        return self._decoded is not None

    @property
    def decoded_size(self) -> int:
        """The bytes of the decoded images."""
        return len(self) * self.side**2 * 3

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns some of the images and their labels.

        Args:
            indices: (b,), int.

        Returns:
            Images (b, side, side, 3), uint8, and one-hot labels (b, artists), float32.
        """
        pixels = np.stack(_in_threads(self.read, indices)) if self._decoded is None else self._decoded[indices]
        return pixels, np.eye(len(self.artists), dtype=np.float32)[self.labels[indices]]

    def with_decoded(self, convert: Callable[[np.ndarray], Any]) -> "Dataset":
        """Returns the same dataset with the decoded images converted, for instance copied to a GPU.

        Args:
            convert: takes (n, side, side, 3), uint8; it is not called where the images are not decoded.
        """
        return self if self._decoded is None else replace(self, _decoded=convert(self._decoded))

    def subset(self, indices: np.ndarray) -> "Dataset":
        """Returns a dataset of some of the images.

        Args:
            indices: (b,), int.
        """
        pixels = None if self._decoded is None else self._decoded[indices]
        ids, files = ([values[index] for index in indices] for values in (self.ids, self.files))
        return replace(self, ids=ids, files=files, labels=self.labels[indices], _decoded=pixels)

    def batches(self, size: int | None = None) -> Iterator[np.ndarray]:
        """Yields the images without labels, in order: (b, side, side, 3), uint8.

        Args:
            size: the batch size; by default `inference_batch_size`.
        """
        size = size or inference_batch_size(self.side)
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))[0]

    @cached_property
    def content_hashes(self) -> list[str]:
        """The hash of each file's content."""
        return _in_threads(lambda index: folders.content_hash(self.files[index].read_bytes()), range(len(self)))

    def digest(self) -> str:
        """Returns a hash of the identities and the bytes of all files."""
        hashed = hashlib.blake2b(digest_size=16)
        for image_id, file in zip(self.ids, self.files, strict=True):
            hashed.update(image_id.encode() + b"\0" + file.read_bytes())
        return hashed.hexdigest()

    def read(self, index: int) -> decoding.ImageArray:
        """Returns one image as the model sees it, from its file: (side, side, 3), uint8."""
        image = decoding.read_resized(self.files[index], self.side)
        return decoding.through_jpeg(image, self.jpeg_quality)


def load(
    folder: Path,
    artists: list[str] | None = None,
    side: int | None = None,
    jpeg_quality: int | None = None,
    with_copies: bool = True,
    decode: bool = True,
) -> Dataset:
    """Loads a split.

    Args:
        folder: a class-per-folder tree, or one tar file for each artist (`shards`).
        artists: the classes, in the order of the model's outputs; None: the artists of the folder, sorted.
        side: images are resized to this side, in px; None: the side of the first image, which is square.
        decode: whether the images are decoded now, where they fit in memory; else when they are read.
    """
    files = {
        image_id: file for image_id, file in image_files(folder).items() if with_copies or not folders.is_copy(image_id)
    }
    if not files:
        raise UserError(f"{folder} has no images; run `dvc repro`.")
    artist_of = [image_id.partition("/")[0] for image_id in files]
    artists = sorted(set(artist_of)) if artists is None else artists
    index_of = {artist: index for index, artist in enumerate(artists)}
    unknown = sorted(set(artist_of) - set(artists))
    if unknown:
        raise UserError(f"{folder} has artists that the model was not trained on: {', '.join(unknown)}.")
    labels = np.array([index_of[artist] for artist in artist_of], dtype=np.int64)
    side = side or decoding.size(next(iter(files.values())))[0]
    dataset = Dataset(list(files), list(files.values()), labels, artists, side, None, jpeg_quality)
    return _decode_if_fits(dataset) if decode else dataset


def image_files(folder: Path) -> dict[str, ImageFile]:
    """Returns the image files of a split by their identity, "<artist>/<stem>", sorted.

    Args:
        folder: a class-per-folder tree, or one tar file for each artist (`shards`).
    """
    if found := shards.files(folder):
        members = [member for shard in found for member in shards.members(shard)]
        # The same order as that of a class-per-folder tree.
        members.sort(key=lambda member: member.name)
        return {folders.image_id(member.name): member for member in members}
    return {**folders.files_by_id(folder)}


def load_resized() -> tuple[Dataset, Dataset]:
    """Returns train and val of data/resized: originals and copies in train, originals in val."""
    train = load(paths.RESIZED / "train")
    return train, load(paths.RESIZED / "val", train.artists)


def load_as_trained(split: str, artists: list[str], side: int, jpeg_quality: int | None) -> Dataset:
    """Returns a split of data/split, with the pixels that a model was trained on, as `redarte predict` does it.

    Args:
        side: in px.
        jpeg_quality: of the images of data/resized that the model was trained on; None: it read the originals.
    """
    folder = paths.SPLIT / split
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; create it with `dvc repro split`, or get it with `dvc pull`.")
    return load(folder, artists, side, jpeg_quality, decode=False)


def load_originals(side: int, decode: bool = True) -> tuple[Dataset, Dataset]:
    """Returns train and val of data/split, resized on the fly.

    Args:
        side: in px.
        decode: as in `load`; False for a model that reads each image once.
    """
    train = load(paths.SPLIT / "train", side=side, decode=decode)
    return train, load(paths.SPLIT / "val", train.artists, side=side, decode=decode)


def inference_batch_size(side: int) -> int:
    """Returns how many images a model predicts at once: more are no faster on a CPU, and take memory.

    Args:
        side: of the images, in px.
    """
    return max(1, min(_BATCH_SIZE, _BATCH_SIZE * 224**2 // side**2))


def memory_limit() -> float:
    """Returns the memory for decoded images in bytes: REDARTE_MEMORY gigabytes, else half of the free memory.

    This is an environment variable and not a parameter, because it changes no byte of any output. With 0, every image
    is read from the disk each time.
    """
    requested = os.environ.get("REDARTE_MEMORY", "")
    try:
        gigabytes = float(requested) if requested else memory.available() * _MEMORY_SHARE / 1e9
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < math.inf:
        raise UserError(f"REDARTE_MEMORY is {requested!r}; set it to a number of gigabytes, 0 or more.")
    return gigabytes * 1e9


def _decode_if_fits(dataset: Dataset) -> Dataset:
    if dataset.decoded_size > memory_limit():
        return dataset
    decoded = np.empty((len(dataset), dataset.side, dataset.side, 3), np.uint8)

    def decode(index: int) -> None:
        decoded[index] = dataset.read(index)

    _in_threads(decode, range(len(dataset)))
    return replace(dataset, _decoded=decoded)


def _in_threads(function: Callable[[int], Any], indices: Iterable[int]) -> list[Any]:
    """The results of a function on all cores, in order.

    Threads are enough: OpenCV decodes without Python's lock, and the pixels need not be copied between processes.
    """
    parallel = joblib.Parallel(n_jobs=workers.count(), prefer="threads")
    return list(parallel(joblib.delayed(function)(index) for index in indices))
