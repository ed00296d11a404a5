"""Speed of augment on a Ray cluster: redarte's plain tasks, joblib's Ray backend and Ray Data.

    ray start --head --port 6379 --num-cpus 1
    ray start --address 127.0.0.1:6379 --num-cpus 1
    RAY_ADDRESS=127.0.0.1:6379 python -m benchmarks.on_ray --images data/raw --repeat 5

Each method writes the study's six copies and is timed from connecting to the cluster to the last copy, including the
start of the workers. The methods run alternately. Ray Data needs pyarrow (pip install pyarrow pandas). `local` is this
machine without Ray.
"""

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib
import ray

from redarte import params
from redarte.images import folders
from redarte.runtime import cluster, workers
from redarte.stages import augment

Work = Callable[[str], int]


def tasks(work: Work, files: list[str]) -> int:
    return sum(cluster.map_parallel(work, files, "augmenting"))


def local(work: Work, files: list[str]) -> int:
    return sum(workers.map_parallel(work, files, "augmenting"))


def in_folder(folder: Path, work: Work, file: str) -> int:
    os.chdir(folder)
    return work(file)


def by_joblib(work: Work, files: list[str]) -> int:
    from ray.util.joblib import register_ray

    register_ray()  # type: ignore[no-untyped-call]
    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR)
    try:
        with joblib.parallel_config("ray"):
            done = joblib.Parallel()(joblib.delayed(in_folder)(Path.cwd(), work, file) for file in files)
    finally:
        ray.shutdown()
    return sum(done)


def by_ray_data(work: Work, files: list[str]) -> int:
    folder = Path.cwd()
    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        made = ray.data.from_items(files).map(lambda row: {"copies": in_folder(folder, work, row["item"])})
        return sum(row["copies"] for row in made.iter_rows())
    finally:
        ray.shutdown()


METHODS = {"plain tasks": tasks, "joblib's backend": by_joblib, "Ray Data": by_ray_data, "local": local}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("data/raw"), help="a class-per-folder tree")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    settings = params.load()
    source = options.images.resolve()
    listed = folders.list_images(source)
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        count = min(options.count, len(listed))
        files = [listed[number * len(listed) // count] for number in range(count)]
        for file in files:
            (augment._TRAIN / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, augment._TRAIN / file)
        for turn in range(options.repeat + 1):
            for name, run in METHODS.items():
                target = Path(f"{turn} {name}")
                for artist in {Path(file).parent for file in files}:
                    (target / artist).mkdir(parents=True)
                started = time.perf_counter()
                copies = run(partial(augment.write_copies, target, settings.augment, 0), files)
                if turn:
                    seconds[name].append(time.perf_counter() - started)
                assert copies == len(files) * len(settings.augment.copies)
                shutil.rmtree(target)
    print(f"{len(files)} images, medians of {options.repeat}")
    print("| | seconds | ratio to local |")
    print("| --- | --- | --- |")
    alone = statistics.median(seconds["local"])
    for name, runs in seconds.items():
        median = statistics.median(runs)
        print(f"| {name} | {median:.1f} ({min(runs):.1f} to {max(runs):.1f}) | {median / alone:.2f} |")


if __name__ == "__main__":
    main()
