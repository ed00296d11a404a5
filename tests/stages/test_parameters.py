"""Every parameter with two values, A, B, A, B, by real `dvc exp run` with the run cache: outputs, not plans."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import FISHER, Workspace, finetuning_params, save_backbone, tree_bytes, write_painting
from tests.stages.test_wiring import committed_parameters

STAGE = {
    "data/raw": "fetch",
    "data/split": "split",
    "data/augmented": "augment",
    "data/resized": "resize",
    "models/red1.keras": "train_red1",
    "models/red2.keras": "train_red2",
    "models/red3.keras": "train_red3",
    "models/red1.onnx": "export@red1",
    "models/fisher.keras": "train_extra@fisher",
    "models/finetuned.keras": "train_extra@finetuned",
    "metrics/evaluate.json": "evaluate",
    "plots/confused_pairs.png": "evaluate",
    "plots/mistakes.png": "evaluate",
}
RED1, FINETUNED = "models/red1.keras", "models/finetuned.keras"
MUSEUM: dict[str, Any] = {
    "fetch.source": "folder",
    "fetch.folder.path": "{museum}",
    "split.too_small": "train_only",
}
ZIP = {"fetch.source": "archive", "fetch.archive.path": "{museum}/a.zip"}
NESTED_ZIP = ZIP | {"fetch.archive.path": "{museum}/c.zip", "fetch.archive.root": "."}
MANY = {"fetch.sample.schools": 8, "fetch.sample.images": 10}
PATIENT = {"train.epochs": 6, "train.learning_rate": 1.0}
TEN = {"fetch.sample.images": 10}
# Each parameter: another value for it (or values, where others must change with it), the output that it decides, and
# what is set for both runs.
TABLE: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "model": ("red2", "metrics/evaluate.json", {}),
    "seed": (1, "data/split", {}),
    "fetch.source": ("folder", "data/raw", {"fetch.folder.path": "{museum}"}),
    "fetch.max_megapixels": (1.0, "data/raw", MUSEUM),
    "fetch.sample.schools": (2, "data/raw", {}),
    "fetch.sample.images": (4, "data/raw", {}),
    "fetch.sample.seed": (1, "data/raw", {}),
    "fetch.archive.path": ("{museum}/b.zip", "data/raw", ZIP),
    "fetch.archive.root": ("inner", "data/raw", NESTED_ZIP),
    "fetch.folder.path": ("{museum}/Ana_and_Bob", "data/raw", MUSEUM),
    "fetch.folder.root": ("Ana_and_Bob", "data/raw", MUSEUM | {"fetch.folder.root": "."}),
    "split.train": ({"split.train": 0.6, "split.val": 0.3}, "data/split", TEN),
    "split.val": ({"split.train": 0.5, "split.val": 0.4}, "data/split", TEN),
    "split.test": ({"split.train": 0.5, "split.test": 0.4}, "data/split", TEN),
    "split.folds": (3, "data/split", {}),
    "split.fold": (1, "data/split", {"split.folds": 3}),
    "split.keep_duplicates_together": (False, "data/split", MUSEUM),
    "split.too_small": ("leave_out", "data/split", MUSEUM),
    "augment.copies": (["zoom"], "data/augmented", {}),
    "augment.rotation": ([-10.0, 10.0], "data/augmented", {}),
    "augment.zoom": ([1.2, 1.3], "data/augmented", {}),
    "augment.shift": ([0.1, 0.2], "data/augmented", {}),
    "augment.max_side": (50, "data/augmented", {}),
    "augment.quality": (80, "data/augmented", {}),
    "resize.side": (24, "data/resized", {}),
    "resize.quality": (80, "data/resized", {}),
    "train.epochs": (2, RED1, {}),
    "train.batch_size": (4, RED1, {}),
    "train.learning_rate": (0.01, RED1, {}),
    "train.schedule": ("cosine", RED1, {"train.epochs": 2}),
    "train.label_smoothing": (0.1, RED1, {}),
    "train.class_weight": ("balanced", RED1, MUSEUM),
    "train.random_crop_flip": (True, RED1, {}),
    "train.patience": (1, RED1, PATIENT),
    "train.precision": ("mixed_bfloat16", RED1, {"train.precision": "float32"}),
    "red1.l1": (0.1, RED1, {}),
    "red1.l2": (0.1, RED1, {}),
    "red2.l1": (0.1, "models/red2.keras", {}),
    "red2.l2": (0.1, "models/red2.keras", {}),
    "red3.l1": (0.1, "models/red3.keras", {}),
    "red3.l2": (0.1, "models/red3.keras", {}),
    "fisher.input_size": (32, "models/fisher.keras", FISHER),
    "fisher.cell": (1, "models/fisher.keras", FISHER),
    "fisher.principal_components": (5, "models/fisher.keras", FISHER),
    "fisher.mixture_components": (2, "models/fisher.keras", FISHER),
    "fisher.C": (0.001, "models/fisher.keras", FISHER),
    "finetuned.backbone": ("{museum}/other.keras", FINETUNED, {"finetuned": True}),
    "finetuned.input_size": (32, FINETUNED, {"finetuned": True}),
    "finetuned.principal_components": (3, FINETUNED, {"finetuned": True}),
    "finetuned.head.C": (0.001, FINETUNED, {"finetuned": True, "finetuned.fine_tune.epochs": 0}),
    "finetuned.head.epochs": (1, FINETUNED, {"finetuned": True}),
    "finetuned.head.learning_rate": (0.1, FINETUNED, {"finetuned": True, "finetuned.head.epochs": 1}),
    "finetuned.fine_tune.epochs": (0, FINETUNED, {"finetuned": True}),
    "finetuned.fine_tune.learning_rate": (0.1, FINETUNED, {"finetuned": True}),
    "finetuned.unfreeze": (1.0, FINETUNED, {"finetuned": True}),
    "finetuned.dropout": (0.0, FINETUNED, {"finetuned": True}),
    "finetuned.label_smoothing": (0.3, FINETUNED, {"finetuned": True}),
    "finetuned.random_crop_flip": (False, FINETUNED, {"finetuned": True}),
    "export.coverage": (0.5, "models/red1.onnx", {}),
    "evaluate.confused_pairs": (1, "plots/confused_pairs.png", MANY),
    "evaluate.gallery": (1, "plots/mistakes.png", MANY),
}  # fmt: skip
# Those that decide no byte of an output here, and why.
WITHOUT = {
    "extra_models": "it makes stages; tests of fisher and finetuned run them",
    "split.apply_corrections": "corrections.csv has no rows here: tests/labelling/test_label_issues.py",
    "fetch.archive.encoding": "the wrong one is refused or changes names alone: tests/ingestion/test_archive.py",
    "fetch.archive.sha256": "it takes a file or refuses it",
    "fetch.folder.sha256": "it takes a folder or refuses it",
    "fetch.archive.max_gigabytes": "it takes a file or refuses it",
    "fetch.archive.max_files": "it takes a file or refuses it",
    "fetch.kaggle.dataset": "it needs the network",
    "fetch.kaggle.version": "it needs the network",
    "fetch.kaggle.root": "it needs the network; one rule with fetch.folder.root",
    "train.backend": "JAX and PyTorch may not be installed: tests/devices/test_backends.py",
    "train.device": "there may be no GPU here",
    "train.jit": "whether XLA computes other bits depends on the machine",
    "train.deterministic": "a CPU computes the same",
    "finetuned.weights": "a backbone in a file has its own",
}
QUICK = ("seed", "resize.side")


def test_the_table_has_every_parameter() -> None:
    assert TABLE.keys() | WITHOUT.keys() == set(committed_parameters(TABLE))
    assert not TABLE.keys() & WITHOUT.keys()


@pytest.fixture(scope="module")
def museum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of four artists, one with only two, duplicates and a large one; archives and backbones beside them."""
    folder = tmp_path_factory.mktemp("museum")
    seed = 0
    for artist, count in (("Ana_and_Bob/Ana", 5), ("Ana_and_Bob/Bob", 4), ("Cid", 9), ("Dan", 2)):
        for number in range(count):
            seed += 1
            write_painting(folder / artist / f"{number}.jpg", 60, 50, seed)
    for number in range(4):
        # Near-duplicates: the same painting, larger.
        write_painting(folder / "Cid" / f"again{number}.jpg", 90, 75, seed=13 + number)
    write_painting(folder / "Cid" / "large.jpg", 1300, 1000, seed=99)
    for name, artists in (("a", ("Ana", "Bob")), ("b", ("Bob", "Ana", "Extra"))):
        root = folder.parent / f"{folder.name}-{name}"
        for artist in artists:
            for number in range(3):
                seed += 1
                write_painting(root / artist / f"{number}.jpg", 60, 50, seed)
        shutil.make_archive(str(folder / name), "zip", root)
    root = folder.parent / f"{folder.name}-c"
    for artist in ("inner/One", "inner/Two", "Three", "Four"):
        for number in range(3):
            seed += 1
            write_painting(root / artist / f"{number}.jpg", 60, 50, seed)
    shutil.make_archive(str(folder / "c"), "zip", root)
    save_backbone(folder / "backbone.keras")
    save_backbone(folder / "other.keras", seed=1)
    return folder


