"""Stage split: copies each artist's images to data/split/{train,val,test}/<Artist>/, with split-folders.

Near-duplicates are found first, and kept in one split. data/images.csv lists all images.
"""

from pathlib import Path

from redarte import params
from redarte.images import duplicates, splitting
from redarte.images.splitting import SPLITS, manifest
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say

RAW = Path("data/raw")
SPLIT = Path("data/split")
IMAGES = Path("data/images.csv")
METRICS = Path("metrics/split.json")


def main() -> None:
    settings = params.load()
    originals = manifest.read(RAW)
    found = duplicates.groups(RAW, [original.file for original in originals])
    assignment, common_test = splitting.assign(RAW, originals, found, settings.split, settings.seed)
    splits = assignment.splits
    with outputs.atomic_folders(SPLIT, SPLITS) as targets:
        splitting.copy_images(RAW, originals, assignment, targets)
        outputs.write_text(IMAGES, manifest.to_csv(originals, splits, found, common_test))
        outputs.write_json(METRICS, manifest.metrics(originals, assignment.artists, splits, found))
    totals = [f"{name}: {list(splits.values()).count(name)}" for name in SPLITS]
    say(f"{', '.join(totals)} images of {len(assignment.artists)} artists; {len(found)} groups of near-duplicates")


if __name__ == "__main__":
    run_stage(main)
