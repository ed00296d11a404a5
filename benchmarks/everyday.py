"""Latency of everyday commands of DVC and redarte, as whole processes, on the built-in sample or at the study's size.

    python -m benchmarks.everyday --repeat 5
    python -m benchmarks.everyday --at-study-size       # 8,446 small images of 50 artists, models of 32 px
    python -m benchmarks.everyday --baseline v1 --python /path/to/the/environment/of/v1/bin/python

The pipeline runs once in a clone of this commit, with one epoch per model, and once in a clone of the baseline
revision. Then each command runs alternately in both clones. Each repetition runs a different experiment, so that
evaluate and report run every time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGES, ARTISTS = 8446, 50
REDARTE = "from redarte.cli import app; app()"


@dataclass(frozen=True)
class Clone:
    """A clone of one revision, and the Python that runs this revision."""

    title: str
    path: Path
    python: Path

    def run(self, *command: str) -> float:
        """Runs a command; returns its seconds."""
        environment = os.environ | {
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.path / "src"),
            "DVC_NO_ANALYTICS": "1",
        }
        started = time.perf_counter()
        done = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{self.title}: {' '.join(command)} failed\n{done.stdout}\n{done.stderr}")
        return seconds

    def prepare(self, changes: list[str]) -> None:
        """Runs the whole pipeline with one epoch and changed parameters, and commits the run."""
        for key, value in (("user.name", "benchmark"), ("user.email", "benchmark@example.invalid")):
            self.run("git", "config", key, value)
        changed = [word for change in ("train.epochs=1", *changes) for word in ("-S", change)]
        seconds = self.run("dvc", "exp", "run", *changed)
        self.run("git", "commit", "-qam", "a run")
        print(f"{self.title}: the whole pipeline in {seconds:.0f} s", flush=True)

    def experiment(self, turn: int) -> float:
        """Seconds of `dvc exp run` with another model; the workspace is restored afterwards."""
        seconds = self.run("dvc", "exp", "run", "-S", "model=red2", "-S", f"evaluate.gallery={13 + turn}")
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout", "-q")
        return seconds

    def evaluate_and_report(self) -> float:
        """Seconds of the two stages of this experiment without DVC."""
        return sum(self.run("python", "-m", f"redarte.stages.{stage}") for stage in ("evaluate", "report"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--baseline", metavar="REVISION")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of the baseline revision")
    parser.add_argument("--at-study-size", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clones = [clone_of("HEAD", Path(folder, "this"), Path(sys.executable))]
        if options.baseline:
            clones.insert(0, clone_of(options.baseline, Path(folder, "baseline"), options.python))
        changes = []
        if options.at_study_size:
            draw(Path(folder, "images"))
            changes = ["fetch.source=folder", f"fetch.folder.path={folder}/images", "resize.side=32"]
        for clone in clones:
            clone.prepare(changes)
        print(table(measure(clones, options.repeat)))


def draw(folder: Path) -> None:
    """Writes as many images as the study has. They are small: the time of DVC depends on the number of files."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        artist = folder / f"Artist_{number % ARTISTS:02d}"
        artist.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = cv2.resize(noise, (96, 96), interpolation=cv2.INTER_CUBIC)
        cv2.imencode(".jpg", image)[1].tofile(artist / f"{number:06d}.jpg")


def clone_of(revision: str, path: Path, python: Path) -> Clone:
    subprocess.run(["git", "clone", "-q", ".", path], check=True)
    subprocess.run(["git", "checkout", "-q", revision], cwd=path, check=True)
    return Clone(revision, path, python)


def measure(clones: list[Clone], repeat: int) -> dict[str, dict[str, list[float]]]:
    """Command -> clone -> seconds of each run. The first repetition warms the disk cache and is not counted."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for turn in range(repeat + 1):
        for clone in clones:
            image = next((clone.path / "data/raw").rglob("*.jpg"))
            measured = {
                "dvc exp run -S model=red2": clone.experiment(turn),
                "evaluate and report without DVC": clone.evaluate_and_report(),
                "dvc repro, nothing to do": clone.run("dvc", "repro"),
                "dvc status": clone.run("dvc", "status"),
                "dvc metrics diff": clone.run("dvc", "metrics", "diff"),
                "dvc plots show": clone.run("dvc", "plots", "show"),
                "redarte experiments": clone.run("python", "-c", REDARTE, "experiments"),
                "redarte --help": clone.run("python", "-c", REDARTE, "--help"),
                "redarte predict, one image": clone.run("python", "-c", REDARTE, "predict", str(image)),
            }
            for command, value in measured.items():
                runs = seconds.setdefault(command, {}).setdefault(clone.title, [])
                if turn:
                    runs.append(value)
    return seconds


def table(seconds: dict[str, dict[str, list[float]]]) -> str:
    """A Markdown table: median (minimum to maximum), and the ratio of the last to the first column."""
    titles = list(next(iter(seconds.values())))
    lines = [f"| seconds | {' | '.join(titles)} | ratio |", f"| --- |{' --- |' * (len(titles) + 1)}"]
    for command, by_clone in seconds.items():
        medians = {title: statistics.median(runs) for title, runs in by_clone.items()}
        cells = [f"{medians[title]:.2f} ({min(runs):.2f} to {max(runs):.2f})" for title, runs in by_clone.items()]
        lines.append(f"| {command} | {' | '.join(cells)} | {medians[titles[-1]] / medians[titles[0]]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
