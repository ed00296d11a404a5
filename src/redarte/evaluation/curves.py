"""Learning curves: plots/train_<model>.csv."""

from pathlib import Path

from redarte.runtime import tables

# "train" and "val" -> (epoch, accuracy), from the first epoch on
Curve = dict[str, list[tuple[int, float]]]


def read(path: Path) -> Curve:
    """Returns the learning curve in a history of one training."""
    return parse(tables.read_text(path))


def parse(text: str) -> Curve:
    """Returns the learning curve in the text of a history."""
    curve: Curve = {"train": [], "val": []}
    for row in tables.rows(Path("plots/train_*.csv"), text):
        curve[row["split"]].append((int(row["epoch"]), float(row["accuracy"])))
    return curve
