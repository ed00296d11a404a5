"""Stage split: copies each artist's images to data/split/{train,val,test}/<Artist>/, with split-folders.

Near-duplicates are found first, and kept in one split. data/near_duplicates.csv lists them.
"""

from pathlib import Path

from redarte import params
from redarte.images import duplicates, splitting
from redarte.images.decoding import folders
from redarte.images.splitting import SPLITS
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say

RAW = Path("data/raw")
SPLIT = Path("data/split")
DUPLICATES = Path("data/near_duplicates.csv")
METRICS = Path("metrics/split.json")


def main() -> None:
    settings = params.load()
    paths = folders.list_images(RAW)
    found = duplicates.groups(RAW, paths)
    groups, disputed = splitting.group_images(paths, found if settings.split.keep_duplicates_together else [])
    sizes = splitting.split_sizes({artist: len(own) for artist, own in groups.items()}, settings.split)
    assignment: dict[str, str] = {}
    with outputs.atomic_folders(SPLIT, SPLITS) as targets:
        for artist, size in sizes.items():
            assignment |= splitting.copy_artist(
                RAW, artist, groups[artist], disputed[artist], size, settings.seed, targets
            )
        outputs.write_text(DUPLICATES, splitting.duplicates_csv(found, assignment))
        outputs.write_json(METRICS, splitting.metrics(paths, sizes, assignment, found))
    totals = [f"{name}: {list(assignment.values()).count(name)}" for name in SPLITS]
    say(f"{', '.join(totals)} images of {len(sizes)} artists; {len(found)} groups of near-duplicates")


if __name__ == "__main__":
    run_stage(main)