@pytest.fixture(scope="module")
def prepared(finished: Workspace, museum: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Workspace]:
    """Gives a clone with some values committed; the run cache is kept from one parameter to the next."""
    root = tmp_path_factory.mktemp("parameters") / "redarte"
    shutil.copytree(finished.path, root, symlinks=True)
    workspace = Workspace(root)
    start = workspace.run("git", "rev-parse", "HEAD").stdout.strip()

    def prepare(changes: dict[str, Any]) -> Workspace:
        workspace.run("git", "reset", "-q", "--hard", start)
        workspace.run("git", "clean", "-qfd")
        if changes:
            workspace.set(changes)
            workspace.commit("other values")
        return workspace

    return prepare


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in TABLE]
)
def test_outputs_are_those_of_the_current_value(prepared: Callable[..., Workspace], museum: Path, name: str) -> None:
    other, output, both = TABLE[name]
    if both.get("finetuned"):
        both = finetuning_params(museum / "backbone.keras") | {k: v for k, v in both.items() if k != "finetuned"}
    workspace = prepared({key: placed(value, museum) for key, value in both.items()})
    document = yaml.safe_load((workspace.path / "params.yaml").read_text(encoding="utf-8"))
    b = other if isinstance(other, dict) else {name: placed(other, museum)}
    a = {key: value_of(document, key) for key in b}

    seen = []
    for values in (a, b, a, b):
        sets = [
            part
            for key, value in values.items()
            for part in ("-S", f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}")
        ]
        printed = workspace.run("dvc", "exp", "run", *sets, STAGE[output]).stdout
        seen.append(digest(workspace.path / output))
    first_a, first_b, again_a, again_b = seen
    assert first_a != first_b, f"{output} is the same for {a} and {b}"
    assert (again_a, again_b) == (first_a, first_b)
    assert f"Running stage '{STAGE[output]}'" not in printed, "the run cache was not used"


def placed(value: Any, museum: Path) -> Any:
    return value.replace("{museum}", str(museum)) if isinstance(value, str) else value


def value_of(document: dict[str, Any], name: str) -> Any:
    value: Any = document
    for key in name.split("."):
        value = value[key]
    return value


def digest(path: Path) -> str:
    files = tree_bytes(path) if path.is_dir() else {"": path.read_bytes()}
    hashed = hashlib.sha256()
    for name, content in files.items():
        hashed.update(f"{name}\0{len(content)}\0".encode() + content)
    return hashed.hexdigest()
