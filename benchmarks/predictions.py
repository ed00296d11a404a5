"""Latency and throughput of predictions: `redarte predict` compared with a plain Keras script.

    python -m benchmarks.predictions --model models/red1 --images data/raw --repeat 5

The latency of the first prediction is that of a whole process. The throughput includes decoding and excludes the start
of the process.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

KERAS = """
import sys, time
import numpy as np
from redarte.models.base import files as saved
from redarte.images import decoding
from pathlib import Path
model, artists = saved.load(Path(sys.argv[1]))
side = model.input_shape[1]
files = [Path(line) for line in sys.stdin.read().splitlines()]
started = time.perf_counter()
for start in range(0, len(files), 32):
    batch = np.stack([decoding.read_resized(file, side) for file in files[start : start + 32]])
    logits = model.predict_on_batch(batch)
print(time.perf_counter() - started)
"""

ONNX = """
import os, sys, time
from redarte.commands import predict
from redarte.inference.predictor import Predictor
from redarte.ingestion import checks
from redarte.runtime.sandbox import Sandbox
from pathlib import Path
model = Predictor(Path(sys.argv[1]))
files = [Path(line) for line in sys.stdin.read().splitlines()]
started = time.perf_counter()
with Sandbox(os.cpu_count(), checks.max_memory(1e8), checks.__name__) as sandbox:
    for _ in predict.predict(model, files, 1e8, sandbox):
        pass
print(time.perf_counter() - started)
"""


def whole_process(script: str, model: str, files: list[Path]) -> tuple[float, float]:
    """Seconds of the process, and of the predictions in this process."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, model], input="\n".join(map(str, files)), text=True, capture_output=True,
        check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    return time.perf_counter() - started, float(done.stdout.split()[-1])


def command(model: str, file: Path) -> float:
    program = str(Path(sys.executable).with_name("redarte"))
    started = time.perf_counter()
    subprocess.run([program, "predict", str(file), "--model", model], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/red1", help="path of the model without suffix")
    parser.add_argument("--images", type=Path, default=Path("data/raw"))
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    files = sorted(path for path in options.images.rglob("*") if path.is_file())
    onnx, keras = f"{options.model}.onnx", f"{options.model}.keras"
    first: dict[str, list[float]] = {"redarte predict": [], "Keras": []}
    stream: dict[str, list[float]] = {"redarte predict": [], "Keras": []}
    for _ in range(options.repeat):
        first["redarte predict"].append(command(onnx, files[0]))
        first["Keras"].append(whole_process(KERAS, keras, files[:1])[0])
        stream["redarte predict"].append(len(files) / whole_process(ONNX, onnx, files)[1])
        stream["Keras"].append(len(files) / whole_process(KERAS, keras, files)[1])
    print(f"{len(files)} images, medians of {options.repeat}")
    print("| | first prediction, s | images/s |")
    print("| --- | --- | --- |")
    for name, seconds in first.items():
        print(f"| {name} | {statistics.median(seconds):.2f} | {statistics.median(stream[name]):.0f} |")


if __name__ == "__main__":
    main()
