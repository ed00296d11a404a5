"""train_fisher: teaches the network of our own, where `model` asks for it."""

from pathlib import Path

from redarte import optional, outputs, params
from redarte.console import run_stage, say
from redarte.params import Params

SPLIT = Path("data/split")
NETWORK = Path("models/fisher.keras")
METRICS = Path("metrics/train_fisher.json")


def main() -> None:
    settings = params.load()
    if settings.model == "fisher":
        teach(settings)
    else:
        optional.leave_empty(NETWORK, METRICS)
        say(f"fisher is not trained: model is {settings.model}")


def teach(settings: Params) -> None:
    """Teaches the network and writes it and its metrics."""
    # TensorFlow takes seconds to import, and mostly there is nothing to do.
    from redarte import dataset, fisher, networks

    side = settings.fisher.input_size
    train = dataset.load(SPLIT / "train", side=side)
    val = dataset.load(SPLIT / "val", train.artists, side=side)
    network, measured = fisher.teach(settings, train, val)
    outputs.write_json(METRICS, measured)
    networks.save(network, train.artists, NETWORK)


if __name__ == "__main__":
    run_stage(main)
