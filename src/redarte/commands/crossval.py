"""`redarte crossval`: every fold of every network as a DVC experiment of its own, and what they say together.

The name of an experiment holds a hash of code, data and parameters, so that a run that was interrupted continues with
the experiments that are missing, and nothing is reused after a change. DVC's cache gives back the stages that two
experiments share. They run in a temporary copy of the project: the workspace stays as it is.
"""

import csv
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import dvc.api
import numpy as np
from scipy.stats import binomtest

from redarte.commands import repository
from redarte.evaluation import metrics
from redarte.evaluation.published import title
from redarte.params import STUDY, Params
from redarte.runtime.console import say
from redarte.runtime.errors import UserError

_SET_HERE = ("model", "beyond", "split.folds", "split.fold")


@dataclass(frozen=True)
class Fold:
    """The predictions for the test pictures of one fold.

    Attributes:
        paths: of the pictures, without their suffix.
        truth, predicted: (n,), the artists' names.
        rank: (n,), the place of the true artist among the predictions, from 1.
    """

    paths: list[str]
    truth: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return np.asarray(self.truth == self.predicted)


def run(settings: Params, networks: Sequence[str], folds: int, changes: Sequence[str]) -> str:
    """Runs the experiments that are missing.

    Args:
        settings: params.yaml.
        networks: which to measure.
        folds: how many, 2 or more.
        changes: as after -S.

    Returns:
        A table in Markdown.

    Raises:
        UserError: there is no such network, a change is of a parameter that crossval sets, or a fold cannot be run.
    """
    _check_changes(changes)
    networks = list(dict.fromkeys(networks))
    unknown = [network for network in networks if network not in settings.networks]
    if unknown:
        raise settings.no_network(unknown[0])
    done: dict[str, list[Fold]] = {network: [] for network in networks}
    digest = _digest(settings, changes, folds)
    names = {(fold, network): f"cv-{digest}-{network}-{fold}" for fold in range(folds) for network in networks}
    existing = _existing()
    kept = {
        name: read_back
        for name in existing.intersection(names.values())
        if (read_back := _predictions(name)) is not None
    }
    if kept:
        say(f"{len(kept)} of {len(names)} experiments are reused: code, data and parameters are unchanged.")
    for (fold, network), name in names.items():
        if name not in kept:
            say(f"fold {fold + 1} of {folds}, {title(network)}")
            if name in existing:  # its outputs were deleted from DVC's cache
                repository.run("exp", "remove", name)
            asked = [f"split.folds={folds}", f"split.fold={fold}", f"model={network}", f"beyond={beyond(network)}"]
            _run(name, [*asked, *changes])
        predictions = kept.get(name) or _predictions(name)
        if predictions is None:
            raise UserError(f"{name} has no plots/predictions.csv in DVC's cache; run this again.")
        done[network].append(predictions)
    return table(done)


def beyond(network: str) -> str:
    """The value of params.yaml's `beyond` that trains a network, and no other beyond the study."""
    return "[]" if network in STUDY else f"[{network}]"


