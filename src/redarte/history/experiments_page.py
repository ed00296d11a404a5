"""`redarte experiments --html`: the experiments of the current commit side by side, as one HTML file."""

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from redarte.evaluation import comparison, metrics
from redarte.evaluation.comparison import Curve, title
from redarte.evaluation.predictions import PredictionTable, from_csv
from redarte.history import experiments, repository
from redarte.history.experiments import Revision
from redarte.images import decoding, folders
from redarte.images.folders import display_name
from redarte.reporting import pages
from redarte.runtime import outputs, paths

_TEMPLATES = Path(__file__).parent
_SIDE = 140  # px: the displayed size of an image
_MOST_IMAGES = 12  # gained and lost, of each experiment


@dataclass(frozen=True)
class Measured:
    """An experiment that has metrics.

    Attributes:
        predictions: for its test images; None where DVC's cache does not have them.
        curve: of its model; None where there are no epochs, or the cache does not have it.
        same: other experiments with the same result.
    """

    revision: Revision
    predictions: PredictionTable | None
    curve: Curve | None
    same: list[Revision] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What the experiment changed, or the name of a commit."""
        return ", ".join(self.revision.changed) or self.revision.name

    @property
    def data(self) -> Any:
        """What identifies the images that the experiment was measured on: the hash of data/split/test."""
        outs = (self.revision.lock.get("stages") or {}).get("split", {}).get("outs", ())
        return next((out.get("md5") for out in outs if out["path"] == "data/split/test"), None)


def write() -> str:
    """Writes the page."""
    shown = experiments.load()
    measured = [_measured(revision) for revision in shown if revision.evaluated]
    outputs.write_text(
        paths.EXPERIMENTS_PAGE, render(measured, [revision for revision in shown if not revision.evaluated])
    )
    return f"{paths.EXPERIMENTS_PAGE}: {len(measured)} runs side by side; it needs no other file and no internet"


def render(measured: list[Measured], others: list[Revision]) -> str:
    """Returns the page."""
    groups: dict[Any, list[Measured]] = defaultdict(list)
    for run in merged(measured):
        groups[run.data].append(run)
    files = folders.files_by_id(folder) if (folder := paths.SPLIT / "test").is_dir() else {}
    compared = (_comparison(run, runs[0], files) for runs in groups.values() for run in runs[1:])
    charts = [(run.title, pages.curve_chart(run.curve)) for runs in groups.values() for run in runs if run.curve]
    values = {
        "tables": [[_row(run, runs[0]) for run in runs] for runs in groups.values()],
        "charts": charts,
        "comparisons": [found for found in compared if found is not None],
        "most": _MOST_IMAGES,
        "others": others,
    }
    return pages.render(_TEMPLATES / "experiments_page.html.j2", values)


def merged(measured: list[Measured]) -> list[Measured]:
    """Returns each result once, with the other experiments that have the same."""
    found: dict[tuple[Any, str], list[Measured]] = defaultdict(list)
    for run in measured:
        found[run.data, json.dumps(run.revision.evaluated, sort_keys=True)].append(run)
    return [replace(first, same=[other.revision for other in same]) for first, *same in found.values()]


def gained_and_lost(run: PredictionTable, before: PredictionTable) -> tuple[list[int], list[int]]:
    """Returns the images that a run predicts correctly and another one does not, and the reverse: indices.

    Both have the same images, in the same order.
    """
    return np.flatnonzero(run.right & ~before.right).tolist(), np.flatnonzero(before.right & ~run.right).tolist()


def _measured(revision: Revision) -> Measured:
    predictions, curve = (
        repository.stored(paths.PLOTS / f"{name}.csv", revision.commit)
        for name in ("predictions", f"train_{revision.evaluated['model']}")
    )
    return Measured(
        revision,
        from_csv(predictions) if predictions else None,
        comparison.parse_curve(curve) if curve and revision.epochs else None,
    )


def _row(run: Measured, first: Measured) -> dict[str, Any]:
    """A row of the table of metrics; `first` is the first run with the same images."""
    evaluated, images = run.revision.evaluated, run.revision.evaluated["test_images"]
    p_value = None
    if run is not first and run.predictions and first.predictions:
        p_value = metrics.mcnemar(run.predictions.right, first.predictions.right)
    return {
        "revision": run.revision,
        "same": run.same,
        "model": title(evaluated["model"]),
        "evaluated": evaluated,
        "interval": metrics.wilson(evaluated["test_accuracy"], images),
        "p_value": p_value,
    }


def _comparison(run: Measured, first: Measured, files: dict[str, Path]) -> dict[str, Any] | None:
    """What a run gained and lost against the first one; None where DVC's cache does not have the predictions.

    Args:
        files: the test images of the workspace, by identity.
    """
    if run.predictions is None or first.predictions is None:
        return None
    if set(files) != set(run.predictions.ids):
        files = {}  # the workspace has other images
    gained, lost = gained_and_lost(run.predictions, first.predictions)

    def part(name: str, indices: list[int], right: str, wrong: str, table: PredictionTable) -> dict[str, Any]:
        images = [_image(index, table, files) for index in indices[:_MOST_IMAGES]]
        return {"name": name, "right": right, "wrong": wrong, "count": len(indices), "images": images}

    parts = [
        part("Gained", gained, run.title, first.title, first.predictions),
        part("Lost", lost, first.title, run.title, run.predictions),
    ]
    return {"title": run.title, "parts": parts}


def _image(index: int, table: PredictionTable, files: dict[str, Path]) -> dict[str, Any]:
    """An image, and what a run predicted wrongly."""
    file = files.get(table.ids[index])
    return {
        "id": table.ids[index],
        "artist": display_name(table.artists[table.truth[index]]),
        "uri": pages.as_uri(decoding.read_within(file, 2 * _SIDE)) if file else None,
        "predicted": display_name(table.artists[table.predicted[index]]),
    }
