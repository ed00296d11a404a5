"""train_red1, train_red2, train_red3, and train_beyond@… for each network of `beyond`: trains one network.

`python -m redarte.stages.train red1`: the one argument is the network's name.
"""

import sys
from pathlib import Path

from redarte import params
from redarte.networks import base
from redarte.runtime import outputs
from redarte.runtime.console import run_stage
from redarte.training import devices, machines
from redarte.training.checkpoints import history_csv

MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    settings = params.load()
    name = base.named_by("train", sys.argv[1:], settings)
    network = base.module(name)
    train, val = network.pictures(settings)
    history_file = PLOTS / f"train_{name}.csv"
    trained = network.fit(name, settings, train, val, history_file)
    if not machines.is_first():
        return
    outputs.write_json(METRICS / f"train_{name}.json", trained.metrics | devices.facts())
    outputs.write_text(history_file, history_csv(trained.history))
    base.save(trained.network, train.artists, MODELS / f"{name}.keras", trained.embeddings)
    if trained.checkpoint is not None:
        trained.checkpoint.forget()


if __name__ == "__main__":
    run_stage(main)
