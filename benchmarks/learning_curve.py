"""Learning curve: test accuracy as a function of the number of training images.

    python -m benchmarks.learning_curve --models red1 fisher finetuned --shares 0.125 0.25 0.5 1 \\
        -S train.epochs=6 -S train.patience=2 -S fisher.input_size=224

Run it in the project's folder after `dvc repro split`; the workspace is not changed. A random part of each artist's
training images is chosen by the seed, and smaller parts are subsets of larger parts; val and test stay complete. -S
works as in `dvc exp run`. A row is printed for each trained model: training images (without copies), accuracy on train,
val and test (with a 95 % confidence interval), top-5 accuracy, macro-F1, and the seconds of the training.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from scipy.stats import binomtest

from redarte import params
from redarte.images import folders
from redarte.params import STUDY

TRAIN = Path("data/split/train")


def thin(folder: Path, share: float, seed: int) -> int:
    """Deletes all but a share of each artist's images, and keeps at least one; returns how many are left."""
    kept = 0
    for artist in folders.classes(folder):
        files = sorted(path.name for path in (folder / artist).iterdir())
        order = np.random.default_rng([seed, *artist.encode()]).permutation(len(files))
        count = max(1, round(share * len(files)))
        for index in order[count:]:
            (folder / artist / files[index]).unlink()
        kept += count
    return kept


def stage(root: Path, *command: str) -> None:
    done = subprocess.run(["sh", "src/stage", *command], cwd=root, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


def workspace(root: Path, share: float, changes: list[str]) -> int:
    """Prepares a folder with the project's code, parameters and split, to train on a share of the training images."""
    shutil.copytree("src", root / "src")
    shutil.copytree("data/split", root / "data/split", copy_function=os.link)
    shutil.copy("data/images.csv", root / "data")
    shutil.copy("params.yaml", root)
    set_all(root / "params.yaml", changes)
    kept = thin(root / TRAIN, share, params.load(root / "params.yaml").seed)
    for name in ("augment", "resize"):
        stage(root, name)
    return kept


def set_all(file: Path, changes: list[str]) -> None:
    """Sets parameters, each given as <section>.<name>=<value in YAML>."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    for change in changes:
        name, _, value = change.partition("=")
        *sections, leaf = name.split(".")
        section = document
        for key in sections:
            section = section[key]
        section[leaf] = yaml.safe_load(value)
    file.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")


def train_and_evaluate(root: Path, model: str) -> str:
    """Trains, exports and evaluates a model in a prepared folder; returns the cells of its row."""
    set_all(root / "params.yaml", [f"model={model}", f"extra_models={[] if model in STUDY else [model]}"])
    started = time.monotonic()
    stage(root, "train", model)
    seconds = time.monotonic() - started
    stage(root, "export", model)
    stage(root, "evaluate")
    trained = json.loads((root / f"metrics/train_{model}.json").read_text(encoding="utf-8"))
    evaluated = json.loads((root / "metrics/evaluate.json").read_text(encoding="utf-8"))
    count = len(folders.list_images(root / "data/split/test"))
    interval = binomtest(round(evaluated["test_accuracy"] * count), count).proportion_ci(method="wilson")
    return " | ".join(
        [
            f"{trained['accuracy']:.3f}",
            f"{trained['val_accuracy']:.3f}",
            f"{evaluated['test_accuracy']:.3f} ({interval.low:.3f} to {interval.high:.3f})",
            f"{evaluated['test_top5_accuracy']:.3f}",
            f"{evaluated['test_macro_f1']:.3f}",
            f"{seconds:.0f}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["red1"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.125, 0.25, 0.5, 1])
    parser.add_argument("-S", dest="changes", action="append", default=[])
    options = parser.parse_args()
    print("| model | images | train | val | test | top-5 | macro-F1 | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for share in options.shares:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            root = Path(folder)
            kept = workspace(root, share, options.changes)
            for model in options.models:
                print(f"| {model} | {kept} | {train_and_evaluate(root, model)} |", flush=True)


if __name__ == "__main__":
    main()
