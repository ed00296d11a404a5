"""Time, disk space and memory of split, augment and resize as a function of the number of images.

    python -m benchmarks.scale --counts 1000 3000 8446

Images of 461×614 px and about 90 kB are generated from a seed for 50 artists, in the layout of data/raw. Each stage is
one process, as with DVC. Memory is the resident memory of a stage's largest process, and the sum over all its
processes (shared pages are counted for each process).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import joblib
import numpy as np
import psutil

ARTISTS = 50
STAGES = ("split", "augment", "resize")


def draw(folder: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    noise = rng.integers(0, 256, (77, 58, 3), dtype=np.uint8)
    grain = rng.integers(0, 24, (614, 461, 3), dtype=np.uint8)
    image = cv2.add(cv2.resize(noise, (461, 614), interpolation=cv2.INTER_CUBIC), grain)
    cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tofile(folder / f"{number:06d}.jpg")


def fill(raw: Path, count: int) -> None:
    folders = [raw / f"Artist_{number:02d}" for number in range(ARTISTS)]
    for folder in folders:
        folder.mkdir(parents=True)
    joblib.Parallel(n_jobs=-1)(joblib.delayed(draw)(folders[number % ARTISTS], number) for number in range(count))


def memory(process: psutil.Process) -> tuple[int, int]:
    """Resident bytes of the largest process of a process tree, and of all its processes."""
    sizes = []
    for one in [process, *process.children(recursive=True)]:
        try:
            sizes.append(one.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return max(sizes, default=0), sum(sizes)


def run(stage: str, root: Path) -> tuple[float, int, int]:
    """Runs a stage; returns seconds, the peak bytes of one process and the peak bytes of all processes."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"redarte.stages.{stage}"], cwd=root, stdout=subprocess.DEVNULL)
    largest = together = 0
    while process.poll() is None:
        try:
            one, every = memory(psutil.Process(process.pid))
        except psutil.NoSuchProcess:
            break
        largest, together = max(largest, one), max(together, every)
        time.sleep(0.2)
    if process.wait():
        raise SystemExit(f"{stage} failed")
    return time.perf_counter() - started, largest, together


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", type=int, default=[1000, 3000, 8446])
    options = parser.parse_args()
    print("| images | stage | files written | seconds | ms per image | GB | MB, largest process | MB, all processes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name in ("params.yaml", "corrections.csv"):
                shutil.copy(name, root)
            fill(root / "data/raw", count)
            for stage, output in zip(STAGES, ("split", "augmented", "resized"), strict=True):
                seconds, largest, together = run(stage, root)
                written = files(root / "data" / output)
                size = sum(path.stat().st_size for path in written) / 1e9
                print(
                    f"| {count} | {stage} | {len(written)} | {seconds:.1f} | {seconds / count * 1e3:.2f} | {size:.2f} "
                    f"| {largest / 1e6:.0f} | {together / 1e6:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
