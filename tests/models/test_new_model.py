"""docs/new-model.md, followed in a clone: a module, a section and an entry add a model to the pipeline."""

import csv
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from redarte.images import dataset
from redarte.inference.predictor import Predictor
from redarte.models import base
from redarte.params import REGISTRY
from redarte.runtime.errors import UserError
from tests.conftest import ROOT, Workspace, new_workspace, ran

PAGE = (ROOT / "docs/new-model.md").read_text(encoding="utf-8")


def block(language: str, number: int = 0) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number])


def write_model(clone: Workspace) -> None:
    """Does steps 1 to 3 of the page."""
    (clone.path / "src/redarte/models/gap.py").write_text(block("python"), encoding="utf-8")
    module = clone.path / "src/redarte/params/__init__.py"
    code = module.read_text(encoding="utf-8")
    for old, new in (
        ("class Export(Section):", f"{block('python', 1)}\n\nclass Export(Section):"),
        ("    finetuned: Finetuned\n", "    finetuned: Finetuned\n    gap: Gap\n"),
        ('"finetuned": "finetuned"}', '"finetuned": "finetuned", "gap": "gap"}'),
    ):
        assert code.count(old) == 1
        code = code.replace(old, new)
    module.write_text(code, encoding="utf-8")
    with (clone.path / "params.yaml").open("a", encoding="utf-8") as params:
        params.write(block("yaml"))


@pytest.mark.long
def test_the_model_of_the_page_is_trained_exported_and_evaluated(finished: Workspace, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "clone", symlinks=True)
    clone = Workspace(tmp_path / "clone")
    write_model(clone)
    # The section may stay while the model is not trained.
    clone.run("redarte", "check", PYTHONPATH=str(clone.path / "src"))
    # The new code changes no output of another stage.
    assert ran(clone.run("dvc", "repro").stdout) == []
    clone.set({"extra_models": ["gap"], "model": "gap"})
    output = clone.run("dvc", "repro", "evaluate").stdout
    assert ran(output) == ["train_extra@gap", "export_extra@gap", "evaluate"]
    assert clone.metrics("evaluate")["model"] == "gap"
    with (clone.path / "plots/predictions.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3
    # The evidence and the bias add up to the logits.
    model = Predictor(clone.path / "models/gap.onnx")
    biases = [
        model.predict([image]).logits[0, 1] - model.evidence(image[0], 1).sum()
        for image in dataset.load(clone.path / "data/split/test", side=64).batches(1)
    ]
    np.testing.assert_allclose(biases, biases[0], atol=1e-4)


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) < 140


@pytest.mark.long
def test_lint_passes_with_the_model_of_the_page(tmp_path: Path) -> None:
    clone = new_workspace(tmp_path / "clone", {})
    shutil.copy(ROOT / "params.yaml", clone.path)
    write_model(clone)
    params = clone.path / "params.yaml"
    committed = params.read_text(encoding="utf-8")
    assert committed.count("extra_models: []") == 1
    params.write_text(committed.replace("extra_models: []", "extra_models: [gap]"), encoding="utf-8")
    clone.run("ruff", "format", "--check")
    clone.run("ruff", "check")
    clone.run("mypy")
    clone.run("python", "-m", "pytest", "-q", "tests/params/test_params.py", "tests/test_architecture.py",
              "-k", "not dvc.lock", PYTHONPATH=str(clone.path / "src"))  # fmt: skip


def test_a_file_without_the_interface_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    half = ModuleType("redarte.models.half")
    half.DESCRIPTION = "half"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, half.__name__, half)
    monkeypatch.setitem(REGISTRY, "half", "half")
    with pytest.raises(UserError, match=r"models/half\.py lacks LICENSE, .* of a model's interface \(docs/new-model"):
        base.module("half")
