"""train_red1, train_red2, train_red3: learns one network from data/resized.

`python -m redarte.stages.train red1`: the one argument is the network's name, which is the stage's name.
"""

import sys
from pathlib import Path

from redarte import dataset, devices, networks, outputs, params, training
from redarte.console import run_stage
from redarte.dataset import Pictures
from redarte.jobs import Job
from redarte.params import Network, Params, StudyName

RESIZED = Path("data/resized")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    settings = params.load()
    name = params.network_name("train", sys.argv[1:], params.STUDY)
    train = dataset.load(RESIZED / "train")
    val = dataset.load(RESIZED / "val", train.artists)
    result = training.train(job(name, settings, train, val), PLOTS / f"train_{name}.csv")
    if not devices.is_first():
        return
    outputs.write_json(METRICS / f"train_{name}.json", result.metrics())
    networks.save(result.network, train.artists, MODELS / f"{name}.keras")
    result.checkpoint.forget()


def job(name: StudyName, settings: Params, train: Pictures, val: Pictures) -> Job:
    """One of the study's networks, to be trained from new random weights."""
    penalty: Network = getattr(settings, name)
    return Job(
        name, settings.train, settings.seed, train, val,
        build=lambda policy: networks.build(name, train.side, len(train.artists), penalty, policy),
        origin=[penalty.model_dump(), training.code_of(networks)],
    )  # fmt: skip


if __name__ == "__main__":
    run_stage(main)
