"""plots/train_redN.csv -> a network's accuracy by epoch."""

import csv
from collections.abc import Iterable
from pathlib import Path

from redarte.params import NetworkName

WITHOUT_EPOCHS: tuple[NetworkName, ...] = ("fisher",)  # they have no such file

# "train" and "val" -> (epoch, accuracy), from the first epoch on
Curve = dict[str, list[tuple[int, float]]]


def of_networks(folder: Path, networks: Iterable[NetworkName]) -> dict[NetworkName, Curve]:
    """The curves of those networks that learn in epochs and were trained."""
    curves = {name: read(folder / f"train_{name}.csv") for name in networks if name not in WITHOUT_EPOCHS}
    return {name: curve for name, curve in curves.items() if curve["train"]}


def read(path: Path) -> Curve:
    """Reads the history that a training wrote."""
    curve: Curve = {"train": [], "val": []}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            curve[row["split"]].append((int(row["epoch"]), float(row["accuracy"])))
    return curve