def table(done: dict[str, list[Fold]]) -> str:
    """What the folds say: means and standard deviations over folds, an interval over pictures, and McNemar's test."""
    folds = len(next(iter(done.values())))
    lines = [
        f"| Network | Test accuracy, mean ± sd of {folds} folds | of all pictures, 95 % interval | top-5 | macro-F1 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for network, answers in done.items():
        accuracies = [float(fold.right.mean()) for fold in answers]
        whole = concatenate(answers)
        right = whole.right
        interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        lines.append(
            f"| {title(network)} | {np.mean(accuracies):.3f} ± {np.std(accuracies, ddof=1):.3f} "
            f"({', '.join(f'{value:.3f}' for value in accuracies)}) "
            f"| {right.mean():.3f} ({interval.low:.3f} to {interval.high:.3f}) of {len(right)} "
            f"| {(whole.rank <= 5).mean():.3f} | {_macro_f1(whole):.3f} |"
        )
    verdicts = [f"- {_verdict(one, other, done)}" for one, other in combinations(done, 2)]
    return "\n".join([*lines, *(["", "By McNemar's exact test on all pictures:", "", *verdicts] if verdicts else [])])


def read(text: str) -> Fold:
    """Reads the predictions that evaluate wrote."""
    rows = list(csv.DictReader(io.StringIO(text)))
    # In the order of the pictures and not of their files, whose suffixes differ from network to network.
    rows.sort(key=lambda row: Path(row["path"]).with_suffix("").parts)
    return Fold(
        [Path(row["path"]).with_suffix("").as_posix() for row in rows],
        np.array([row["artist"] for row in rows]),
        np.array([row["predicted"] for row in rows]),
        np.array([int(row["rank"]) for row in rows]),
    )


def concatenate(folds: list[Fold]) -> Fold:
    """The predictions of several folds, one after the other."""
    arrays = ([getattr(fold, name) for fold in folds] for name in ("truth", "predicted", "rank"))
    return Fold([path for fold in folds for path in fold.paths], *map(np.concatenate, arrays))


def _macro_f1(answers: Fold) -> float:
    artists = np.unique(np.concatenate([answers.truth, answers.predicted]))
    truth, predicted = (np.searchsorted(artists, names) for names in (answers.truth, answers.predicted))
    return float(np.nanmean(metrics.per_artist(truth, predicted, len(artists))["f1"]))


def _verdict(one: str, other: str, done: dict[str, list[Fold]]) -> str:
    if [fold.paths for fold in done[one]] != [fold.paths for fold in done[other]]:
        raise UserError(f"{one} and {other} did not answer the same pictures; delete their experiments and run again.")
    chance = metrics.mcnemar(concatenate(done[one]).right, concatenate(done[other]).right)
    return metrics.verdict(title(one), title(other), chance)


def _digest(settings: Params, changes: Sequence[str], folds: int) -> str:
    """Of everything that a fold depends on: parameters, code and data, committed or not."""
    document = settings.model_dump(exclude={"model": True, "beyond": True, "split": {"folds", "fold"}})
    hashed = hashlib.blake2b(json.dumps([document, sorted(changes), folds], sort_keys=True).encode(), digest_size=4)
    for file in [Path("dvc.yaml"), *sorted(Path("src").rglob("*.py"))]:
        hashed.update(file.as_posix().encode() + b"\0" + file.read_bytes())
    hashed.update(_fetched().encode())
    return hashed.hexdigest()


def _fetched() -> str:
    """The images that dvc.lock says were fetched last; empty where none were."""
    try:
        outs = repository.parse(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]["fetch"]["outs"]
    except (FileNotFoundError, KeyError):
        return ""
    return json.dumps(outs, sort_keys=True)


def _check_changes(changes: Sequence[str]) -> None:
    for change in changes:
        key = change.partition("=")[0].lstrip("+~").rpartition(":")[2]
        if any(name == key or name.startswith(f"{key}.") for name in _SET_HERE):
            raise UserError(
                f"-S {change}: crossval sets {', '.join(_SET_HERE)} itself. Name the models as arguments, and the "
                "number of folds with --folds."
            )


def _existing() -> set[str]:
    """The experiments of this commit."""
    return set(repository.run("exp", "list", "--names-only").split())


def _run(name: str, changes: Sequence[str]) -> None:
    set_all = [part for change in changes for part in ("-S", change)]
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *set_all, "evaluate"])
    if done.returncode:
        raise UserError(f"{name} failed, as is said above; mend it and run this again: what is done is kept.")


def _predictions(name: str) -> Fold | None:
    """The predictions of an experiment; None where DVC's cache does not have them."""
    from dvc.exceptions import DvcException

    try:
        return read(dvc.api.read("plots/predictions.csv", rev=name))
    except (DvcException, OSError):
        return None
