"""Training speed of the study's models at 224 px: redarte compared with a plain Keras script.

    python -m benchmarks.training --count 320 --repeat 5                    # on a CPU
    python -m benchmarks.training --count 47000 --epochs 4 --repeat 3       # on a GPU

JPEG images of 50 classes are generated from a seed. The plain script reads them by image_dataset_from_directory and
fits in float32. Each run is one process. The first epoch, which compiles the model and decodes the images, is not
counted. Every epoch includes the validation, and with redarte the checkpoint. `input` is the share of an epoch that
reading its batches takes, measured without a model. `from disk` decodes the images in every epoch.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDE = 224
ARTISTS = 50

PLAIN = """
import json, sys, time
import keras
from redarte.models import study
from redarte import params
settings = params.load()
name, epochs = sys.argv[1], int(sys.argv[2])
keras.utils.set_random_seed(0)
train, val = (keras.utils.image_dataset_from_directory(
    f"data/resized/{split}", label_mode="categorical", image_size=(224, 224), batch_size=32, seed=0, verbose=False
) for split in ("train", "val"))
model = study.build(name, 224, len(train.class_names), getattr(settings, name), "float32")
model.compile(optimizer=keras.optimizers.Adam(0.001), loss="categorical_crossentropy", metrics=["accuracy"])
ends = []
class Clock(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
    def on_epoch_end(self, epoch, logs=None):
        ends.append(time.perf_counter() - self.started)
history = model.fit(train, validation_data=val, epochs=epochs, verbose=0, callbacks=[Clock()])
print("RESULT" + json.dumps({"seconds": ends, "loss": history.history["loss"]}))
"""

REDARTE = """
import json, sys, time
from pathlib import Path
from redarte.training import batches, callbacks, loop
from redarte.images import dataset
from redarte import params
from redarte.models.study import training_job
settings = params.load()
name, epochs, precision = sys.argv[1], int(sys.argv[2]), sys.argv[3]
chosen = settings.train.model_copy(update={"epochs": epochs, "precision": precision, "patience": 0})
settings = settings.model_copy(update={"train": chosen})
train = dataset.load(Path("data/resized/train"))
val = dataset.load(Path("data/resized/val"), train.artists)
began, ends = [0.0], []
begin, end = callbacks.TrainingCallback.on_epoch_begin, callbacks.TrainingCallback.on_epoch_end
def on_epoch_begin(self, epoch, logs=None):
    began[0] = time.perf_counter()
    begin(self, epoch, logs)
def on_epoch_end(self, epoch, logs=None):
    end(self, epoch, logs)
    ends.append(time.perf_counter() - began[0])
callbacks.TrainingCallback.on_epoch_begin, callbacks.TrainingCallback.on_epoch_end = on_epoch_begin, on_epoch_end
result = loop.train(training_job(name, settings, train, val), Path("history.csv"))
started = time.perf_counter()
for _ in batches.training_batches(train, 32, 0, range(1, 3)):
    pass
reading = (time.perf_counter() - started) / 2
print("RESULT" + json.dumps({"seconds": ends, "loss": [row["loss"] for row in result.history], "reading": reading}))
"""

METHODS: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "plain Keras": (PLAIN, [], {}),
    "redarte": (REDARTE, ["auto"], {}),
    "redarte, from disk": (REDARTE, ["auto"], {"REDARTE_MEMORY": "0"}),
    "redarte, float32": (REDARTE, ["float32"], {}),
}


def draw(folder: Path, count: int) -> None:
    """Smooth noise of about 12 kB an image, with a colour for each class, so that there is something to learn."""
    rng = np.random.default_rng(0)
    colours = rng.integers(-60, 60, (ARTISTS, 3))
    for number in range(count):
        noise = rng.integers(60, 196, (40, 40, 3)) + colours[number % ARTISTS]
        image = cv2.resize(noise.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        artist = folder / f"Artist_{number % ARTISTS:02d}"
        artist.mkdir(parents=True, exist_ok=True)
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tofile(artist / f"{number:06d}.jpg")


def run(name: str, method: str, epochs: int, root: str) -> tuple[dict[str, Any], list[int]]:
    """Runs a process; returns its printed result and the GPU utilization in each second, in %."""
    script, arguments, environment = METHODS[method]
    process = subprocess.Popen(
        [sys.executable, "-c", script, name, str(epochs), *arguments], cwd=root, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )  # fmt: skip
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    utilization: list[int] = []
    while process.poll() is None:
        if shutil.which("nvidia-smi"):
            utilization.append(int(subprocess.run(query, capture_output=True, text=True).stdout.split()[0]))
        time.sleep(1)
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{method}: {err}")
    return json.loads(out.rpartition("RESULT")[2]), utilization


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["red1", "red3"])
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        shutil.copy("params.yaml", root)
        draw(Path(root) / "data/resized/train", options.count)
        draw(Path(root) / "data/resized/val", ARTISTS)
        print(f"{options.count} images in train, {ARTISTS} in val, medians of {options.repeat}")
        print("| | images/s | ratio to plain Keras | input | loss of each epoch | GPU |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name in options.models:
            speeds: dict[str, list[float]] = {method: [] for method in METHODS}
            last: dict[str, str] = {}
            for _ in range(options.repeat):
                for method in METHODS:
                    got, utilization = run(name, method, options.epochs, root)
                    seconds = got["seconds"][1:]
                    speeds[method].append(options.count * len(seconds) / sum(seconds))
                    share = f"{got['reading'] / statistics.median(seconds):.1%}" if "reading" in got else ""
                    losses = ", ".join(f"{loss:.3f}" for loss in got["loss"])
                    last[method] = (
                        f"{share} | {losses} | {f'{statistics.median(utilization):.0f} %' if utilization else ''}"
                    )
            plain = statistics.median(speeds["plain Keras"])
            for method, runs in speeds.items():
                median = statistics.median(runs)
                label = f"{name}, {method} | {median:.0f} ({min(runs):.0f} to {max(runs):.0f})"
                print(f"| {label} | {median / plain:.2f} | {last[method]} |", flush=True)


if __name__ == "__main__":
    main()
