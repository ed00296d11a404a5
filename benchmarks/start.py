"""Start-up time of commands and stages: medians of whole processes, in seconds.

python -m benchmarks.start --repeat 5
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

WITHOUT_TENSORS = ("fetch", "split", "augment", "resize", "evaluate", "compare", "report")
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "redarte --help": [str(Path(sys.executable).with_name("redarte")), "--help"],
    # The start-up time of a stage is that of its imports.
    **{f"stage {name}": [sys.executable, "-c", f"import redarte.stages.{name}"] for name in WITHOUT_TENSORS},
    "stage train": [sys.executable, "-c", "import redarte.stages.train"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(options.repeat + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    print(f"medians of {options.repeat}")
    print("| | seconds |")
    print("| --- | --- |")
    for name, runs in seconds.items():
        print(f"| {name} | {statistics.median(runs):.2f} ({min(runs):.2f} to {max(runs):.2f}) |")


if __name__ == "__main__":
    main()
