"""train_finetuned: teaches a network that others have trained, where `model` asks for it."""

from pathlib import Path

from redarte import optional, outputs, params
from redarte.console import run_stage, say
from redarte.params import Params

SPLIT = Path("data/split")
COPIES = Path("data/augmented")
NETWORK = Path("models/finetuned.keras")
METRICS = Path("metrics/train_finetuned.json")
HISTORY = Path("plots/train_finetuned.csv")


def main() -> None:
    settings = params.load()
    if settings.model == "finetuned":
        teach(settings)
    else:
        optional.leave_empty(NETWORK, METRICS, HISTORY)
        say(f"finetuned is not trained: model is {settings.model}")


def teach(settings: Params) -> None:
    """Teaches the network and writes it, its metrics and its history."""
    # TensorFlow takes seconds to import, and mostly there is nothing to do.
    from redarte import checkpoints, dataset, devices, finetuning, networks

    side = settings.finetuned.input_size
    train = dataset.load(SPLIT / "train", side=side)
    val = dataset.load(SPLIT / "val", train.artists, side=side)
    if settings.finetuned.copies:
        train = dataset.together(train, dataset.load(COPIES, train.artists, side=side))
    taught = finetuning.teach(settings, train, val, HISTORY)
    if not devices.is_first():
        return
    outputs.write_json(METRICS, taught.metrics)
    networks.save(taught.network, train.artists, NETWORK)
    if taught.checkpoint is None:
        outputs.write_text(HISTORY, checkpoints.history_csv([]))
    else:
        taught.checkpoint.forget()


if __name__ == "__main__":
    run_stage(main)
