"""Time of `dvc repro` if everything is up to date, compared with `dvc status` of the same workspace.

    python -m benchmarks.up_to_date --images 4000

The whole pipeline runs once in a clone on small images (12.6 files for each image). Then the two commands run
alternately.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ARTISTS = 50
ENVIRONMENT = {"DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        noise = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = cv2.resize(noise, (48, 48), interpolation=cv2.INTER_CUBIC)
        artist = folder / f"Artist_{number % ARTISTS:02d}"
        artist.mkdir(parents=True, exist_ok=True)
        cv2.imencode(".jpg", image)[1].tofile(artist / f"{number:06d}.jpg")


def dvc(clone: Path, *command: str) -> tuple[float, float]:
    """Runs a command; returns seconds and peak memory in MB."""
    started = time.perf_counter()
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(clone / "src")}
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(["dvc", *command], cwd=clone, env=environment, stdout=printed, stderr=printed)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            printed.seek(0)
            raise SystemExit(printed.read())
    return time.perf_counter() - started, usage.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clone, source = Path(name) / "clone", Path(name) / "images"
        subprocess.run(["git", "clone", "-q", ".", clone], check=True)
        shutil.copytree("src", clone / "src", dirs_exist_ok=True)
        draw(source, options.images)
        small = ["fetch.source=folder", f"fetch.folder.path={source}", "resize.side=16", "train.epochs=1"]
        changes = [argument for change in small for argument in ("-S", change)]
        first, _ = dvc(clone, "exp", "run", *changes)
        files = sum(1 for path in (clone / "data").rglob("*") if path.is_file())
        print(f"{files} files in data/, built in {first:.0f} s; medians of {options.repeat}, seconds", flush=True)
        runs: dict[str, list[tuple[float, float]]] = {"status": [], "repro": []}
        for _ in range(options.repeat):
            for command, measured in runs.items():
                measured.append(dvc(clone, command))
        first = statistics.median(seconds for seconds, _ in runs["status"])
        print("| | seconds | ratio to dvc status | MB of memory |")
        print("| --- | --- | --- | --- |")
        for command, measured in runs.items():
            median = statistics.median(seconds for seconds, _ in measured)
            memory = max(megabytes for _, megabytes in measured)
            print(f"| dvc {command} | {median:.2f} | {median / first:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
