"""docs/new-model.md, typed out in a clone: one file, one section and one name make a model of the pipeline."""

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
from redarte.runtime.errors import UserError
from tests.conftest import ROOT, Workspace, ran

PAGE = (ROOT / "docs/new-model.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.long
def test_the_model_of_the_page_is_trained_exported_and_evaluated(finished: Workspace, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "clone", symlinks=True)
    clone = Workspace(tmp_path / "clone")
    (clone.path / "src/redarte/models/gap.py").write_text(block("python"), encoding="utf-8")
    with (clone.path / "params.yaml").open("a", encoding="utf-8") as params:
        params.write(block("yaml"))
    # The section may stay where the model is not asked for.
    clone.run("redarte", "check", PYTHONPATH=str(clone.path / "src"))
    clone.set({"extra_models": ["gap"], "model": "gap"})
    output = clone.run("dvc", "repro", "evaluate").stdout
    assert ran(output) == ["train_extra@gap", "export_extra@gap", "evaluate"]
    assert clone.metrics("evaluate")["model"] == "gap"
    with (clone.path / "plots/predictions.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3
    # What it is taken apart into adds up to its logits, but for the bias.
    model = Predictor(clone.path / "models/gap.onnx")
    biases = [
        model.predict([image]).logits[0, 1] - model.evidence(image[0], 1).sum()
        for image in dataset.load(clone.path / "data/split/test", side=64).batches(1)
    ]
    np.testing.assert_allclose(biases, biases[0], atol=1e-4)


def test_the_page_fits_a_page() -> None:
    assert len(PAGE.splitlines()) < 100


def test_a_file_without_the_interface_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    half = ModuleType("redarte.models.half")
    half.DESCRIPTION = "half"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, half.__name__, half)
    with pytest.raises(UserError, match=r"models/half\.py lacks a part of a model's interface \(docs/new-model"):
        base.module("half")
