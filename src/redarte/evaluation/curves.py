"""Learning curves: plots/train_<model>.csv and plots/curves.csv."""

from pathlib import Path

from redarte.runtime import tables

# "train" and "val" -> (epoch, accuracy), from the first epoch on
Curve = dict[str, list[tuple[int, float]]]


def read(path: Path) -> Curve:
    """Reads the history of one training.

    Returns:
        The curve of the model.
    """
    return parse(tables.read_text(path))


def parse(text: str) -> Curve:
    """Reads the history of one training.

    Returns:
        The curve of the model.
    """
    curve: Curve = {"train": [], "val": []}
    for row in tables.rows(Path("plots/train_*.csv"), text):
        curve[row["split"]].append((int(row["epoch"]), float(row["accuracy"])))
    return curve


def to_csv(curves: dict[str, Curve]) -> str:
    """Returns the curves of several models as one table: model, epoch, split, accuracy.

    Args:
        curves: the model's name -> its curve.
    """
    rows = [
        [model, epoch, split, f"{accuracy:.6f}"]
        for model, curve in curves.items()
        for split, points in curve.items()
        for epoch, accuracy in points
    ]
    return tables.to_csv([["model", "epoch", "split", "accuracy"], *rows])


def from_csv(path: Path) -> dict[str, Curve]:
    """Reads what `to_csv` returned.

    Returns:
        The model's name -> its curve.
    """
    curves: dict[str, Curve] = {}
    for row in tables.read(path):
        curve = curves.setdefault(row["model"], {"train": [], "val": []})
        curve[row["split"]].append((int(row["epoch"]), float(row["accuracy"])))
    return curves
