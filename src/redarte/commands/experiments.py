"""`redarte experiments`: `dvc exp show` in the few columns that fit a terminal.

DVC's own table has a column for each of a hundred metrics, parameters and files; here what an experiment
changed stands in one column, as it would be typed after -S.
"""

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from redarte.commands import repository

_EVALUATED = "metrics/evaluate.json"
_NUMBERS = {"test\naccuracy": "test_accuracy", "test\nmacro-F1": "test_macro_f1", "val\naccuracy": "val_accuracy"}


def report() -> None:
    """Prints the experiments of the current commit, the best val accuracy first.

    Raises:
        UserError: DVC cannot show them.
    """
    console = Console(highlight=False)
    console.print(table(json.loads(repository.run("exp", "show", "--json"))))


def table(shown: list[dict[str, Any]]) -> Table:
    """A table of what `dvc exp show --json` gives: the commit first, then its experiments."""
    numbers = list(_NUMBERS)
    result = Table("experiment", "data", "network", *numbers, box=None, header_style="bold", padding=(0, 1, 0, 0))
    result.add_column("changed", overflow="fold")
    for baseline in shown:
        if baseline["rev"] == "workspace":
            continue
        before = dict(_leaves(_params(baseline)))
        result.add_row(*_cells(baseline["name"] or baseline["rev"][:7], baseline, before))
        for experiment in sorted(baseline["experiments"] or [], key=_val_accuracy, reverse=True):
            state = (experiment["executor"] or {}).get("state") or "success"
            name = experiment["name"] or experiment["revs"][0]["rev"][:7]
            label = f"  {name}" if state == "success" else f"  {name} ({state})"
            result.add_row(*_cells(label, experiment["revs"][0], before))
    return result


def _cells(label: str, revision: dict[str, Any], before: dict[str, Any]) -> list[str]:
    evaluated = _evaluated(revision)
    values = [evaluated.get(key) for key in _NUMBERS.values()]
    changed = {name: value for name, value in _leaves(_params(revision)) if before.get(name, value) != value}
    return [
        escape(label),
        escape(str(evaluated.get("data", "–"))),
        escape(str(evaluated.get("network", "–"))),
        *("–" if value is None else f"{value:.3f}" for value in values),
        escape(" ".join(f"{name}={value}" for name, value in changed.items())),
    ]


def _val_accuracy(experiment: dict[str, Any]) -> float:
    return float(_evaluated(experiment["revs"][0]).get("val_accuracy", -1))


def _evaluated(revision: dict[str, Any]) -> dict[str, Any]:
    return _data(revision, "metrics", _EVALUATED)


def _params(revision: dict[str, Any]) -> dict[str, Any]:
    return _data(revision, "params", "params.yaml")


def _data(revision: dict[str, Any], kind: str, file: str) -> dict[str, Any]:
    # Where a run failed, or a file is not there, DVC gives null or an error in the place of the data.
    found = ((revision.get("data") or {}).get(kind) or {}).get(file) or {}
    return found.get("data") or {}


def _leaves(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
