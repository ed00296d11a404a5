"""Stage augment: writes the study's copies of every training image, data/augmented/<Artist>/<stem>__<copy>.jpg."""

from functools import partial
from pathlib import Path

from PIL import Image

from redarte import params
from redarte.images import contact_sheet, decoding, folders, transforms
from redarte.params import Augment
from redarte.runtime import cluster, outputs, paths
from redarte.runtime.console import run_stage, say

_TRAIN = paths.SPLIT / "train"


def main() -> None:
    settings = params.load()
    images = folders.list_images(_TRAIN)
    with outputs.atomic_folder(paths.AUGMENTED) as folder:
        for artist in folders.classes(_TRAIN):
            (folder / artist).mkdir()
        work = partial(write_copies, folder, settings.augment, settings.seed)
        written = sum(cluster.map_parallel(work, images if settings.augment.copies else [], "augmenting"))
    draw_copies(images[0])
    say(f"{written} copies of {len(images)} training images")


def write_copies(folder: Path, settings: Augment, seed: int, path: str) -> int:
    """Writes the copies of one training image.

    Args:
        path: "<artist>/<file>".
    """
    image = decoding.read_within(_TRAIN / path, settings.max_side)
    target = (folder / path).with_suffix("")
    for name, copy in transforms.copies(image, path, settings, seed):
        decoding.write_jpeg(target.with_name(f"{folders.copy_stem(target.name, name)}.jpg"), copy, settings.quality)
    return len(settings.copies)


def draw_copies(path: str) -> None:
    """Draws a training image beside its augmented copies (the study's figure 12).

    Args:
        path: "<artist>/<file>".
    """
    artist, _, _ = path.partition("/")
    copies = folders.copies_of(
        folders.image_id(path), {f"{artist}/{file.stem}": file for file in sorted((paths.AUGMENTED / artist).iterdir())}
    )
    images = [decoding.read_within(file, max_side=400) for file in (_TRAIN / path, *copies.values())]
    captions = ["original", *(name.replace("_", " ") for name in copies)]
    with outputs.atomic_file(paths.PLOTS / "copies.png") as partial_file:
        Image.fromarray(contact_sheet.draw(images, captions, columns=4, side=300)).save(partial_file)


if __name__ == "__main__":
    run_stage(main)
