"""The history of a training: accuracy and loss after every epoch."""

from redarte.runtime import tables

# One epoch: epoch (from 1), accuracy, loss, val_accuracy, val_loss.
Row = dict[str, float]
# The content of metrics/train_<model>.json.
Metrics = dict[str, float | int | str]


def best_epoch(history: list[Row]) -> int:
    """Returns the first epoch (from 1) with the highest val accuracy.

    Args:
        history: one row an epoch, not empty.
    """
    return max(range(len(history)), key=lambda index: (history[index]["val_accuracy"], -index)) + 1


def to_csv(history: list[Row]) -> str:
    """Returns plots/train_<model>.csv: epoch, split (train or val), accuracy, loss."""
    rows = [
        [int(row["epoch"]), split, *(f"{row[prefix + name]:.6f}" for name in ("accuracy", "loss"))]
        for row in history
        for split, prefix in (("train", ""), ("val", "val_"))
    ]
    return tables.to_csv([["epoch", "split", "accuracy", "loss"], *rows])
