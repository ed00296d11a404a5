"""dvc.yaml against the code: what a stage imports, opens and reads of params.yaml, and what it therefore reruns."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from redarte.params import REGISTRY
from tests.conftest import ROOT, Workspace, environment_for, ran, write_params

STAGES = (
    "fetch", "split", "augment", "resize", "train_red1", "train_red2", "train_red3",
    "export@red1", "export@red2", "export@red3", "evaluate", "compare", "report",
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


def test_the_names_of_the_stages(finished: Workspace) -> None:
    assert tuple(declarations(finished)) == STAGES


EXTRA = ("train_extra@fisher", "train_extra@finetuned", "export_extra@fisher", "export_extra@finetuned")


def long(*stages: str) -> list[Any]:
    return [pytest.param(stage, marks=pytest.mark.long) for stage in stages]


PLAIN = tuple(stage for stage in STAGES if not stage.endswith(("red2", "red3", "evaluate", "report")))


@pytest.mark.parametrize("stage", [*PLAIN, *long("train_extra@", "export_extra@", "evaluate", "report")])
def test_a_stage_declares_exactly_what_it_uses(finished: Workspace, request: pytest.FixtureRequest, stage: str) -> None:
    """What a stage imports and opens is declared, and every declared file is used."""
    runs = [(finished, stage)] if stage in STAGES else []
    if stage not in PLAIN:
        # One entry of dvc.yaml trains every extra model: it declares what any of them uses.
        extra = request.getfixturevalue("extra_models")
        runs += [(extra, name) for name in ((stage,) if stage in STAGES else EXTRA) if name.startswith(stage)]
    spied = [(workspace, *spy(workspace, name)) for workspace, name in runs]
    for workspace, wanted, imported, opened, _ in spied:
        for file in imported:
            assert any(is_in(file, path) for path in code_of(wanted)), f"{file} is imported and not declared"
        for file in opened:
            if not any(part.startswith((".partial-", ".scratch-", ".checkpoints")) for part in Path(file).parts):
                # What a killed run left beside an output is deleted.
                parents = {str(Path(out).parent) for out in wanted["outs"]}
                places = wanted["deps"] | wanted["outs"]
                assert file in parents or any(is_in(file, path) for path in places), f"{file} is read and not declared"
        # A run outside of DVC wrote the same bytes.
        with chdir(workspace.path), Repo() as repo:
            assert repo.status() == {}

    everything = {file for _, _, imported, opened, _ in spied for file in (*imported, *opened)}
    declared = set().union(*(wanted["deps"] for _, wanted, *_ in spied))
    for path in declared:
        assert any(is_in(file, path) for file in everything), f"{path} is declared and not used"
        for file in (ROOT / path).rglob("*.py") if path.startswith("src/") and (ROOT / path).is_dir() else []:
            name = file.relative_to(ROOT).as_posix()
            assert name in everything or not has_code(file), f"{path} is declared, and its {name} is not used"
    sections = {section for *_, read in spied for section in read}
    params = {name.partition(".")[0] for _, wanted, *_ in spied for name in wanted["params"]}
    assert params == sections if stage in STAGES else params >= sections


@pytest.mark.parametrize("model", ["red2", "red3"])
def test_the_studys_models_are_declared_alike(finished: Workspace, model: str) -> None:
    declared = declarations(finished)
    for stage in ("train_", "export@"):
        alike = json.dumps(declared[f"{stage}red1"], default=sorted).replace("red1", model)
        assert json.dumps(declared[f"{stage}{model}"], default=sorted) == alike


def spy(workspace: Workspace, stage: str) -> tuple[dict[str, Any], set[str], set[str], list[str]]:
    """What a stage declares; and which code it imports that may decide its bytes, which data and templates it opens,
    which sections of params.yaml it reads."""
    wanted = declarations(workspace)[stage]
    name, *arguments = wanted["cmd"].removeprefix("sh src/stage ").split()
    module = f"redarte.stages.{name}"
    environment = environment_for({"PYTHONPATH": str(workspace.path / "src"), "REDARTE_WORKERS": "1"})
    done = subprocess.run(
        [sys.executable, "-c", SPY, module, *arguments],
        cwd=workspace.path, env=environment, text=True, capture_output=True, check=True,
    )  # fmt: skip
    imported, opened, sections = json.loads(done.stdout.rpartition("SPY")[2])
    folders = ("corrections.csv", "data/", "metrics/", "models/", "plots/")
    # Reading params.yaml's sections by a method of Params is not reading one of its sections.
    sections = [
        name for name in sections if name in yaml.safe_load((workspace.path / "params.yaml").read_text("utf-8"))
    ]
    return wanted, {file for file in map(file_of, imported) if decides(file)}, {
        file for file in opened if file.startswith(folders) or file.endswith(".j2")
    }, sections  # fmt: skip


def file_of(module: str) -> str:
    path = f"src/{module.replace('.', '/')}"
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def decides(file: str) -> bool:
    """Whether a module may decide the bytes of an output: all but runtime/, devices/ and params/."""
    is_undeclared = file.startswith(("src/redarte/runtime/", "src/redarte/devices/", "src/redarte/params/"))
    # Nor does what starts every stage or names what `import redarte` offers, or a module with only a docstring.
    is_start = file in ("src/redarte/__init__.py", "src/redarte/stages/__init__.py")
    return not is_undeclared and not is_start and has_code(ROOT / file)


def code_of(wanted: dict[str, Any]) -> set[str]:
    return {dep for dep in wanted["deps"] if dep.startswith("src/")}


def is_in(file: str, path: str) -> bool:
    return file == path or file.startswith(f"{path}/")


def has_code(file: Path) -> bool:
    """Whether a module holds more than its docstring."""
    return len(ast.parse(file.read_text(encoding="utf-8")).body) > 1


def stale(workspace: Workspace) -> set[str]:
    """The stages that `dvc repro` would run by themselves."""
    with chdir(workspace.path), Repo() as repo:
        return set(repo.status())


def with_comment(workspace: Workspace, file: str) -> set[str]:
    """The stages that a comment at the end of a file makes stale."""
    path = workspace.path / file
    before = path.read_bytes()
    path.write_bytes(before + b"\n# another comment\n")
    try:
        return stale(workspace)
    finally:
        path.write_bytes(before)


UNDECLARED = ("params", "cli.py", "runtime", "devices", "commands", "serving", "labelling", "history")


def test_a_comment_in_undeclared_modules_makes_nothing_stale(finished: Workspace) -> None:
    files = [
        file.relative_to(finished.path).as_posix()
        for name in UNDECLARED
        for path in [finished.path / "src/redarte" / name]
        for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])
    ]
    assert len(files) > 15
    # All at once, because a single one makes no more stages stale than all.
    befores = {file: (finished.path / file).read_bytes() for file in files}
    try:
        for file, before in befores.items():
            (finished.path / file).write_bytes(before + b"\n# another comment\n")
        assert stale(finished) == set()
    finally:
        for file, before in befores.items():
            (finished.path / file).write_bytes(before)


TRAININGS = {"train_red1", "train_red2", "train_red3"}
EXPORTS = {"export@red1", "export@red2", "export@red3"}
# The file that is edited, and the stages that name it: they rerun, and later ones if their outputs change.
EDITS = {
    "reporting/report/report.html.j2": {"report"},
    "reporting/study/study.html.j2": {"compare"},
    "reporting/pages/parts.html.j2": {"compare", "report"},
    "evaluation/figures.py": {"evaluate", "compare"},
    "export/calibration.py": EXPORTS,
    "images/transforms.py": {"augment"},
    "images/duplicates/geometry.py": {"split"},
    "ingestion/sources/sample/__init__.py": {"fetch"},
    "ingestion/sources/archive/__init__.py": set(),
    "models/study.py": TRAININGS | EXPORTS,
    "models/fisher.py": set(),
    "models/layers.py": set(),
    "training/checkpoints.py": TRAININGS,
    "export/onnx.py": EXPORTS,
    "images/overlays.py": {"report"},
    "inference/predictor.py": {*EXPORTS, "evaluate", "compare", "report"},
    "images/decoding/png.py": set(STAGES),
    "stages/resize.py": {"resize"},
}


@pytest.mark.parametrize("file", EDITS)
def test_a_comment_in_a_file_makes_stale_the_stages_that_use_it(finished: Workspace, file: str) -> None:
    assert with_comment(finished, f"src/redarte/{file}") == EDITS[file]


@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("reporting/report/report.html.j2", ["report"]),
        ("evaluation/figures.py", ["evaluate", "compare"]),
        ("devices/__init__.py", []),
        ("runtime/console.py", []),
        ("params/__init__.py", []),
        ("models/fisher.py", []),
        ("models/study.py", ["train_red1", "train_red2", "train_red3", "export@red1", "export@red2", "export@red3"]),
        ("training/checkpoints.py", ["train_red1", "train_red2", "train_red3"]),
    ],
)
def test_dvc_runs_the_stages_that_use_an_edited_file(
    finished: Workspace, tmp_path: Path, file: str, stages: list[str]
) -> None:
    """A comment changes no output, so that no later stage runs."""
    shutil.copytree(finished.path, tmp_path / "copy", symlinks=True)
    copy = Workspace(tmp_path / "copy")
    with (copy.path / "src/redarte" / file).open("a", encoding="utf-8") as source:
        source.write("{# a comment #}\n" if file.endswith(".j2") else "\n# a comment\n")
    done = copy.run("dvc", "repro")
    assert ran(done.stdout) == stages


SHOWN = {"evaluate", "compare", "report"}
TRAINED = {"train_red1", "train_red2", "train_red3", "export@red1", "export@red2", "export@red3", *SHOWN}
EXPORTED = {"export@red1", "export@red2", "export@red3", *SHOWN}
RESIZED = {"resize", *TRAINED}
AUGMENTED = {"augment", *RESIZED}
SPLIT = {"split", *AUGMENTED}
ALL = {"fetch", *SPLIT}

# Every leaf of params.yaml, another value for it, and the stages that may then run.
TABLE: dict[str, tuple[Any, set[str]]] = {
    "model": ("red2", {"evaluate", "report"}),
    # New stages, on which no other stage depends.
    "extra_models": (["fisher"], {"train_extra@fisher", "export_extra@fisher"}),
    "seed": (1, SPLIT),
    "fetch.source": ("folder", ALL),
    "fetch.max_megapixels": (50.0, ALL),
    "fetch.sample.schools": (4, ALL),
    "fetch.sample.images": (6, ALL),
    "fetch.sample.seed": (1, ALL),
    # The source is `sample`: of the other sources' sections only the paths are looked at, and reported.
    "fetch.archive.path": ("a.zip", ALL),
    "fetch.archive.root": ("train", set()),
    "fetch.archive.encoding": ("cp932", set()),
    "fetch.archive.sha256": ("0" * 64, set()),
    "fetch.archive.max_gigabytes": (1.0, set()),
    "fetch.archive.max_files": (5, set()),
    "fetch.folder.path": ("folder", ALL),
    "fetch.folder.root": ("train", set()),
    "fetch.folder.sha256": ("0" * 64, set()),
    "fetch.kaggle.dataset": ("a/b", set()),
    "fetch.kaggle.version": (2, set()),
    "fetch.kaggle.root": ("train", set()),
    "split.train": (0.7, SPLIT),
    "split.val": (0.2, SPLIT),
    "split.test": (0.2, SPLIT),
    "split.folds": (3, SPLIT),
    "split.fold": (1, SPLIT),
    "split.keep_duplicates_together": (False, SPLIT),
    "split.too_small": ("leave_out", SPLIT),
    "split.apply_corrections": (False, SPLIT),
    "augment.copies": (["zoom"], AUGMENTED),
    "augment.rotation": ([-10.0, 10.0], AUGMENTED),
    "augment.zoom": ([1.2, 1.3], AUGMENTED),
    "augment.shift": ([0.1, 0.2], AUGMENTED),
    "augment.max_side": (100, AUGMENTED),
    "augment.quality": (80, AUGMENTED),
    "resize.side": (64, RESIZED),
    "resize.quality": (80, RESIZED),
    "train.epochs": (2, TRAINED),
    "train.batch_size": (4, TRAINED),
    "train.learning_rate": (0.01, TRAINED),
    "train.schedule": ("cosine", TRAINED),
    "train.label_smoothing": (0.1, TRAINED),
    "train.class_weight": ("balanced", TRAINED),
    "train.random_crop_flip": (True, TRAINED),
    "train.patience": (1, TRAINED),
    "train.backend": ("jax", TRAINED),
    "train.device": ("cpu", TRAINED),
    "train.precision": ("float32", TRAINED),
    "train.jit": (True, TRAINED),
    "train.deterministic": (False, TRAINED),
    "red1.l1": (0.1, {"train_red1", "export@red1", *SHOWN}),
    "red1.l2": (0.1, {"train_red1", "export@red1", *SHOWN}),
    "red2.l1": (0.1, {"train_red2", "export@red2", "compare"}),
    "red2.l2": (0.1, {"train_red2", "export@red2", "compare"}),
    "red3.l1": (0.1, {"train_red3", "export@red3", "compare"}),
    "red3.l2": (0.1, {"train_red3", "export@red3", "compare"}),
    "fisher.input_size": (64, set()),
    "fisher.cell": (2, set()),
    "fisher.principal_components": (5, set()),
    "fisher.mixture_components": (5, set()),
    "fisher.C": (1.0, set()),
    "finetuned.backbone": ("ResNet50", set()),
    "finetuned.weights": ("none", set()),
    "finetuned.input_size": (64, set()),
    "finetuned.principal_components": (5, set()),
    "finetuned.head.C": (1.0, set()),
    "finetuned.head.epochs": (5, set()),
    "finetuned.head.learning_rate": (0.1, set()),
    "finetuned.fine_tune.epochs": (5, set()),
    "finetuned.fine_tune.learning_rate": (0.1, set()),
    "finetuned.unfreeze": (0.1, set()),
    "finetuned.dropout": (0.1, set()),
    "finetuned.label_smoothing": (0.2, set()),
    "finetuned.random_crop_flip": (False, set()),
    "export.coverage": (0.5, EXPORTED),
    "evaluate.confused_pairs": (5, {"evaluate", "report"}),
    "evaluate.gallery": (5, {"evaluate", "report"}),
}


def leaves(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def committed_parameters(known: Iterable[str]) -> list[str]:
    """The parameters of params.yaml, without those of a new model (docs/new-model.md) that a table does not know."""
    sections = {name.partition(".")[0] for name in known}
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return list(leaves({name: document[name] for name in document if name in sections or name not in REGISTRY}))


def test_the_table_has_every_parameter() -> None:
    assert list(TABLE) == committed_parameters(TABLE)


@pytest.fixture(scope="module")
def touched(finished: Workspace) -> Callable[[str], set[str]]:
    """The stages that declare a parameter, by DVC's own index, and those that use their outputs."""
    with chdir(finished.path), Repo() as repo:
        stages, graph = repo.index.stages, repo.index.graph
        params = {stage: [name for dep in stage.params for name in dep.params] for stage in stages}
        names = {stage: stage.addressing for stage in stages}

        def reached(parameter: str) -> set[str]:
            found: set[Any] = set()
            for stage in stages:
                own = any(f"{parameter}.".startswith(f"{name}.") for name in params[stage])
                if own or found & set(graph.successors(stage)):
                    found.add(stage)
            return {names[stage] for stage in found}

        return reached


@pytest.mark.parametrize("name", [name for name in TABLE if name != "extra_models"])
def test_a_parameter_reruns_the_stages_that_it_affects(touched: Callable[[str], set[str]], name: str) -> None:
    assert touched(name) == TABLE[name][1]


@pytest.mark.parametrize("name", ["model", "extra_models", "seed", "fetch.archive.path", "resize.side", "red2.l2"])
def test_dvc_reruns_the_affected_stages(finished: Workspace, name: str) -> None:
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
