"""Stages train_red1, train_red2, train_red3, and train_extra@… for each of `extra_models`: train one model.

`python -m redarte.stages.train red1`: the argument is the model's name.
"""

import os
import sys

from redarte import params
from redarte.runtime import outputs, paths
from redarte.runtime.console import run_stage


def main() -> None:
    settings = params.load()
    # Keras reads it on import.
    os.environ["KERAS_BACKEND"] = settings.keras_backend
    from redarte import devices
    from redarte.models import base
    from redarte.models.base import files as saved
    from redarte.training import history

    name = base.name_argument("train", sys.argv[1:], settings)
    model = base.module(name)
    train, val = model.load_data(settings)
    history_file = paths.PLOTS / f"train_{name}.csv"
    trained = model.fit(name, settings, train, val, history_file)
    outputs.write_json(paths.METRICS / f"train_{name}.json", trained.metrics | devices.facts())
    outputs.write_text(history_file, history.to_csv(trained.history))
    saved.save(trained.model, train.artists, paths.MODELS / f"{name}.keras", trained.embeddings)
    if trained.checkpoint is not None:
        trained.checkpoint.delete()


if __name__ == "__main__":
    run_stage(main)
