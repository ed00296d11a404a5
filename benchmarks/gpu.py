"""Training speed of the study's models on a GPU, for each installed backend of Keras.

    python -m benchmarks.gpu                                    # at most 6 minutes on a data-centre GPU
    python -m benchmarks.gpu --device cpu --side 32 --count 64 --batches 8 --epochs 2        # a small run on a CPU

Run it in the project's folder with src on PYTHONPATH. Internet access and TensorFlow are not required. For each
backend, the benchmark first trains Red 1 for ten epochs on 47,000 generated images of 50 artists and prints the seconds
from the start of `python -m redarte.stages.train red1` to the saved file. Then it prints one row per configuration:

- images/s, and the seconds of an epoch of 47,000 images, of redarte's training (which writes a checkpoint after each
  epoch) and of a plain Keras script (`fit` on arrays, float32);
- of peak: the operations of a training step (three times those of a forward pass), divided by the throughput of one
  large matrix product in the same precision;
- GPU: the mean utilization that nvidia-smi reports;
- input: the share of an epoch that reading its batches takes, measured without a model;
- loss: of each epoch, from the same initial weights under each backend.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

ARTISTS, STUDY_SIZE = 50, 47_000
ROOT = Path(__file__).resolve().parent.parent
# The measuring processes import from src and from the same PYTHONPATH as this process.
PYTHONPATH = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
BACKENDS = ("jax", "torch", "tensorflow")
HEAD = "| backend | model | batch | precision | images/s | epoch of 47,000 | of peak | GPU | input | loss |"


def draw(number: int, side: int) -> np.ndarray:
    """Smooth noise with a colour for each artist, so that there is something to learn: (side, side, 3) uint8."""
    rng = np.random.default_rng(number)
    colour = np.random.default_rng([7, number % ARTISTS]).integers(-60, 60, 3)
    noise = rng.integers(60, 196, (side // 6 + 2, side // 6 + 2, 3)) + colour
    return np.asarray(cv2.resize(noise.astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC))


def write(folder: Path, count: int, side: int) -> None:
    """Writes JPEG images, one folder per class."""

    def one(number: int) -> None:
        parent = folder / f"Artist_{number % ARTISTS:02d}"
        parent.mkdir(parents=True, exist_ok=True)
        cv2.imencode(".jpg", draw(number, side), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tofile(parent / f"{number:06d}.jpg")

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(count)))


def train_whole_model(backend: str, options: argparse.Namespace) -> None:
    """Trains one model in its own process; prints the seconds from process start to saved file."""
    with tempfile.TemporaryDirectory() as root:
        from redarte import params

        write(Path(root, "data/resized/train"), options.study, options.side)
        write(Path(root, "data/resized/val"), max(ARTISTS, options.study // 56), options.side)
        text = (ROOT / "params.yaml").read_text(encoding="utf-8")
        changes = {"epochs": "10", "device": options.device, "deterministic": "false"}
        for name, value in changes.items():
            before = getattr(params.load(ROOT / "params.yaml").train, name)
            text = text.replace(f"  {name}: {str(before).lower()} #", f"  {name}: {value} #", 1)
        Path(root, "params.yaml").write_text(text, encoding="utf-8")
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": PYTHONPATH}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "redarte.stages.train", "red1"],
            cwd=root, env=environment, text=True, capture_output=True,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        if done.returncode:
            print(f"{backend}: {done.stderr.strip().splitlines()[-1]}", flush=True)
            return
        learned = json.loads(Path(root, "metrics/train_red1.json").read_text(encoding="utf-8"))
        print(
            f"{backend} on {learned['device']}: Red 1, {options.study} images of {options.side} px, 10 epochs, "
            f"batch 32, {learned['precision']}: {seconds:.1f} s from start to saved file (loss {learned['loss']:.3f})",
            flush=True,
        )


class Silent(tqdm):  # type: ignore[type-arg]
    """A progress bar that prints no lines between the rows of the table."""

    @classmethod
    def write(cls, *_: object, **__: object) -> None:
        pass


class Utilization:
    """Mean GPU utilization during a `with` block, in %; None without nvidia-smi."""

    def __enter__(self) -> "Utilization":
        self.percent: float | None = None
        self._log = tempfile.TemporaryFile("w+")
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
        self._process = subprocess.Popen(query, stdout=self._log) if shutil.which("nvidia-smi") else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()
        self._log.seek(0)
        samples = [float(line) for line in self._log.read().split() if line.isdecimal()]
        self.percent = sum(samples) / len(samples) if samples else None


def operations(model: Any) -> float:
    """Operations of a training step per image: three times the multiplications and additions of a forward pass."""
    total = 0.0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            positions = np.prod(layer.output.shape[1:-1]) if len(layer.output.shape) == 4 else 1
            total += 2.0 * float(np.prod(layer.kernel.shape)) * float(positions)
    return 3 * total


def peak(precision: str, size: int) -> float:
    """Operations per second of one large matrix product in a precision."""
    from redarte.devices.backend import keras

    kind = "bfloat16" if precision == "mixed_bfloat16" else "float32"
    matrix = keras.ops.cast(keras.ops.ones((size, size)), kind)

    def multiply(times: int) -> float:
        started, product = time.perf_counter(), matrix
        for _ in range(times):
            product = keras.ops.matmul(matrix, product) * (1 / size)
        keras.ops.convert_to_numpy(keras.ops.cast(product[:1, :1], "float32"))
        return time.perf_counter() - started

    multiply(3)
    return 2.0 * size**3 * 10 / multiply(10)


def measure(options: argparse.Namespace) -> None:
    """Prints a row for each model, batch size and precision, for the backend of this process."""
    from redarte import devices, params
    from redarte.devices.backend import NAME, keras
    from redarte.images.dataset import Dataset
    from redarte.models import study
    from redarte.training import batches, callbacks, loop
    from redarte.training.jobs import TrainingJob

    class Drawn(Dataset):
        def digest(self) -> str:
            return "drawn"

    def images(count: int, first: int) -> Dataset:
        with ThreadPoolExecutor() as pool:
            pixels = np.stack(list(pool.map(lambda n: draw(n, options.side), range(first, first + count))))
        labels = (np.arange(first, first + count) % ARTISTS).astype(np.int64)
        names = [f"Artist_{number:02d}" for number in range(ARTISTS)]
        return Drawn([str(n) for n in range(count)], [Path()] * count, labels, names, options.side, pixels)

    settings = params.load(ROOT / "params.yaml")
    train, val = images(options.count, 0), images(ARTISTS, options.count)
    epochs: list[float] = []
    epoch_start = [0.0]

    class Clock(callbacks.TrainingCallback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            super().on_epoch_begin(epoch, logs)
            epoch_start[0] = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            epochs.append(time.perf_counter() - epoch_start[0])
            super().on_epoch_end(epoch, logs)

    for module, name, other in ((loop, "TrainingCallback", Clock), (loop, "say", str), (callbacks, "tqdm", Silent)):
        setattr(module, name, other)

    def same_weights(model: Any) -> Any:
        rng = np.random.default_rng(0)
        model.set_weights(
            [
                rng.normal(0, np.sqrt(1 / max(1, np.prod(w.shape[:-1]))), w.shape) * (w.ndim > 1)
                for w in model.get_weights()
            ]
        )
        return model

    def row(model: str, batch: int, precision: str, title: str, speed: float, *rest: str) -> None:
        cells = (title, model, batch, precision, f"{speed:,.0f}", f"{STUDY_SIZE / speed:.1f} s", *rest)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)

    def measure_redarte(name: Any, batch: int, precision: str) -> None:
        chosen = settings.train.model_copy(
            update={
                "epochs": options.epochs, "batch_size": batch, "precision": precision,
                "deterministic": False, "device": options.device,
            }
        )  # fmt: skip
        build = lambda policy: same_weights(study.build(name, options.side, ARTISTS, settings.red1, policy))  # noqa: E731
        job = TrainingJob(name, chosen, 0, train, val, build, origin=[])
        epochs.clear()
        with Utilization() as utilization:
            trained = loop.train(job, Path("history.csv"))
        on_device = train.with_decoded(devices.to_device)
        wait_for(on_device.batch(np.arange(batch))[0])  # compiles the selection of a batch and the waiting
        started = time.perf_counter()
        *_, last = batches.training_batches(on_device, batch, 0, range(1))
        wait_for(last[0])
        reading = time.perf_counter() - started
        seconds = min(epochs[1:])
        speed = options.count / seconds
        share = operations(trained.model) * speed / peaks[precision]
        gpu = "" if utilization.percent is None else f"{utilization.percent:.0f} %"
        row(
            name, batch, precision, NAME, speed, f"{share:.0%}", gpu,
            f"{reading / seconds:.1%}", ", ".join(f"{one['loss']:.3f}" for one in trained.history),
        )  # fmt: skip

    def wait_for(pixels: Any) -> None:
        keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(pixels[:1, :1, :1]))

    def measure_plain(name: Any, batch: int) -> None:
        model = same_weights(study.build(name, options.side, ARTISTS, settings.red1, "float32"))
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        labels = np.eye(ARTISTS, dtype=np.float32)[train.labels]
        seconds, losses = [], []
        for _ in range(options.epochs):
            started = time.perf_counter()
            fitted = model.fit(train._decoded, labels, batch_size=batch, epochs=1, verbose=0)
            seconds.append(time.perf_counter() - started)
            losses.append(f"{fitted.history['loss'][0]:.3f}")
        row(
            name,
            batch,
            "float32",
            f"plain Keras, {NAME}",
            options.count / min(seconds[1:]),
            "",
            "",
            "",
            ", ".join(losses),
        )

    devices.prepare(0, settings.train.model_copy(update={"device": options.device, "deterministic": False}))
    precisions = ("mixed_bfloat16", "float32")
    peaks = {precision: peak(precision, options.matrix) for precision in precisions}
    rates = ", ".join(f"{rate / 1e12:.1f} in {precision}" for precision, rate in peaks.items())
    print(f"{NAME} on {devices.facts()['device']}: TFLOP/s of a matrix product: {rates}", flush=True)
    print(HEAD, flush=True)
    print("| --- " * (HEAD.count("|") - 1) + "|", flush=True)
    for batch in options.batches:
        for name in ("red1", "red3"):
            if time.time() > options.until:
                print(f"{NAME}: out of time before {name} with batches of {batch}", flush=True)
                return
            if batch == options.batches[0]:
                measure_plain(name, batch)
            for precision in precisions:
                measure_redarte(name, batch, precision)


def installed(options: argparse.Namespace) -> Iterator[str]:
    """Yields the installed backends that see a GPU; with --device cpu, all installed backends."""
    for name in options.backends:
        if importlib.util.find_spec(name) is None:
            continue
        code = "from redarte import devices; print(devices.gpu_names())"
        environment = {**os.environ, "KERAS_BACKEND": name, "PYTHONPATH": PYTHONPATH}
        seen = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True)
        if options.device == "cpu" or (seen.returncode == 0 and seen.stdout.strip() != "[]"):
            yield name
        else:
            print(f"{name} sees no GPU here {seen.stderr.strip()[-300:]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--count", type=int, default=8192, help="images per measured epoch")
    parser.add_argument("--study", type=int, help="images for the training of Red 1; default: 47,000, on a CPU --count")
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128, 512])
    parser.add_argument("--epochs", type=int, default=3, help="the fastest counts, except the first")
    parser.add_argument("--minutes", type=float, default=6, help="stop after this time, which the backends share")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.matrix = 8192 if options.device == "gpu" else 512
    options.study = max(ARTISTS, options.study or (STUDY_SIZE if options.device == "gpu" else options.count))
    if options.until:
        os.chdir(tempfile.mkdtemp())
        measure(options)
        return
    end = time.time() + 60 * options.minutes - 20
    backends = list(installed(options))
    for backend in backends:
        train_whole_model(backend, options)
    for number, backend in enumerate(backends):
        # The remaining backends share the remaining time.
        until = time.time() + (end - time.time()) / (len(backends) - number)
        arguments = [*sys.argv[1:], "--until", str(until), "--study", str(options.study)]
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": PYTHONPATH}
        subprocess.run([sys.executable, "-m", "benchmarks.gpu", *arguments], cwd=ROOT, env=environment, check=False)


if __name__ == "__main__":
    main()
