"""Stage fetch: copies the images of the source to data/raw/<Artist>/<file>."""

import importlib
from pathlib import Path

from redarte import params
from redarte.images import collection
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say

RAW = Path("data/raw")
METRICS = Path("metrics/fetch.json")
CORRECTIONS = Path("corrections.csv")


def main() -> None:
    settings = params.load().fetch
    source = importlib.import_module(f"redarte.images.sources.{settings.source}")
    with outputs.scratch_folder(RAW) as scratch, outputs.atomic_folder(RAW) as raw:
        tree = source.tree(settings, scratch)
        section = getattr(settings, settings.source)
        root, parameter = getattr(section, "root", None), f"fetch.{settings.source}.root"
        found = collection.find_images(
            tree, settings.max_megapixels * 1e6, root, parameter, CORRECTIONS, settings.apply_corrections
        )
        collection.copy_images(found, raw, move=tree == scratch)
        outputs.write_json(METRICS, {"source": settings.source, "root": found.root or ".", **found.metrics()})
    skipped = sum(map(len, found.skipped.values()))
    say(f"{len(found.images)} images of {len(found.artists())} artists; {skipped} files skipped ({METRICS})")


if __name__ == "__main__":
    run_stage(main)
