"""Stage split: copies each artist's images to data/split/{train,val,test}/<Artist>/, with split-folders.

corrections.csv is applied, near-duplicates are found and kept in one split, and data/images.csv lists all images.
"""

from redarte import params
from redarte.images import duplicates, folders, splitting
from redarte.images.splitting import SPLITS, corrections, manifest
from redarte.images.splitting.corrections import RawImage
from redarte.runtime import outputs, paths
from redarte.runtime.console import run_stage, say


def main() -> None:
    settings = params.load()
    is_applied, raw = settings.split.apply_corrections, folders.list_images(paths.RAW)
    rows = corrections.read(paths.CORRECTIONS)
    images, corrected = corrections.apply(paths.CORRECTIONS, rows, paths.RAW, raw, is_applied)
    pairs = duplicates.pairs(paths.RAW, raw)
    found, corrected_groups = (duplicates.groups(raw, some) for some in (pairs, corrections.undisputed(pairs, images)))
    assignment, common_test = splitting.assign(
        paths.RAW, images, found, corrected_groups, settings.split, settings.seed
    )
    if is_applied:
        found = corrected_groups
    else:
        images = [RawImage(path, path) for path in raw]
    splits = assignment.splits
    with outputs.atomic_folders(paths.SPLIT, SPLITS) as targets:
        splitting.copy_images(paths.RAW, images, assignment, targets)
        outputs.write_text(paths.IMAGES, manifest.to_csv(images, splits, found, common_test))
        measured = manifest.metrics(images, assignment.artists, splits, found)
        outputs.write_json(paths.METRICS / "split.json", measured | ({"corrections": corrected} if rows else {}))
    totals = [f"{name}: {list(splits.values()).count(name)}" for name in SPLITS]
    say(f"{', '.join(totals)} images of {len(assignment.artists)} artists; {len(found)} groups of near-duplicates")
    if rows:
        what = f"{corrected['relabelled']} images relabelled, {corrected['excluded']} excluded"
        say(f"{paths.CORRECTIONS}: {what if is_applied else 'not applied (split.apply_corrections)'}")


if __name__ == "__main__":
    run_stage(main)
