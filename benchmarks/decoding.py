"""Cost of the decodings of a training original from fetch to resize, in ms on one core.

python -m benchmarks.decoding --images data/raw
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from redarte import params
from redarte.images import decoding, folders
from redarte.images.duplicates import candidates
from redarte.ingestion import checks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=Path("data/raw"))
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    files = [options.images / path for path in folders.list_images(options.images)]
    files = random.Random(0).sample(files, min(options.count, len(files)))
    settings = params.load()
    steps: dict[str, Callable[[Path], object]] = {
        "fetch: complete decoding at full size, with checks": lambda file: checks.problem(file.read_bytes(), 1e8),
        "split: at 256 px": lambda file: decoding.read_within(file, 256),
        "split: with the keypoints and the colours": lambda file: candidates.fingerprint(
            decoding.read_within(file, 256)
        ),
        "augment: within augment.max_side": lambda file: decoding.read_within(file, settings.augment.max_side),
        "resize: at resize.side": lambda file: decoding.read_resized(file, settings.resize.side),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repeat):
        for name, step in steps.items():
            started = time.perf_counter()
            for file in files:
                step(file)
            seconds[name].append(time.perf_counter() - started)
    print(f"{len(files)} images, medians of {options.repeat}\n\n| | ms an image |\n| --- | --- |")
    for name, values in seconds.items():
        print(f"| {name} | {1000 * statistics.median(values) / len(files):.2f} |")


if __name__ == "__main__":
    main()
