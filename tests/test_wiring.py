"""dvc.yaml against the code: what a stage imports, opens and reads of params.yaml, and what it therefore reruns."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from tests.conftest import ROOT, Workspace, environment_for, write_params

STAGES = (
    "fetch", "split", "augment", "resize", "train_red1", "train_red2", "train_red3",
    "export_red1", "export_red2", "export_red3", "train_fisher", "export_fisher", "train_finetuned", "export_finetuned",
    "evaluate", "compare", "report",
)  # fmt: skip

# Runs a stage as `python -m` does, and prints what it imported, which files it opened to read and which
# folders it listed, and which sections of params.yaml it looked at.
SPY = """
import json, os, runpy, sys
module, *arguments = sys.argv[1:]
sys.argv = [module, *arguments]
here, opened, read = os.getcwd() + os.sep, set(), set()

def hear(event, about):
    if event == "open" and isinstance(about[0], str) and not (about[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        opened.add(os.path.abspath(about[0]))
    elif event == "os.scandir" and isinstance(about[0], (str, os.PathLike)):
        opened.add(os.path.abspath(about[0]))

class Spied:
    def __init__(self, params): self.__dict__["params"] = params
    def __getattr__(self, name): read.add(name); return getattr(self.__dict__["params"], name)

from redarte import params
load = params.load
params.load = lambda *path: Spied(load(*path))
sys.addaudithook(hear)
runpy.run_module(module, run_name="__main__")
imported = sorted(name for name in sys.modules if name.partition(".")[0] == "redarte") + [module]
files = sorted(name.removeprefix(here) for name in opened if name.startswith(here))
print("SPY" + json.dumps([imported, files, sorted(read)]))
"""


def declarations(workspace: Workspace) -> dict[str, Any]:
    """Each stage of dvc.yaml with ${} resolved, as DVC sees it."""
    with chdir(workspace.path), Repo() as repo:
        return {
            stage.addressing: {
                "deps": {dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)},
                "params": {name for dep in stage.params for name in dep.params},
                "outs": {out.def_path for out in stage.outs},
                "cmd": stage.cmd,
            }
            for stage in repo.index.stages
        }


class chdir:  # noqa: N801 - contextlib.chdir's name; DVC's API works on the current folder
    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        self.before = Path.cwd()
        os.chdir(self.path)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


def test_the_stages_are_the_designs(finished: Workspace) -> None:
    assert tuple(declarations(finished)) == STAGES


@pytest.mark.parametrize("stage", [stage for stage in STAGES if not stage.endswith(("red2", "red3"))])
def test_a_stage_declares_what_it_uses_and_nothing_more(
    finished: Workspace, request: pytest.FixtureRequest, stage: str
) -> None:
    workspaces = [finished]
    # fisher and finetuned see the originals instead of data/resized, which the other stages do not know of.
    if stage in {"train_finetuned", "export_finetuned", *SHOWN}:
        workspaces.append(request.getfixturevalue("taught"))
    if stage in {"train_fisher", "export_fisher", "compare"}:
        workspaces.append(request.getfixturevalue("fished"))
    spied = [spy(workspace, stage) for workspace in workspaces]
    for workspace, (wanted, imported, opened, _) in zip(workspaces, spied, strict=True):
        modules = {f"src/{name.replace('.', '/')}" for name in imported}
        files = {f"{m}/__init__.py" if (workspace.path / m).is_dir() else f"{m}.py" for m in modules}
        assert {file for file in files if has_code(workspace.path / file)} <= code_of(wanted)
        for file in opened:
            if not any(part.startswith((".partial-", ".scratch-", ".checkpoints")) for part in Path(file).parts):
                places = wanted["deps"] | wanted["outs"]
                assert any(is_in(file, place) for place in places), f"{file} is read and not declared"
        # A run outside of DVC made the same bytes.
        with chdir(workspace.path), Repo() as repo:
            assert repo.status() == {}

    wanted = spied[0][0]
    known = {f"src/{name.replace('.', '/')}" for _, names, _, _ in spied for name in names}
    assert {file for file in code_of(wanted) if not is_module(file, known)} == set()
    everything = {file for _, _, opened, _ in spied for file in opened}
    for place in wanted["deps"] - code_of(wanted):
        assert any(is_in(file, place) for file in everything), f"{place} is declared and not read"
    sections = {section for *_, read in spied for section in read}
    assert {name.partition(".")[0] for name in wanted["params"]} == sections


@pytest.mark.parametrize("network", ["red2", "red3"])
def test_the_studys_networks_are_declared_alike(finished: Workspace, network: str) -> None:
    declared = declarations(finished)
    for stage in ("train", "export"):
        alike = json.dumps(declared[f"{stage}_red1"], default=sorted).replace("red1", network)
        assert json.dumps(declared[f"{stage}_{network}"], default=sorted) == alike


def spy(workspace: Workspace, stage: str) -> tuple[dict[str, Any], list[str], set[str], list[str]]:
    """What a stage declares; and what it imports, which data and templates it opens, which sections it reads."""
    wanted = declarations(workspace)[stage]
    module, *arguments = wanted["cmd"].removeprefix("python -m ").split()
    environment = environment_for({"PYTHONPATH": str(workspace.path / "src"), "REDARTE_WORKERS": "1"})
    done = subprocess.run(
        [sys.executable, "-c", SPY, module, *arguments],
        cwd=workspace.path, env=environment, text=True, capture_output=True, check=True,
    )  # fmt: skip
    imported, opened, sections = json.loads(done.stdout.rpartition("SPY")[2])
    folders = ("data/", "metrics/", "models/", "plots/", "src/redarte/evaluation/templates/")
    return wanted, imported, {file for file in opened if file.startswith(folders)}, sections


def code_of(wanted: dict[str, Any]) -> set[str]:
    return {dep for dep in wanted["deps"] if dep.endswith(".py")}


def is_module(file: str, imported: set[str]) -> bool:
    return file.removesuffix(".py").removesuffix("/__init__") in imported


def is_in(file: str, place: str) -> bool:
    return file == place or file.startswith(f"{place}/")


def has_code(file: Path) -> bool:
    """Whether a module holds more than its docstring."""
    return len(ast.parse(file.read_text(encoding="utf-8")).body) > 1


SHOWN = {"evaluate", "compare", "report"}
# evaluate looks at red1, the network of `model`; compare and report look at all.
OF_FISHER = {"train_fisher", "export_fisher", "compare", "report"}
OF_FINETUNED = {"train_finetuned", "export_finetuned", "compare", "report"}
TRAINED = {"train_red1", "train_red2", "train_red3", "export_red1", "export_red2", "export_red3", *OF_FINETUNED, *SHOWN}
EXPORTED = {"export_red1", "export_red2", "export_red3", "export_fisher", "export_finetuned", *SHOWN}
# fisher and finetuned see the originals, and finetuned the copies too, each squeezed to its own size.
RESIZED = {"resize", "export_fisher", *TRAINED} - {"train_finetuned"}
AUGMENTED = {"augment", "train_finetuned", *RESIZED}
SPLIT = {"split", "train_fisher", *AUGMENTED}
ALL = {"fetch", *SPLIT}

# Every leaf of params.yaml, another value for it, and the stages that may then run.
TABLE: dict[str, tuple[Any, set[str]]] = {
    # Of these, train_fisher and train_finetuned are done at once.
    "model": ("red2", {"evaluate", *OF_FISHER, *OF_FINETUNED}),
    "seed": (1, SPLIT),
    "fetch.source": ("folder", ALL),
    "fetch.max_megapixels": (50.0, ALL),
    "fetch.sample.schools": (4, ALL),
    "fetch.sample.pictures": (6, ALL),
    "fetch.sample.seed": (1, ALL),
    # The source is `sample`: the other sources' sections are not looked at.
    "fetch.archive.path": ("a.zip", set()),
    "fetch.archive.sha256": ("0" * 64, set()),
    "fetch.archive.max_gigabytes": (1.0, set()),
    "fetch.archive.max_files": (5, set()),
    "fetch.folder.path": ("folder", set()),
    "fetch.kaggle.dataset": ("a/b", set()),
    "fetch.kaggle.version": (2, set()),
    "split.train": (0.7, SPLIT),
    "split.val": (0.2, SPLIT),
    "split.test": (0.2, SPLIT),
    "split.folds": (3, SPLIT),
    "split.fold": (1, SPLIT),
    "split.keep_duplicates_together": (False, SPLIT),
    "split.too_small": ("leave_out", SPLIT),
    "augment.copies": (["zoom"], AUGMENTED),
    "augment.rotation": ([-10.0, 10.0], AUGMENTED),
    "augment.zoom": ([1.2, 1.3], AUGMENTED),
    "augment.shift": ([0.1, 0.2], AUGMENTED),
    "augment.max_side": (100, AUGMENTED),
    "augment.quality": (80, AUGMENTED),
    "augment.backend": ("ray", AUGMENTED),
    "resize.size": (64, RESIZED),
    "resize.quality": (80, RESIZED),
    "resize.backend": ("ray", RESIZED),
    "train.epochs": (2, TRAINED),
    "train.batch_size": (4, TRAINED),
    "train.learning_rate": (0.01, TRAINED),
    "train.schedule": ("cosine", TRAINED),
    "train.label_smoothing": (0.1, TRAINED),
    "train.class_weight": ("balanced", {*OF_FISHER, *TRAINED}),
    "train.online": (True, TRAINED),
    "train.patience": (1, TRAINED),
    "train.precision": ("float32", TRAINED),
    "train.deterministic": (False, {*OF_FISHER, *TRAINED}),
    "train.resume": (False, TRAINED),
    "red1.l1": (0.1, {"train_red1", "export_red1", *SHOWN}),
    "red1.l2": (0.1, {"train_red1", "export_red1", *SHOWN}),
    "red2.l1": (0.1, {"train_red2", "export_red2", "compare", "report"}),
    "red2.l2": (0.1, {"train_red2", "export_red2", "compare", "report"}),
    "red3.l1": (0.1, {"train_red3", "export_red3", "compare", "report"}),
    "red3.l2": (0.1, {"train_red3", "export_red3", "compare", "report"}),
    "fisher.input_size": (64, OF_FISHER),
    "fisher.cell": (2, OF_FISHER),
    "fisher.filters": (5, OF_FISHER),
    "fisher.kinds": (5, OF_FISHER),
    "fisher.cost": (1.0, OF_FISHER),
    "finetuned.backbone": ("ResNet50", OF_FINETUNED),
    "finetuned.weights": ("none", OF_FINETUNED),
    "finetuned.input_size": (64, OF_FINETUNED),
    "finetuned.filters": (5, OF_FINETUNED),
    "finetuned.head.cost": (1.0, OF_FINETUNED),
    "finetuned.head.epochs": (5, OF_FINETUNED),
    "finetuned.head.learning_rate": (0.1, OF_FINETUNED),
    "finetuned.tail.epochs": (5, OF_FINETUNED),
    "finetuned.tail.learning_rate": (0.1, OF_FINETUNED),
    "finetuned.unfreeze": (0.1, OF_FINETUNED),
    "finetuned.dropout": (0.1, OF_FINETUNED),
    "finetuned.label_smoothing": (0.2, OF_FINETUNED),
    "finetuned.copies": (True, OF_FINETUNED),
    "finetuned.online": (False, OF_FINETUNED),
    "evaluate.coverage": (0.5, EXPORTED),
    "evaluate.confused_pairs": (5, {"evaluate", "report"}),
    "evaluate.gallery": (5, {"evaluate", "report"}),
}


def leaves(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_table_has_every_parameter() -> None:
    assert list(TABLE) == list(leaves(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", list(TABLE))
def test_a_changed_parameter_reruns_the_stages_that_it_touches(finished: Workspace, name: str) -> None:
    value, expected = TABLE[name]
    file = finished.path / "params.yaml"
    before = file.read_bytes()
    write_params(file, {name: value}, source=file)
    try:
        with chdir(finished.path), Repo() as repo:
            reached = set(repo.status())
            for stage in repo.index.stages:
                needs = {other.addressing for other in repo.index.graph.successors(stage)}
                if needs & reached:
                    reached.add(stage.addressing)
    finally:
        file.write_bytes(before)
    assert reached == expected
