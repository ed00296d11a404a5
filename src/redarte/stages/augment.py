"""augment: the study's copies of every training picture, in data/augmented/<Artist>/<stem>__<copy>.jpg."""

from functools import partial
from pathlib import Path

from redarte import cluster, outputs, paintings, params, transforms
from redarte.console import run_stage, say
from redarte.params import Augment

TRAIN = Path("data/split/train")
AUGMENTED = Path("data/augmented")


def main() -> None:
    settings = params.load()
    pictures = paintings.listing(TRAIN)
    with outputs.whole_folder(AUGMENTED) as folder:
        for artist in paintings.classes(TRAIN):
            (folder / artist).mkdir()
        work = partial(write_copies, folder, settings.augment, settings.seed)
        written = sum(cluster.over(settings.augment.backend, work, pictures, "augmenting"))
    say(f"{written} copies of {len(pictures)} training pictures")


def write_copies(folder: Path, settings: Augment, seed: int, path: str) -> int:
    """Writes the copies of one training picture, and tells how many."""
    picture = paintings.read_within(TRAIN / path, settings.max_side)
    stem = (folder / path).with_suffix("")
    for name, copy in transforms.copies(picture, path, settings, seed):
        paintings.write_jpeg(stem.with_name(f"{stem.name}__{name}.jpg"), copy, settings.quality)
    return len(settings.copies)


if __name__ == "__main__":
    run_stage(main)
