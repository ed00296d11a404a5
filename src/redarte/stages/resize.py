"""resize: squares for the networks in data/resized/{train,val,test}/<Artist>/, an ordinary Keras image folder.

train holds the original pictures and their copies; val and test hold originals only.
"""

from functools import partial
from pathlib import Path

from redarte import params
from redarte.params import Resize
from redarte.pictures import images
from redarte.runtime import cluster, outputs
from redarte.runtime.console import run_stage, say

SPLIT = Path("data/split")
AUGMENTED = Path("data/augmented")
RESIZED = Path("data/resized")
SPLITS = ("test", "train", "val")

# A picture's place now, and its place below data/resized.
_Move = tuple[Path, Path]


def main() -> None:
    settings = params.load().resize
    moves = [
        *_moves(AUGMENTED, "train"),
        *(move for split in SPLITS for move in _moves(SPLIT / split, split)),
    ]
    with outputs.atomic_folders(RESIZED, SPLITS) as folders:
        for target in sorted({target.parent for _, target in moves}):
            (folders[target.parts[0]] / target.name).mkdir()
        for _ in cluster.map_parallel(partial(write_square, folders, settings), moves, "resizing"):
            pass
    say(f"{len(moves)} pictures of {settings.side}×{settings.side}")


def write_square(folders: dict[str, Path], settings: Resize, move: _Move) -> None:
    """Resizes one picture: INTER_AREA where it shrinks, INTER_CUBIC where it grows."""
    source, target = move
    split, *rest = target.parts
    images.write_jpeg(folders[split].joinpath(*rest), images.read_square(source, settings.side), settings.quality)


def _moves(tree: Path, split: str) -> list[_Move]:
    return [(tree / path, Path(split, path).with_suffix(".jpg")) for path in images.list_images(tree)]


if __name__ == "__main__":
    run_stage(main)
