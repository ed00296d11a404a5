"""`redarte experiments --html`: the experiments of the current commit side by side, as one HTML file."""

from dataclasses import dataclass
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
_MOST_IMAGES = 24  # of each experiment


@dataclass(frozen=True)
class Measured:
    """An experiment that has metrics.

    Attributes:
        predictions: for its test images; None where DVC's cache does not have them.
        curve: of its model; None where there are no epochs, or the cache does not have it.
    """

    revision: Revision
    predictions: PredictionTable | None
    curve: Curve | None

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
    charts = [(run.revision.name, pages.curve_chart(run.curve)) for run in measured if run.curve]
    values = {
        "runs": [_row(run, measured[0]) for run in measured],
        "charts": charts,
        "images": _only_right(measured),
        "most": _MOST_IMAGES,
        "others": others,
    }
    return pages.render(_TEMPLATES / "experiments_page.html.j2", values)


def only_right(predictions: dict[str, PredictionTable]) -> dict[str, list[int]]:
    """Returns the images that exactly one of several runs predicts correctly.

    Args:
        predictions: the commit of a run -> its predictions for the same images, in the same order.

    Returns:
        The commit of a run -> indices of images.
    """
    right = np.stack([table.right for table in predictions.values()])
    alone = right & (right.sum(axis=0) == 1)
    return {name: np.flatnonzero(row).tolist() for name, row in zip(predictions, alone, strict=True)}


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
    """A row of the table of metrics."""
    evaluated, images = run.revision.evaluated, run.revision.evaluated["test_images"]
    p_value = None
    if run is not first and run.data == first.data and run.predictions and first.predictions:
        p_value = metrics.mcnemar(run.predictions.right, first.predictions.right)
    return {
        "revision": run.revision,
        "model": title(evaluated["model"]),
        "evaluated": evaluated,
        "interval": metrics.wilson(evaluated["test_accuracy"], images),
        "p_value": p_value,
        "same_images": run.data == first.data,
    }


def _only_right(measured: list[Measured]) -> list[dict[str, Any]]:
    """The images that only one run predicts correctly, of the runs with the same test images as the first."""
    names = {run.revision.commit: run.revision.name for run in measured}
    same = {
        run.revision.commit: run.predictions
        for run in measured
        if run.predictions is not None and run.data == measured[0].data
    }
    if len(same) < 2:
        return []
    files = folders.files_by_id(folder) if (folder := paths.SPLIT / "test").is_dir() else {}
    if set(files) != set(next(iter(same.values())).ids):
        files = {}  # the workspace has other images
    return [
        {
            "name": names[commit],
            "count": len(indices),
            "shown": [_image(index, commit, same, names, files) for index in indices[:_MOST_IMAGES]],
        }
        for commit, indices in only_right(same).items()
    ]


def _image(
    index: int, commit: str, runs: dict[str, PredictionTable], names: dict[str, str], files: dict[str, Any]
) -> dict[str, Any]:
    table, image_id = runs[commit], runs[commit].ids[index]
    file = files.get(image_id)
    return {
        "id": image_id,
        "artist": display_name(table.artists[table.truth[index]]),
        "uri": pages.as_uri(decoding.read_within(file, 2 * _SIDE)) if file else None,
        "others": [
            (names[other], display_name(found.artists[found.predicted[index]]))
            for other, found in runs.items()
            if other != commit
        ],
    }
