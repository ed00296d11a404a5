"""train_red1, train_red2, train_red3: learns one network from data/resized.

`python -m redarte.stages.train red1`: the one argument is the network's name, which is the stage's name.
"""

import sys
from pathlib import Path
from typing import get_args

from redarte import dataset, networks, outputs, params, training
from redarte.console import run_stage
from redarte.errors import UserError
from redarte.params import NetworkName

RESIZED = Path("data/resized")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    settings = params.load()
    name = network_name(sys.argv[1:])
    train = dataset.load(RESIZED / "train")
    val = dataset.load(RESIZED / "val", train.artists)
    job = training.Job(name, settings.train, getattr(settings, name), settings.seed, train, val)
    result = training.train(job, PLOTS / f"train_{name}.csv")
    outputs.write_json(METRICS / f"train_{name}.json", result.metrics())
    networks.save(result.network, train.artists, MODELS / f"{name}.keras")
    result.checkpoint.forget()


def network_name(arguments: list[str]) -> NetworkName:
    """The network that the command names."""
    for name in get_args(NetworkName):
        if arguments == [name]:
            return name  # type: ignore[no-any-return]
    raise UserError(f"train takes the name of one network: {', '.join(get_args(NetworkName))}.")


if __name__ == "__main__":
    run_stage(main)
