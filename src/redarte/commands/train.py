"""`redarte train`: from images to a model with a report, by one `dvc exp run`."""

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redarte import params
from redarte.evaluation import metrics
from redarte.history import own_files
from redarte.history.experiments import assignment
from redarte.images.folders import display_name
from redarte.ingestion.sources import folder
from redarte.params import STUDY, Params
from redarte.runtime import outputs, paths
from redarte.runtime.cache import keras_weights
from redarte.runtime.console import say
from redarte.runtime.errors import UserError, listed

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_QUICK: dict[str, dict[str, Any]] = {
    "fisher": {"fisher.input_size": 224},
    "finetuned": {"finetuned.input_size": 224},
} | {name: {"resize.side": 64, "train.epochs": 1} for name in STUDY}
# New files of an extra model are in these folders: git commit -a adds no new file.
COMMIT = "git add data metrics models plots && git commit -am"
_MAX_NAMES = 10  # artists in the summary


def run(images: str, model: str, backbone: str | None, changes: list[str], quick: bool) -> None:
    """Trains and evaluates a model, and prints the results and what to type next.

    Args:
        images: a folder, an archive or an http(s) address.
        backbone: for finetuned; None: that of params.yaml.
    """
    settings = params.load()
    params.check_model(model)
    values = {"model": model, "extra_models": [] if model in STUDY else [model], **_source(images, settings)}
    values["split.too_small"] = "leave_out"
    if backbone is not None:
        if model != "finetuned":
            raise UserError(f"--backbone is for finetuned, and the model is {model}; leave it out.")
        values["finetuned.backbone"] = backbone
    values |= _QUICK[model] if quick else {}
    if model == "finetuned":
        _check_weights(settings, values, changes)
    own_files.check(settings)
    assignments = [*(assignment(name, value) for name, value in values.items()), *changes]
    options = ["exp", "run", *(part for one in assignments for part in ("-S", one)), "report"]
    say(f"redarte train types: {shlex.join(['dvc', *options])}")
    if subprocess.run([sys.executable, "-m", "redarte.history.run_dvc", *options]).returncode:
        raise UserError("the run failed; see the message above, and type the same again after fixing it.")
    say("\n".join(_summary(model)))


def _source(images: str, settings: Params) -> dict[str, Any]:
    """The parameters of fetch."""
    if _ADDRESS.match(images):
        kind, path, digest = "archive", images, None
    else:
        where = Path(images).expanduser()
        if where.is_dir():
            # So that images that were added since are read: DVC does not watch the source.
            kind, digest = "folder", folder.sha256(where)
        elif where.is_file():
            with where.open("rb") as file:
                kind, digest = "archive", hashlib.file_digest(file, "sha256").hexdigest()
        else:
            raise UserError(f"{images} does not exist; type a folder, an archive or an http(s) address of images.")
        path = images
    before = getattr(settings.fetch, kind)
    values: dict[str, Any] = {"fetch.source": kind, f"fetch.{kind}.path": path, f"fetch.{kind}.sha256": digest}
    if before.path not in (None, path):
        # Of the images before.
        others = {"root", "encoding"} if kind == "archive" else {"root"}
        values |= {f"fetch.{kind}.{name}": None for name in others if getattr(before, name) is not None}
    return values


def _check_weights(settings: Params, values: dict[str, Any], changes: list[str]) -> None:
    """Loads the backbone where its weights are not on this machine: that may need a network, or fail."""
    typed = dict(change.partition("=")[::2] for change in changes)
    chosen = {name: typed.get(f"finetuned.{name}", values.get(f"finetuned.{name}")) for name in ("backbone", "weights")}
    section = settings.finetuned.model_copy(update={name: value for name, value in chosen.items() if value is not None})
    if section.weights == "none":
        return
    wanted = _letters_and_digits(section.backbone)
    files = keras_weights().glob("*") if section.weights == "imagenet" else []
    if any(_letters_and_digits(file.name).startswith(wanted) for file in files):
        return
    if section.backbone.endswith(".keras") and Path(section.backbone).expanduser().is_file():
        return
    os.environ["KERAS_BACKEND"] = settings.keras_backend
    # Imports Keras, which takes seconds.
    from redarte.models import backbones

    try:
        backbones.load(section)
    except UserError as error:
        raise UserError(f"{error} The model fisher needs no weights: redarte train --model fisher.") from None


def _letters_and_digits(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _summary(model: str) -> Iterator[str]:
    """The results, what was left out, and what to type next."""
    fetched, split, evaluated = (
        outputs.read_json(Path(f"metrics/{name}.json")) for name in ("fetch", "split", "evaluate")
    )
    accuracy, count = evaluated["test_accuracy"], evaluated["test_images"]
    low, high = metrics.wilson(accuracy, count)
    yield ""
    yield (
        f"{model}: test accuracy {accuracy:.2f} (95 % interval {low:.2f} to {high:.2f}) on {count} test images; always "
        f"predicting the largest class: {evaluated['baseline_test_accuracy']:.2f}"
    )
    yield f"images: {split['train']} train, {split['val']} val, {split['test']} test, of {split['artists']} artists"
    skipped = {reason: number for reason, number in fetched["skipped"].items() if reason != "files" and number}
    if skipped:
        yield f"skipped files: {', '.join(f'{number} {reason}' for reason, number in skipped.items())}"
    for key, what in (("left_out", "left out, with too few images"), ("never_tested", "without test images")):
        names = [display_name(name) for name in split[f"names_{key}"]]
        if names:
            yield f"artists {what}: {listed(names, _MAX_NAMES)}"
    groups = split["near_duplicates"]["groups"]
    if groups:
        yield f"near-duplicates: {groups} groups, each in one split ({split['near_duplicates']['images']} images)"
    yield f"report: {paths.REPORT_PAGE}"
    yield ""
    yield "next: open the report; redarte label-issues (find wrong labels); redarte predict image.jpg; redarte serve;"
    yield f"to keep and share it: {COMMIT} 'My images'; dvc push"
