"""Stage split: copies each artist's images to data/split/{train,val,test}/<Artist>/, with split-folders.

corrections.csv is applied, near-duplicates are found and kept in one split, and data/images.csv lists all images.
"""

from pathlib import Path

from redarte import params
from redarte.images import duplicates, splitting
from redarte.images.decoding import folders
from redarte.images.splitting import SPLITS, corrections, manifest
from redarte.images.splitting.corrections import Original
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say

RAW = Path("data/raw")
SPLIT = Path("data/split")
CORRECTIONS = Path("corrections.csv")
IMAGES = Path("data/images.csv")
METRICS = Path("metrics/split.json")


def main() -> None:
    settings = params.load()
    is_applied, paths = settings.split.apply_corrections, folders.list_images(RAW)
    rows = corrections.read(CORRECTIONS)
    originals, corrected = corrections.apply(CORRECTIONS, rows, RAW, paths, is_applied)
    found = duplicates.groups(RAW, paths)
    assignment, common_test = splitting.assign(RAW, originals, found, settings.split, settings.seed)
    if not is_applied:
        originals = [Original(path, path) for path in paths]
    splits = assignment.splits
    with outputs.atomic_folders(SPLIT, SPLITS) as targets:
        splitting.copy_images(RAW, originals, assignment, targets)
        outputs.write_text(IMAGES, manifest.to_csv(originals, splits, found, common_test))
        measured = manifest.metrics(originals, assignment.artists, splits, found)
        outputs.write_json(METRICS, measured | ({"corrections": corrected} if rows else {}))
    totals = [f"{name}: {list(splits.values()).count(name)}" for name in SPLITS]
    say(f"{', '.join(totals)} images of {len(assignment.artists)} artists; {len(found)} groups of near-duplicates")
    if rows:
        what = f"{corrected['relabelled']} images relabelled, {corrected['excluded']} excluded"
        say(f"{CORRECTIONS}: {what if is_applied else 'not applied (split.apply_corrections)'}")


if __name__ == "__main__":
    run_stage(main)
