"""data/resized -> the pictures of a split, decoded where they fit in memory."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
import psutil

from redarte.pictures import images
from redarte.runtime import workers
from redarte.runtime.errors import UserError

RESIZED = Path("data/resized")
SPLIT = Path("data/split")
# Without REDARTE_MEMORY, decoded pictures may take this share of what is free.
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
        jpeg_quality: of the compression that pictures go through once they have this side, as those of data/resized
            did; None: they do not.
    """

    folder: Path
    paths: list[str]
    labels: np.ndarray
    artists: list[str]
    side: int
    _decoded: np.ndarray | None = field(repr=False)
    jpeg_quality: int | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pictures at `indices` as (b, side, side, 3) uint8, and their one-hot labels (b, artists) float32."""
        if self._decoded is not None:
            pixels = self._decoded[indices]
        else:
            pixels = np.stack([self._read(self.paths[index]) for index in indices])
        return pixels, np.eye(len(self.artists), dtype=np.float32)[self.labels[indices]]

    @property
    def in_memory(self) -> bool:
        """Whether they are decoded."""
        return self._decoded is not None

    def moved(self, move: Callable[[np.ndarray], Any]) -> "Pictures":
        """The same pictures, with what is decoded of them moved elsewhere: to a GPU, which then gives their batches."""
        return self if self._decoded is None else replace(self, _decoded=move(self._decoded))

    def at(self, indices: np.ndarray) -> "Pictures":
        """The pictures at `indices` alone."""
        pixels = None if self._decoded is None else self._decoded[indices]
        paths = [self.paths[index] for index in indices]
        return replace(self, paths=paths, labels=self.labels[indices], _decoded=pixels)

    def batches(self, size: int | None = None) -> Iterator[np.ndarray]:
        """The pictures alone, in order, `size` or a few at a time: (b, side, side, 3) uint8."""
        size = size or images.at_a_time(self.side)
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))[0]

    def digest(self) -> str:
        """A hash of the names and the bytes of all the pictures."""
        hashed = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            hashed.update(path.encode() + b"\0" + (self.folder / path).read_bytes())
        return hashed.hexdigest()

    def _read(self, path: str) -> images.Picture:
        picture = images.read_square(self.folder / path, self.side)
        return images.through_jpeg(picture, self.jpeg_quality)


def load(
    folder: Path, artists: list[str] | None = None, side: int | None = None, jpeg_quality: int | None = None
) -> Pictures:
    """Lists a split, and decodes it where it fits in memory.

    Args:
        folder: a class-per-folder tree of pictures.
        artists: the classes, in the order of the network's outputs; None: the folders' names, sorted.
        side: squeezes the pictures to this many px; None: as large as the first, which is square.
        jpeg_quality: see `Pictures`.

    Raises:
        UserError: the folder holds no pictures, or an artist that the network does not know.
    """
    artists = images.classes(folder) if artists is None else artists
    paths = images.list_images(folder)
    if not paths:
        raise UserError(f"{folder} holds no pictures; run `dvc repro resize`.")
    place = {artist: number for number, artist in enumerate(artists)}
    unknown = sorted({path.partition("/")[0] for path in paths} - set(artists))
    if unknown:
        raise UserError(f"{folder} holds artists that the network was not trained on: {', '.join(unknown)}.")
    labels = np.array([place[path.partition("/")[0]] for path in paths], dtype=np.int64)
    side = side or images.size(folder / paths[0])[0]
    return _decoded(Pictures(folder, paths, labels, artists, side, None, jpeg_quality))


def resized() -> tuple[Pictures, Pictures]:
    """Train and val of data/resized, by train's artists: originals and copies in train, originals in val."""
    train = load(RESIZED / "train")
    return train, load(RESIZED / "val", train.artists)


def originals(side: int) -> tuple[Pictures, Pictures]:
    """Train and val of data/split, squeezed to side×side px."""
    train = load(SPLIT / "train", side=side)
    return train, load(SPLIT / "val", train.artists, side=side)


class TrainedOn(Protocol):
    """What a trained network says of its images: see `inference.predictor.Metadata`."""

    @property
    def artists(self) -> list[str]: ...

    @property
    def jpeg_quality(self) -> int | None: ...


def load_for(trained: TrainedOn, side: int, split: str) -> Pictures:
    """A split, val or test, as a trained network with an input of side×side px sees it.

    Raises:
        UserError: as `load`.
    """
    return load(folder_for(trained, split), trained.artists, side)


def folder_for(trained: TrainedOn, split: str) -> Path:
    """Where a trained network finds a split: in data/resized if it was trained on these images, else in data/split."""
    return (SPLIT if trained.jpeg_quality is None else RESIZED) / split


def memory() -> float:
    """How many bytes the decoded pictures of a split may take: REDARTE_MEMORY gigabytes, else half of what is free.

    An environment variable and no parameter, because it changes no byte of any output. With 0, every picture is read
    from the disk each time.
    """
    wish = os.environ.get("REDARTE_MEMORY", "")
    try:
        gigabytes = float(wish) if wish else psutil.virtual_memory().available * _MEMORY_SHARE / 1e9
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < math.inf:
        raise UserError(f"REDARTE_MEMORY is {wish!r}; set it to a number of gigabytes, 0 or more.")
    return gigabytes * 1e9


def _decoded(listed: Pictures) -> Pictures:
    """The same pictures, decoded where they fit in memory."""
    if len(listed) * listed.side**2 * 3 > memory():
        return listed
    return replace(listed, _decoded=_decode_all(listed))


def _decode_all(pictures: Pictures) -> np.ndarray:
    decoded = np.empty((len(pictures), pictures.side, pictures.side, 3), np.uint8)

    def put(index: int) -> None:
        decoded[index] = pictures._read(pictures.paths[index])

    # Threads suffice: OpenCV decodes outside Python's lock, and the pixels need not travel.
    joblib.Parallel(n_jobs=workers.count(), prefer="threads")(
        joblib.delayed(put)(index) for index in range(len(pictures))
    )
    return decoded
