"""`redarte crossval`: every fold of every network as a DVC experiment of its own, and what they say together.

Each experiment has a name made of what it depends on, so that a run that was interrupted goes on with the experiments
that are missing, and DVC's cache gives back the stages that two of them share. They run in a folder of their own: the
workspace stays as it is.
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
        UserError: there is no such network, or a fold cannot be run.
    """
    unknown = [network for network in networks if network not in settings.networks]
    if unknown:
        raise settings.no_network(unknown[0])
    done: dict[str, list[Fold]] = {network: [] for network in networks}
    names, options, digest = _existing(), _options(), _digest(settings, changes, folds)
    for fold in range(folds):
        for network in networks:
            name = f"cv-{digest}-{network}-{fold}"
            if name not in names:
                say(f"fold {fold + 1} of {folds}, {title(network)}")
                asked = [f"split.folds={folds}", f"split.fold={fold}", f"model={network}", f"beyond={beyond(network)}"]
                _run(name, [*asked, *changes], options)
            done[network].append(_answers(name))
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
    """Of everything in params.yaml that a fold depends on; the commit is DVC's to watch."""
    document = settings.model_dump(exclude={"model": True, "beyond": True, "split": {"folds", "fold"}})
    parts = json.dumps([document, sorted(changes), folds], sort_keys=True)
    return hashlib.blake2b(parts.encode(), digest_size=4).hexdigest()


def _existing() -> set[str]:
    """The experiments of this commit."""
    return set(repository.run("exp", "list", "--names-only").split())


def _options() -> list[str]:
    """What `dvc exp run` needs here.

    DVC 3.67 cannot take a run from its cache whose stage reads a part of a folder, while the folder that dvc.lock
    names in its place is not in the cache: in a clone where nothing ran or was pulled.
    """
    with repository.opened("the cache cannot be looked at") as repo:
        cached = repo.cache.local
        known = [out.hash_info.value for out in repo.index.outs if out.use_cache and out.hash_info]
        return [] if all(map(cached.exists, known)) else ["--force"]


def _run(name: str, changes: Sequence[str], options: Sequence[str]) -> None:
    set_all = [part for change in changes for part in ("-S", change)]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *options, *set_all, "evaluate"]
    )
    if done.returncode:
        raise UserError(f"{name} failed, as is said above; mend it and run this again: what is done is kept.")


def _answers(name: str) -> Fold:
    return read(dvc.api.read("plots/predictions.csv", rev=name))
