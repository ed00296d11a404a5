"""Images in uncompressed tar files, one for each artist: <folder>/<artist>.tar with members "<artist>/<file>".

DVC looks at every file of a folder several times in each command (treeverse/dvc#9085): 150 tar files cost a fraction of
49,000 images. `tar -xf`, tarfile and WebDataset read them.
"""

import tarfile
from dataclasses import dataclass
from pathlib import Path

from redarte.runtime.errors import UserError

_SUFFIX = ".tar"


@dataclass(frozen=True)
class Member:
    """An image in a tar file.

    Attributes:
        name: "<artist>/<file>".
        offset: of the content in the tar file, in bytes.
        size: of the content, in bytes.
    """

    shard: Path
    name: str
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        """Returns the content of the image file."""
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def __str__(self) -> str:
        return f"{self.shard}:{self.name}"


def path_of(folder: Path, artist: str) -> Path:
    """Returns the path of an artist's tar file."""
    return folder / f"{artist}{_SUFFIX}"


def members(shard: Path) -> list[Member]:
    """Returns the images of a tar file, in its order."""
    try:
        with tarfile.open(shard, "r:") as tar:
            found = [Member(shard, member.name, member.offset_data, member.size) for member in tar]
        # At a corrupt header, tarfile stops as if the archive ended there (python/cpython#120740).
        with shard.open("rb") as file:
            file.seek(-(-(found[-1].offset + found[-1].size) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
            end = file.read()
        if len(end) < 2 * tarfile.BLOCKSIZE or any(end):
            raise tarfile.ReadError("corrupt or truncated")
        return found
    except (tarfile.TarError, IndexError, OSError) as error:
        raise UserError(f"{shard} cannot be read ({error}): run `dvc checkout`.") from None


def files(folder: Path) -> list[Path]:
    """Returns the tar files of a folder, sorted by artist."""
    shards = (path for path in folder.iterdir() if path.suffix == _SUFFIX and path.is_file())
    return sorted(shards, key=lambda shard: shard.stem)
