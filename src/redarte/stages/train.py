"""train_red1, train_red2, train_red3: learns one network from data/resized.

`python -m redarte.stages.train red1`: the one argument is the network's name, which is the stage's name.
"""

import sys
from pathlib import Path

from redarte import dataset, networks, outputs, params, training
from redarte.console import run_stage

RESIZED = Path("data/resized")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    settings = params.load()
    name = params.network_name("train", sys.argv[1:])
    train = dataset.load(RESIZED / "train")
    val = dataset.load(RESIZED / "val", train.artists)
    job = training.Job(name, settings.train, getattr(settings, name), settings.seed, train, val)
    result = training.train(job, PLOTS / f"train_{name}.csv")
    outputs.write_json(METRICS / f"train_{name}.json", result.metrics())
    networks.save(result.network, train.artists, MODELS / f"{name}.keras")
    result.checkpoint.forget()


if __name__ == "__main__":
    run_stage(main)
