"""The house: rooms in order, arrows that go down it alone, and modules that fit a screen or four."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src/redarte"
# docs/architecture.md says what each is for. A module imports from its own room and from those after it.
ROOMS = (
    "cli", "commands", "stages", "inference", "networks", "training", "evaluation", "pictures", "params", "runtime",
)  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))
# The libraries that one module alone imports, and which.
ALONE = {
    "albumentations": {"pictures/transforms.py"},
    "matplotlib": {"evaluation/figures.py"},
    "keras": {"training/backend.py"},
    "tensorflow": {"training/on_tensorflow.py"},
    "jax": {"training/on_jax.py"},
    "torch": {"training/on_torch.py"},
    "ray": {"runtime/cluster.py"},
    "yaml": {"runtime/yaml12.py"},
}


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path) -> Iterator[str]:
    """The full names of what a module imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_is_in_a_room() -> None:
    assert {room_of(module) for module in MODULES} == {*ROOMS, "__init__"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.relative_to(PACKAGE).as_posix())
def test_arrows_go_down_the_list(module: Path) -> None:
    room = room_of(module)
    if room == "__init__":
        return
    for name in imports(module):
        package, _, rest = name.partition(".")
        if package == "redarte" and rest:
            other = rest.partition(".")[0]
            assert ROOMS.index(other) >= ROOMS.index(room), f"{room} imports {name}, which is above it"


@pytest.mark.parametrize("library", ALONE)
def test_one_module_alone_imports_it(library: str) -> None:
    importing = {
        module.relative_to(PACKAGE).as_posix()
        for module in MODULES
        if any(name.partition(".")[0] == library for name in imports(module))
    }
    assert importing == ALONE[library]


def test_modules_are_short() -> None:
    lines = {module: len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert max(lines.values()) <= 300
    assert median(count for count in lines.values() if count) < 130


def test_the_pipeline_is_short() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 250
    assert len((ROOT / "dvc.lock").read_text(encoding="utf-8").splitlines()) <= 950
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_direct_dependency_is_pinned_and_no_host_is_named() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in constraints
    pinned = {line.partition("==")[0] for line in constraints.splitlines() if "==" in line}
    for file in ROOT.glob("requirements*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            requirement = line.partition("#")[0].strip()
            if requirement and not requirement.startswith("-r"):
                name, equals, _ = requirement.partition("==")
                assert equals, f"{file.name}: {requirement} is not pinned"
                assert name.partition("[")[0].lower().replace("_", "-").replace(".", "-") in pinned, requirement


def test_no_network_beyond_the_study_is_named_where_networks_are_trained_and_exported() -> None:
    for name in ("stages/train.py", "stages/export.py", "inference/export.py", "networks/base.py", "training/loop.py"):
        code = (PACKAGE / name).read_text(encoding="utf-8")
        tree = ast.parse(code)
        words = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not {"fisher", "finetuned", "red1", "red2", "red3"} & (words | named), name


def test_every_page_that_is_named_is_there() -> None:
    files = [
        *MODULES,
        ROOT / "params.yaml",
        ROOT / "Makefile",
        *ROOT.glob("requirements*.txt"),
        *ROOT.glob("tests/**/*.py"),
    ]
    for file in files:
        for page in re.findall(r"docs/[\w/-]+\.md", file.read_text(encoding="utf-8")):
            assert (ROOT / page).is_file(), f"{file} names {page}"
    for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for page in re.findall(r"\]\(([\w./-]+?)(?:#[\w-]+)?\)", file.read_text(encoding="utf-8")):
            assert (file.parent / page).exists(), f"{file} links to {page}"
