"""Layers of packages, imports that go down, and short modules."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "src/redarte"
# docs/architecture.md describes the packages. A module imports from its own package and from later lines.
LAYERS = (
    {"cli"},
    {"commands"},
    {"stages", "classifier"},
    {"serving"},
    {"labelling"},
    {"history"},
    {"export", "reporting"},
    {"models"},
    {"training"},
    {"evaluation"},
    {"inference"},
    {"ingestion"},
    {"devices"},
    {"images"},
    {"params"},
    {"runtime"},
)
MODULES = sorted(PACKAGE.rglob("*.py"))
# Libraries that a single module imports.
ALONE = {
    "albumentations": {"images/transforms.py"},
    "matplotlib": {"evaluation/figures.py"},
    "keras": {"devices/backend.py"},
    "tensorflow": {"devices/tensorflow.py"},
    "jax": {"devices/jax.py"},
    "torch": {"devices/torch.py"},
    "ray": {"runtime/cluster.py"},
    "ruamel": {"runtime/documents.py"},
}


def package_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer_of(package: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if package in layer)


def imports(module: Path) -> Iterator[str]:
    """The full names of a module's imports, anywhere in it."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges() -> set[tuple[str, str]]:
    """The imports between packages: (importing, imported)."""
    found = set()
    for module in MODULES:
        package = package_of(module)
        for name in imports(module):
            first, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if first == "redarte" and rest and other != package and package != "__init__":
                found.add((package, other))
    return found


def test_every_module_is_in_a_layer() -> None:
    assert {package_of(module) for module in MODULES} == {*set().union(*LAYERS), "__init__"}


def test_imports_go_down() -> None:
    for package, other in edges():
        assert layer_of(other) > layer_of(package), f"{package} imports {other}"


def test_the_diagram_shows_the_imports() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    diagram = re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL)[0]
    shown = set()
    for source, targets in re.findall(r"^ +(\w+) --> (.+)$", diagram, re.MULTILINE):
        shown |= {(source, target.strip()) for target in targets.split("&")}
    # runtime, params and images are imported nearly everywhere; the page says so instead of drawing it.
    everywhere = {"runtime", "params", "images"}
    assert shown == {(source, target) for source, target in edges() if target not in everywhere}


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
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 300
    lock = (ROOT / "dvc.lock").read_text(encoding="utf-8")
    without_extra_models = re.sub(r"^  (train|export)_extra@.*\n(    .*\n| +-.*\n)*", "", lock, flags=re.MULTILINE)
    assert len(without_extra_models.splitlines()) <= 1010
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_direct_dependency_is_pinned_and_no_host_is_named() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in constraints
    pinned = {line.partition("==")[0] for line in constraints.splitlines() if "==" in line}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    pins = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines())
    direct = [*pins, *(line for group in groups.values() for line in group if isinstance(line, str))]
    for requirement in filter(None, direct):
        name, equals, _ = requirement.partition("==")
        assert equals, f"{requirement} is not pinned"
        assert name.lower().replace("_", "-").replace(".", "-") in pinned, requirement


def test_no_model_is_named_where_models_are_trained_and_exported() -> None:
    for name in (
        "stages/train.py",
        "stages/export.py",
        "export/__init__.py",
        "export/onnx.py",
        "models/base/__init__.py",
        "training/loop.py",
    ):
        code = (PACKAGE / name).read_text(encoding="utf-8")
        tree = ast.parse(code)
        words = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not {"fisher", "finetuned", "red1", "red2", "red3"} & (words | named), name


def test_every_linked_page_exists() -> None:
    files = [
        *MODULES,
        ROOT / "params.yaml",
        ROOT / "Makefile",
        *ROOT.glob("tests/**/*.py"),
    ]
    for file in files:
        for page in re.findall(r"docs/[\w/-]+\.md", file.read_text(encoding="utf-8")):
            assert (ROOT / page).is_file(), f"{file} names {page}"
    for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for page in re.findall(r"\]\(([\w./-]+?)(?:#[\w-]+)?\)", file.read_text(encoding="utf-8")):
            assert (file.parent / page).exists(), f"{file} links to {page}"
