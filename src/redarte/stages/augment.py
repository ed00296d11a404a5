"""augment: the study's copies of every training picture, in data/augmented/<Artist>/<stem>__<copy>.jpg."""

from functools import partial
from pathlib import Path

from redarte import params
from redarte.params import Augment
from redarte.pictures import images, transforms
from redarte.runtime import cluster, outputs
from redarte.runtime.console import run_stage, say

TRAIN = Path("data/split/train")
AUGMENTED = Path("data/augmented")


def main() -> None:
    settings = params.load()
    pictures = images.list_images(TRAIN)
    with outputs.atomic_folder(AUGMENTED) as folder:
        for artist in images.classes(TRAIN):
            (folder / artist).mkdir()
        work = partial(write_copies, folder, settings.augment, settings.seed)
        written = sum(cluster.map_parallel(work, pictures if settings.augment.copies else [], "augmenting"))
    say(f"{written} copies of {len(pictures)} training pictures")


def write_copies(folder: Path, settings: Augment, seed: int, path: str) -> int:
    """Writes the copies of one training picture, and tells how many."""
    picture = images.read_within(TRAIN / path, settings.max_side)
    stem = (folder / path).with_suffix("")
    for name, copy in transforms.copies(picture, path, settings, seed):
        images.write_jpeg(stem.with_name(f"{stem.name}{images.COPY_MARK}{name}.jpg"), copy, settings.quality)
    return len(settings.copies)


if __name__ == "__main__":
    run_stage(main)
