"""`redarte crossval`: cross-validation, where every fold of every model is a DVC experiment.

The name of an experiment contains a hash of code, data and parameters, so that an interrupted run continues with the
missing experiments, and nothing is reused after a change. DVC's run cache restores the stages that experiments share.
They run in a temporary copy of the project: the workspace is not changed.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from redarte import params
from redarte.evaluation import comparison, metrics, predictions
from redarte.evaluation.comparison import title
from redarte.evaluation.predictions import PredictionTable
from redarte.history import repository
from redarte.params import STUDY, Params
from redarte.runtime import paths, provenance
from redarte.runtime.console import say
from redarte.runtime.errors import UserError

_SET_HERE = ("model", "extra_models", "split.folds", "split.fold")


def run(settings: Params, models: Sequence[str], folds: int, changes: Sequence[str]) -> str:
    """Runs the missing experiments.

    Args:
        folds: how many, 2 or more.
    """
    _check_changes(changes)
    models = list(dict.fromkeys(models))
    for model in models:
        params.check_model(model)
    done: dict[str, list[str]] = {model: [] for model in models}
    digest = _digest(settings, changes, folds)
    names = {(fold, model): f"cv-{digest}-{model}-{fold}" for fold in range(folds) for model in models}
    existing = set(repository.run("exp", "list", "--names-only").split())
    stored = {name: repository.stored(paths.PREDICTIONS, name) for name in existing.intersection(names.values())}
    cached = {name: text for name, text in stored.items() if text is not None}
    if cached:
        say(
            f"{len(cached)} of {len(names)} experiments are reused: the code, params.yaml, -S, {paths.CORRECTIONS} and "
            "data/raw in dvc.lock are unchanged (after a change of a folder or archive, type: dvc repro --force fetch)."
        )
    for (fold, model), name in names.items():
        if name not in cached:
            say(f"fold {fold + 1} of {folds}, {title(model)}")
            if name in existing:  # its outputs were deleted from DVC's cache
                repository.run("exp", "remove", name)
            values = [f"split.folds={folds}", f"split.fold={fold}", f"model={model}", _extra_models(model)]
            _run(name, [*values, *changes])
        text = cached.get(name) or repository.stored(paths.PREDICTIONS, name)
        if text is None:
            raise UserError(f"{name} has no {paths.PREDICTIONS} in DVC's cache; run this again.")
        done[model].append(text)
    return table(done)


def table(done: dict[str, list[str]]) -> str:
    """Returns means and standard deviations over folds, intervals over images, and McNemar's tests, in Markdown.

    Args:
        done: model -> plots/predictions.csv of each fold.
    """
    folds = len(next(iter(done.values())))
    pooled = {model: predictions.from_csv(*texts) for model, texts in done.items()}
    lines = [
        f"| Model | Test accuracy, mean ± sd of {folds} folds | of all images, 95 % interval | top-5 | macro-F1 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for model, every in pooled.items():
        accuracies = [float(predictions.from_csv(text).right.mean()) for text in done[model]]
        right = every.right
        low, high = metrics.wilson(float(right.mean()), len(right))
        lines.append(
            f"| {title(model)} | {np.mean(accuracies):.3f} ± {np.std(accuracies, ddof=1):.3f} "
            f"({', '.join(f'{value:.3f}' for value in accuracies)}) "
            f"| {right.mean():.3f} ({low:.3f} to {high:.3f}) of {len(right)} "
            f"| {(every.rank <= 5).mean():.3f} "
            f"| {metrics.macro_f1(every.truth, every.predicted, len(every.artists)):.3f} |"
        )
    verdicts = [f"- {_verdict(one, other, pooled)}" for one, other in combinations(done, 2)]
    return "\n".join([*lines, *(["", "McNemar's exact test on all images:", "", *verdicts] if verdicts else [])])


def _extra_models(model: str) -> str:
    """The value of `extra_models` that trains a model, and no other extra model."""
    return f"extra_models={'[]' if model in STUDY else f'[{model}]'}"


def _verdict(one: str, other: str, pooled: dict[str, PredictionTable]) -> str:
    if pooled[one].ids != pooled[other].ids:
        raise UserError(f"{one} and {other} predicted different images; delete their experiments and run again.")
    return comparison.verdict(title(one), title(other), metrics.mcnemar(pooled[one].right, pooled[other].right))


def _digest(settings: Params, changes: Sequence[str], folds: int) -> str:
    """A hash of everything that a fold depends on: parameters, code, corrections and data, committed or not."""
    document = settings.model_dump(exclude={"model": True, "extra_models": True, "split": {"folds", "fold"}})
    # Of two values of one parameter the last counts.
    last = dict(change.partition("=")[::2] for change in changes)
    hashed = hashlib.blake2b(json.dumps([document, last, folds], sort_keys=True).encode(), digest_size=4)
    for file in (Path("dvc.yaml"), paths.CORRECTIONS):
        hashed.update(file.as_posix().encode() + b"\0" + (file.read_bytes() if file.is_file() else b""))
    hashed.update((provenance.code_digest() + _fetched()).encode())
    return hashed.hexdigest()


def _fetched() -> str:
    """The hash of the images that were fetched last, by dvc.lock."""
    outs = repository.lock().get("fetch", {}).get("outs", ())
    return json.dumps([out for out in outs if out["path"] == "data/raw"], sort_keys=True)


def _check_changes(changes: Sequence[str]) -> None:
    for change in changes:
        key = change.partition("=")[0].lstrip("+~").rpartition(":")[2]
        if any(name == key or name.startswith(f"{key}.") for name in _SET_HERE):
            raise UserError(
                f"-S {change}: crossval sets {', '.join(_SET_HERE)} itself. Name the models as arguments, and the "
                "number of folds with --folds."
            )


def _run(name: str, changes: Sequence[str]) -> None:
    options = [part for change in changes for part in ("-S", change)]
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *options, "evaluate"])
    if done.returncode:
        raise UserError(f"{name} failed; see the message above, fix it and run this again: finished folds are kept.")
