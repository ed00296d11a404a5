"""plots/train_redN.csv -> a network's accuracy by epoch."""

import csv
from pathlib import Path

# "train" and "val" -> (epoch, accuracy), from the first epoch on
Curve = dict[str, list[tuple[int, float]]]


def read(path: Path) -> Curve:
    """Reads the history that a training wrote."""
    curve: Curve = {"train": [], "val": []}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            curve[row["split"]].append((int(row["epoch"]), float(row["accuracy"])))
    return curve
