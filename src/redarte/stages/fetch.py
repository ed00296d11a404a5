"""Stage fetch: copies the images of the source to data/raw/<Artist>/<file>."""

import importlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from redarte import params
from redarte.images import folders
from redarte.ingestion import collection
from redarte.params import Fetch
from redarte.runtime import outputs, paths
from redarte.runtime.console import run_stage, say

_METRICS = paths.METRICS / "fetch.json"


def main() -> None:
    settings = params.load().fetch
    source = importlib.import_module(f"redarte.ingestion.sources.{settings.source}")
    with outputs.scratch_folder(paths.RAW) as scratch, outputs.atomic_folder(paths.RAW) as raw:
        tree = source.fetch_files(settings, scratch)
        section = getattr(settings, settings.source)
        root, parameter = getattr(section, "root", None), f"fetch.{settings.source}.root"
        found = collection.find_images(tree, settings.max_megapixels * 1e6, root, parameter)
        collection.copy_images(found, raw, move=tree == scratch)
        described = {"source": settings.source, "data_set": data_set(settings), "root": found.root or "."}
        outputs.write_json(_METRICS, described | found.metrics() | {"digest": folders.digest(raw)})
    skipped = sum(map(len, found.skipped.values()))
    say(f"{len(found.images)} images of {len(found.artists())} artists; {skipped} files skipped ({_METRICS})")
    for other in {"archive", "folder"} - {settings.source}:
        path = getattr(settings, other).path
        if path is not None:
            say(f"not read: fetch.{other}.path is {path}, and fetch.source is {settings.source}")


def data_set(settings: Fetch) -> str:
    """Returns the name of the data set for people, without the folders of this machine."""
    if settings.source == "kaggle":
        return f"{settings.kaggle.dataset}, version {settings.kaggle.version}"
    if settings.source == "folder":
        return Path(str(settings.folder.path)).expanduser().resolve().name
    if settings.source == "archive":
        path = str(settings.archive.path)
        # In the name of a file, # and % are ordinary letters.
        name = unquote(urlsplit(path).path) if re.match(r"https?://", path, re.IGNORECASE) else path
        return name.rpartition("/")[2] or "archive"
    return "the built-in sample"


if __name__ == "__main__":
    run_stage(main)
