"""Stage resize: writes square images to data/resized/{train,val,test}/<Artist>/, an ordinary Keras image folder.

train has the original images and their copies; val and test have originals only.
"""

from functools import partial
from pathlib import Path

from redarte import params
from redarte.images import decoding
from redarte.images.decoding import folders
from redarte.params import Resize
from redarte.runtime import cluster, outputs
from redarte.runtime.console import run_stage, say

SPLIT = Path("data/split")
AUGMENTED = Path("data/augmented")
RESIZED = Path("data/resized")
SPLITS = ("test", "train", "val")

# The path of an image, and its new path below data/resized.
_Job = tuple[Path, Path]


def main() -> None:
    settings = params.load().resize
    jobs = [
        *_jobs(AUGMENTED, "train"),
        *(job for split in SPLITS for job in _jobs(SPLIT / split, split)),
    ]
    with outputs.atomic_folders(RESIZED, SPLITS) as folders:
        for target in sorted({target.parent for _, target in jobs}):
            (folders[target.parts[0]] / target.name).mkdir()
        for _ in cluster.map_parallel(partial(write_resized, folders, settings), jobs, "resizing"):
            pass
    say(f"{len(jobs)} images of {settings.side}×{settings.side}")


def write_resized(folders: dict[str, Path], settings: Resize, job: _Job) -> None:
    """Resizes one image.

    Args:
        folders: split -> the output.
        settings: the section resize.
        job: the path of the image, and its new path below data/resized.
    """
    source, target = job
    split, *rest = target.parts
    decoding.write_jpeg(folders[split].joinpath(*rest), decoding.read_resized(source, settings.side), settings.quality)


def _jobs(tree: Path, split: str) -> list[_Job]:
    return [(tree / path, Path(split, path).with_suffix(".jpg")) for path in folders.list_images(tree)]


if __name__ == "__main__":
    run_stage(main)
