"""Stage resize: writes square images to data/resized/{train,val}/<Artist>.tar.

train has the original images and their copies; val has originals only. The test images are read from data/split.
"""

import io
import tarfile
from collections.abc import Iterable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from redarte import params
from redarte.images import decoding, folders
from redarte.params import Resize
from redarte.runtime import cluster, outputs, paths
from redarte.runtime.console import run_stage, say

SPLITS = ("train", "val")


class _Job(NamedTuple):
    split: str
    artist: str
    name: str
    source: Path


def main() -> None:
    settings = params.load().resize
    jobs = sorted(
        [*_jobs(paths.AUGMENTED, "train"), *(job for split in SPLITS for job in _jobs(paths.SPLIT / split, split))]
    )
    with outputs.atomic_folder(paths.RESIZED) as folder:
        for split in SPLITS:
            (folder / split).mkdir()
        work = partial(resized_jpeg, settings)
        contents = cluster.map_parallel(work, [job.source for job in jobs], "resizing")
        of_each_artist = groupby(zip(jobs, contents, strict=True), key=lambda pair: pair[0][:2])
        for (split, artist), pairs in of_each_artist:
            images = ((f"{artist}/{job.name}", content) for job, content in pairs)
            write_shard(folder / split / f"{artist}.tar", images)
    say(f"{len(jobs)} images of {settings.side}×{settings.side}")


def resized_jpeg(settings: Resize, source: Path) -> bytes:
    """Returns a resized image as JPEG."""
    return decoding.jpeg(decoding.read_resized(source, settings.side), settings.quality)


def write_shard(shard: Path, images: Iterable[tuple[str, bytes]]) -> None:
    """Writes a tar file. Equal names and contents give equal bytes: the members have no times and no owners.

    Args:
        images: "<artist>/<file>" and content, in the order of the members.
    """
    with tarfile.open(shard, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in images:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def _jobs(tree: Path, split: str) -> list[_Job]:
    named = ((image_id.partition("/"), file) for image_id, file in folders.files_by_id(tree).items())
    return [_Job(split, artist, f"{stem}.jpg", file) for (artist, _, stem), file in named]


if __name__ == "__main__":
    run_stage(main)
