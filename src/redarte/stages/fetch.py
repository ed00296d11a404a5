"""fetch: brings the pictures from their source into data/raw/<Artist>/<file>."""

import importlib
from pathlib import Path

from redarte import params
from redarte.pictures.collection import collection
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say

RAW = Path("data/raw")
METRICS = Path("metrics/fetch.json")


def main() -> None:
    settings = params.load().fetch
    source = importlib.import_module(f"redarte.pictures.sources.{settings.source}")
    with outputs.scratch_folder(RAW) as scratch, outputs.atomic_folder(RAW) as raw:
        tree = source.tree(settings, scratch)
        section = getattr(settings, settings.source)
        root, parameter = getattr(section, "root", None), f"fetch.{settings.source}.root"
        found = collection.collect(tree, settings.max_megapixels * 1e6, root, parameter)
        collection.place(found, raw, move=tree == scratch)
        outputs.write_json(METRICS, {"source": settings.source, "root": found.root or ".", **found.metrics()})
    aside = sum(map(len, found.set_aside.values()))
    say(f"{len(found.pictures)} pictures of {len(found.artists())} artists; {aside} files set aside ({METRICS})")


if __name__ == "__main__":
    run_stage(main)
