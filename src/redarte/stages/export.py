"""Stages export@… and export_extra@…: write a trained model as one ONNX file with calibrated probabilities.

`python -m redarte.stages.export red1`: the argument is the model's name.
"""

import os
import sys

# tf2onnx converts TensorFlow graphs, whatever backend has trained the model.
os.environ["KERAS_BACKEND"] = "tensorflow"

from redarte import export, params
from redarte.models import base
from redarte.runtime import outputs, paths
from redarte.runtime.console import run_stage, say


def main() -> None:
    settings = params.load()
    name = base.name_argument("export", sys.argv[1:], settings)
    content, metadata, metrics = export.export_model(name, settings, paths.MODELS / f"{name}.keras")
    with outputs.atomic_file(paths.MODELS / f"{name}.onnx") as partial:
        partial.write_bytes(content)
    outputs.write_json(paths.METRICS / f"export_{name}.json", metrics)
    say(f"{name}: {paths.MODELS / name}.onnx, {len(content) / 1e6:.1f} MB, temperature {metadata.temperature:.2f}")


if __name__ == "__main__":
    run_stage(main)
