"""plots/train_<network>.csv and plots/curves.csv: a network's accuracy by epoch."""

import csv
import io
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


def to_csv(curves: dict[str, Curve]) -> str:
    """The curves of several networks as one table: network, epoch, split, accuracy."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "epoch", "split", "accuracy"])
    for network, curve in curves.items():
        for split, points in curve.items():
            writer.writerows([network, epoch, split, f"{accuracy:.6f}"] for epoch, accuracy in points)
    return text.getvalue()


def from_csv(path: Path) -> dict[str, Curve]:
    """Reads what `to_csv` wrote."""
    curves: dict[str, Curve] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            curve = curves.setdefault(row["network"], {"train": [], "val": []})
            curve[row["split"]].append((int(row["epoch"]), float(row["accuracy"])))
    return curves
