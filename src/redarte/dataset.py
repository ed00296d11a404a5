"""data/resized -> the pictures of a split, decoded where they fit in memory."""

import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import psutil

from redarte import paintings, workers
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

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """The pictures alone, in order, `size` at a time: (b, side, side, 3) uint8."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))[0]

    def digest(self) -> str:
        """A hash of the names and the bytes of all the pictures."""
        hashed = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            hashed.update(path.encode() + b"\0" + (self.folder / path).read_bytes())
        return hashed.hexdigest()

    def _read(self, path: str) -> paintings.Picture:
        return paintings.read_square(self.folder / path, self.side)


def load(folder: Path, artists: list[str] | None = None, only: Container[str] | None = None) -> Pictures:
    """Lists a split of data/resized, and decodes it where it fits in memory.

    Args:
        folder: a class-per-folder tree of square pictures.
        artists: the classes, in the order of the network's outputs; None: the folders' names, sorted.
        only: the "<artist>/<file>" to take; None: all.

    Raises:
        UserError: the folder holds no pictures, or an artist that the network does not know.
    """
    artists = paintings.classes(folder) if artists is None else artists
    paths = [path for path in paintings.listing(folder) if only is None or path in only]
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
