"""`redarte experiments`: `dvc exp show` in the few columns that fit a terminal.

DVC's table has a column for each of a hundred metrics, parameters and files; here one column lists what an experiment
changed, as it is typed after -S.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from redarte.history import repository
from redarte.runtime.console import markup

_EVALUATED = "metrics/evaluate.json"
_NUMBERS = {"test\naccuracy": "test_accuracy", "test\nmacro-F1": "test_macro_f1", "val\naccuracy": "val_accuracy"}
# A text that Hydra, which parses what is typed after -S, takes literally: no number, null or true, no syntax.
_PLAIN = re.compile(r"(?!(?i:null|true|false|nan|inf)\Z)[A-Za-z_/][\w./-]*")


@dataclass(frozen=True)
class Revision:
    """A commit, or an experiment that started from it.

    Attributes:
        name: of the branch or experiment, or a short hash.
        date: of the commit or experiment, such as 2026-11-29; "" where DVC does not know it.
        state: of an experiment: success, or what DVC reports, such as Failed; of a commit always success.
        evaluated: the content of metrics/evaluate.json; empty where evaluate has not run.
        epochs: of the training of its model; None where it was fitted without epochs.
        changed: the parameters that differ from the commit's, as they are typed after -S.
    """

    name: str
    commit: str
    date: str
    state: str
    is_baseline: bool
    evaluated: dict[str, Any]
    epochs: int | None
    changed: list[str]
    lock: dict[str, Any]


def report(all_commits: bool) -> None:
    """Prints the experiments of the current commit or of all commits, the best val accuracy first."""
    console = Console(highlight=False)
    shown = table(load(all_commits))
    # A narrow terminal wraps the lines, and nothing is cut.
    widest = Measurement.get(console, console.options.update(max_width=10_000), shown).maximum
    console.width = max(widest, console.width)
    console.print(shown, crop=False)


def load(all_commits: bool = False) -> list[Revision]:
    """Returns the current commit, or each commit of all branches, and its experiments, the best val accuracy first."""
    return revisions(json.loads(repository.run("exp", "show", "--json", *(["--all-commits"] if all_commits else []))))


def revisions(shown: list[dict[str, Any]]) -> list[Revision]:
    """Returns commits, each followed by its experiments, the best val accuracy first."""
    found = []
    for baseline in shown:
        if baseline["rev"] == "workspace":
            continue
        before = dict(_leaves(_params(baseline)))
        found.append(_revision(baseline, baseline["name"], "success", before, is_baseline=True))
        experiments = [
            _revision(experiment["revs"][0], experiment["name"], (experiment["executor"] or {}).get("state"), before)
            for experiment in baseline["experiments"] or []
        ]
        found += sorted(experiments, key=lambda revision: -revision.evaluated.get("val_accuracy", -1))
    return found


def table(shown: list[Revision]) -> Table:
    """Returns a table of the commit and its experiments."""
    result = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("experiment", "data", "model", *_NUMBERS, "changed"):
        result.add_column(name, no_wrap=True)
    for revision in shown:
        numbers = (revision.evaluated.get(key) for key in _NUMBERS.values())
        state = "" if revision.state == "success" else f" ({revision.state})"
        result.add_row(
            markup(f"{'' if revision.is_baseline else '  '}{revision.name}{state}"),
            markup(str(revision.evaluated.get("data", "–"))),
            markup(str(revision.evaluated.get("model", "–"))),
            *("–" if value is None else f"{value:.3f}" for value in numbers),
            markup("\n".join(revision.changed)),
        )
    return result


def assignment(name: str, value: Any) -> str:
    """Returns a parameter and its value as DVC takes them after -S, quoted for Hydra."""
    return f"{name}={_typed(value)}"


def typed(name: str, value: Any) -> str:
    """Returns a parameter and its value as they are typed after -S, quoted for Hydra and for the shell."""
    return shlex.quote(assignment(name, value))


def is_measured(stage: str, lock: dict[str, Any], params: dict[str, Any]) -> bool:
    """Returns whether a stage, and each stage that it depends on, last ran with the given parameters, by dvc.lock.

    An experiment that failed, still runs or stops at an earlier stage has the metrics of the commit that it started
    from.
    """
    stages = lock.get("stages") or {}
    producers = {out["path"]: (name, out.get("md5")) for name, entry in stages.items() for out in entry.get("outs", ())}
    pending, seen = [stage], set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in stages:
            return False
        for key, value in (stages[name].get("params") or {}).get("params.yaml", {}).items():
            if _value(params, key) != value:
                return False
        for dep in stages[name].get("deps", ()):
            producer, hash_ = producers.get(dep["path"], (None, None))
            if producer is not None:
                if hash_ != dep.get("md5"):
                    return False
                pending.append(producer)
    return True


def _typed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    if not isinstance(value, str) or _PLAIN.fullmatch(value):
        return str(value)
    # A backslash is literal unless a quote follows it.
    quoted = re.sub(r'(\\*)("|\Z)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), value)
    return f'"{quoted}"'.replace("${", "\\${")  # no interpolation


def _value(params: dict[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _revision(
    shown: dict[str, Any], name: str | None, state: str | None, before: dict[str, Any], is_baseline: bool = False
) -> Revision:
    """A revision of `dvc exp show --json`, where `before` has the parameters of its commit."""
    lock = _lock(shown["rev"])
    changed = [typed(key, value) for key, value in _leaves(_params(shown)) if key in before and before[key] != value]
    date = ((shown.get("data") or {}).get("timestamp") or "").partition("T")[0]
    evaluated = _evaluated(shown, lock)
    trained = _data(shown, "metrics", f"metrics/train_{evaluated.get('model')}.json")
    return Revision(
        name or shown["rev"][:7], shown["rev"], date, state or "success", is_baseline, evaluated,
        trained.get("epochs_run"), changed, lock,
    )  # fmt: skip


def _evaluated(revision: dict[str, Any], lock: dict[str, Any]) -> dict[str, Any]:
    """The metrics of evaluate in an experiment; empty where it has not run."""
    evaluated = _data(revision, "metrics", _EVALUATED)
    return evaluated if evaluated and is_measured("evaluate", lock, _params(revision)) else {}


def _lock(revision: str) -> dict[str, Any]:
    shown = subprocess.run(["git", "show", f"{revision}:./dvc.lock"], capture_output=True, encoding="utf-8")
    return repository.parse(shown.stdout) if shown.returncode == 0 else {}


def _params(revision: dict[str, Any]) -> dict[str, Any]:
    return _data(revision, "params", "params.yaml")


def _data(revision: dict[str, Any], kind: str, file: str) -> dict[str, Any]:
    # Where a run failed, or a file is missing, DVC has null or an error in place of the data.
    found = ((revision.get("data") or {}).get(kind) or {}).get(file) or {}
    return found.get("data") or {}


def _leaves(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
