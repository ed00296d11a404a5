"""What a person waits for every day: DVC's commands and redarte's own on the built-in sample, whole processes.

    python -m benchmarks.everyday --repeat 5
    python -m benchmarks.everyday --beside v1 --python /path/to/the/environment/of/v1/bin/python

The pipeline runs once in a clone of this commit (one epoch a model), and in one of the other revision; then the
commands take turns, in the one clone and in the other. The experiment is another one each time, so that evaluate and
report really run.
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

REDARTE = "from redarte.cli import app; app()"


@dataclass(frozen=True)
class Clone:
    """A revision in a folder of its own, and the Python that runs it."""

    title: str
    path: Path
    python: Path

    def run(self, *command: str) -> float:
        """Seconds that a command takes."""
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

    def prepare(self) -> None:
        """Runs the whole pipeline, and commits it."""
        params = self.path / "params.yaml"
        params.write_text(
            params.read_text(encoding="utf-8").replace("  epochs: 4 ", "  epochs: 1 ", 1), encoding="utf-8"
        )
        for key, value in (("user.name", "benchmark"), ("user.email", "benchmark@example.invalid")):
            self.run("git", "config", key, value)
        seconds = self.run("dvc", "repro")
        self.run("git", "commit", "-qam", "a run")
        print(f"{self.title}: the whole pipeline in {seconds:.0f} s", flush=True)

    def experiment(self, turn: int) -> float:
        """`dvc exp run` of another model, which is taken back."""
        seconds = self.run("dvc", "exp", "run", "-S", "model=red2", "-S", f"evaluate.gallery={13 + turn}")
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout", "-q")
        return seconds

    def evaluate_and_report(self) -> float:
        """The two stages of that experiment without DVC."""
        return sum(self.run("python", "-m", f"redarte.stages.{stage}") for stage in ("evaluate", "report"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--beside", metavar="REVISION")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of the revision beside")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clones = [clone_of("HEAD", Path(folder, "this"), Path(sys.executable))]
        if options.beside:
            clones.insert(0, clone_of(options.beside, Path(folder, "beside"), options.python))
        for clone in clones:
            clone.prepare()
        print(table(measure(clones, options.repeat)))


def clone_of(revision: str, path: Path, python: Path) -> Clone:
    subprocess.run(["git", "clone", "-q", ".", path], check=True)
    subprocess.run(["git", "checkout", "-q", revision], cwd=path, check=True)
    return Clone(revision, path, python)


def measure(clones: list[Clone], repeat: int) -> dict[str, dict[str, list[float]]]:
    """Command -> clone -> the seconds of each run; the first turn warms the disk's cache and is left out."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for turn in range(repeat + 1):
        for clone in clones:
            image = next((clone.path / "data/raw").rglob("*.jpg"))
            measured = {
                "dvc exp run -S model=red2": clone.experiment(turn),
                "of it, evaluate and report": clone.evaluate_and_report(),
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
    """Medians with the least and the most, in Markdown; and the last column's as a share of the first's."""
    titles = list(next(iter(seconds.values())))
    lines = [f"| seconds | {' | '.join(titles)} | ratio |", f"| --- |{' --- |' * (len(titles) + 1)}"]
    for command, by_clone in seconds.items():
        middle = {title: statistics.median(runs) for title, runs in by_clone.items()}
        cells = [f"{middle[title]:.2f} ({min(runs):.2f} to {max(runs):.2f})" for title, runs in by_clone.items()]
        lines.append(f"| {command} | {' | '.join(cells)} | {middle[titles[-1]] / middle[titles[0]]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
