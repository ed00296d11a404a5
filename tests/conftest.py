"""Real DVC in real clones of this working tree, with a sample that trains in seconds."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock

from redarte import params
from redarte.images import decoding
from redarte.params import Params

ROOT = Path(__file__).resolve().parent.parent

TINY: dict[str, Any] = {
    "model": "red1",
    "extra_models": [],
    "fetch.sample.schools": 3,
    "fetch.sample.images": 5,
    "augment.max_side": 64,
    "resize.side": 32,
    "train.epochs": 1,
    "train.batch_size": 8,
}

FISHER = {
    "extra_models": ["fisher"],
    "model": "fisher",
    "fisher.input_size": 48,
    "fisher.cell": 2,
    "fisher.principal_components": 8,
    "fisher.mixture_components": 3,
}

# A shell that starts the tests in the background ignores Ctrl-C, also for the stages that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of one process build the finished pipeline while another runs those that do not need it.

    Files with many tests of whole processes come before others, so that no process has a long one left at the end.
    """
    needing = Counter(item.path for item in items if "finished" in getattr(item, "fixturenames", ()))
    slow = Counter(item.path for item in items if {"finished", "workspace"} & {*getattr(item, "fixturenames", ())})
    longest = [path for path, _ in needing.most_common(1)]
    items.sort(key=lambda item: (item.path not in longest, item.path in needing, -slow[item.path], item.path))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What another run or another test process has computed is not used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDARTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass(frozen=True)
class Workspace:
    """A clone of the project with a different params.yaml."""

    path: Path

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command there, with this Python first on the path, and returns its output."""
        done = subprocess.run(
            command, cwd=self.path, env=environment_for(environment), text=True, capture_output=True, timeout=540
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def stage(self, name: str, *arguments: str, check: bool = True, **environment: str) -> Any:
        return self.run("sh", "src/stage", name, *arguments, check=check, **environment)

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=environment_for(environment),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def metrics(self, name: str) -> Any:
        """The content of metrics/<name>.json."""
        return json.loads((self.path / f"metrics/{name}.json").read_text(encoding="utf-8"))

    def set(self, changes: dict[str, Any]) -> None:
        write_params(self.path / "params.yaml", changes, self.path / "params.yaml")

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def clone(self, path: Path) -> "Workspace":
        subprocess.run(["git", "clone", "-q", self.path, path], check=True)
        identify(path)
        return Workspace(path)


def environment_for(extra: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **extra}


def identify(path: Path) -> None:
    for key, value in (("user.name", "test"), ("user.email", "test@example.invalid")):
        subprocess.run(["git", "config", key, value], cwd=path, check=True)


def write_params(target: Path, changes: dict[str, Any], source: Path = ROOT / "params.yaml") -> None:
    """Writes a params.yaml with some leaves, named like a.b.c, set to other values."""
    document = yaml.safe_load(source.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *sections, leaf = name.split(".")
        section = document
        for key in sections:
            section = section[key]
        assert leaf in section, f"there is no parameter {name}"
        section[leaf] = value
    target.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")


def new_workspace(path: Path, changes: dict[str, Any]) -> Workspace:
    """A git repository with this working tree's files, committed or not yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    path.mkdir(parents=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    write_params(path / "params.yaml", TINY | changes)
    subprocess.run(["git", "init", "-q"], cwd=path, check=True)
    identify(path)
    workspace = Workspace(path)
    workspace.commit("the project")
    return workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Workspace:
    """A clone in which the pipeline has run. Tests leave it unchanged."""
    return built_once("finished", run_everything, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def extra_models(tmp_path_factory: pytest.TempPathFactory, worker_id: str, finished: Workspace) -> Workspace:
    """The same with fisher and finetuned (its `model`) on a tiny backbone. Tests leave it unchanged."""

    def build(path: Path) -> Workspace:
        finetuned = finetuning_params(save_backbone(path.parent / "tiny.keras"))
        return run_again(finished, path, FISHER | finetuned | {"extra_models": ["fisher", "finetuned"]})

    return built_once("extra_models", build, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def fisher_workspace(tmp_path_factory: pytest.TempPathFactory, worker_id: str, extra_models: Workspace) -> Workspace:
    """The same with fisher as its `model`. Tests leave it unchanged."""
    return built_once(
        "fisher_workspace", lambda path: run_again(extra_models, path, {"model": "fisher"}), tmp_path_factory, worker_id
    )


def built_once(
    name: str, build: Callable[[Path], Workspace], tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Workspace:
    """Several processes share the tests: one of them builds a workspace, and each has a copy."""
    root = tmp_path_factory.mktemp(name) / "redarte"
    if worker_id == "master":
        return build(root)
    original = tmp_path_factory.getbasetemp().parent / name / "redarte"
    with FileLock(original.parent.with_suffix(".lock")):
        if not original.exists():
            build(original)
    shutil.copytree(original, root, symlinks=True)
    return Workspace(root)


def run_everything(path: Path) -> Workspace:
    workspace = new_workspace(path, {})
    workspace.run("dvc", "repro")
    workspace.commit("a run")
    return workspace


def run_again(finished: Workspace, path: Path, changes: dict[str, Any]) -> Workspace:
    """A copy of a finished workspace in which the pipeline has run with other parameters."""
    shutil.copytree(finished.path, path, symlinks=True)
    workspace = Workspace(path)
    workspace.set(changes)
    workspace.run("dvc", "repro")
    workspace.commit(f"a run with {changes['model']}")
    return workspace


def save_backbone(path: Path, seed: int = 0) -> Path:
    """A small feature extractor with random weights."""
    from redarte.devices.backend import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="first"),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3, padding="same", name="second"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="third"),
            layers.GlobalAveragePooling2D(),
        ]
    ).save(path)
    return path


def finetuning_params(backbone: Path) -> dict[str, Any]:
    return {
        "extra_models": ["finetuned"],
        "model": "finetuned",
        "finetuned.backbone": str(backbone),
        "finetuned.input_size": 48,
        "finetuned.principal_components": 4,
        "finetuned.fine_tune.epochs": 1,
    }


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A clone in which nothing has run."""
    return new_workspace(tmp_path / "redarte", {})


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Params]:
    """Creates validated params from the project's, with some values changed."""

    def make(changes: dict[str, Any] | None = None) -> Params:
        file = tmp_path / "params.yaml"
        write_params(file, changes or {})
        return params.load(file)

    return make


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REDARTE_WORKERS", "1")
    yield


def painting(width: int = 40, height: int = 30, seed: int = 0) -> decoding.ImageArray:
    """Smooth colour, which JPEG preserves, and asymmetric, so that rotations and flips are visible."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 100 * np.sin(x / width * f + y / height * g + p) for f, g, p in rng.uniform(0.5, 3, (3, 3))]
    return np.stack(waves, axis=-1).round().astype(np.uint8)


def write_painting(path: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    decoding.write_jpeg(path, painting(width, height, seed), quality=95)
    return path


def ran(output: str) -> list[str]:
    """The stages that DVC ran, by its output."""
    return re.findall(r"Running stage '([\w@]+)'", output)


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
