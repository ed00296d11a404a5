import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import parse_yaml
from pydantic import BaseModel

from redarte import params
from redarte.params import REGISTRY, STUDY, Params, validation
from redarte.runtime import documents
from redarte.runtime.errors import UserError
from tests.conftest import ROOT, write_params


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "a: " + "[" * 50_000 + "]" * 50_000, "- " * 50_000, "{a: " * 50_000, "? " * 50_000]
)
def test_deep_nesting_is_refused(tmp_path: Path, text: str) -> None:
    """The C parser of ruamel.yaml exhausts the stack: a segmentation fault, so it runs in a process of its own."""
    (tmp_path / "params.yaml").write_text(text)
    script = "from redarte import params; params.load()"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.endswith("UserError: params.yaml is nested too deep: it has sections, and parameters in them.\n")


def refusal(tmp_path: Path, text: str) -> str:
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        params.load(file)
    return str(caught.value)


def test_the_committed_file_is_valid_and_is_the_default_study() -> None:
    settings = params.load(ROOT / "params.yaml")
    assert settings.fetch.source == "sample"
    assert settings.resize.side == 224
    assert len(settings.augment.copies) == 6


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("augment.quality", 101, "augment.quality is 101 and must be less than or equal to 100."),
        ("augment.quality", "92", "augment.quality is '92' and must be a valid integer."),
        ("augment.copies", ["rotashion"], "augment.copies.0 is 'rotashion' and must be 'rotation', "),
        ("augment.copies", ["zoom", "zoom"], "must name each copy once, or none: []"),
        ("augment.zoom", [1.5, 1.1], "augment.zoom is [1.5, 1.1] and must be two numbers, the smaller first."),
        ("augment.zoom", [1.1], "must be two numbers"),
        ("split.train", 0.9, "split: train, val and test must add up to 1."),
        ("split.val", 0.0, "split.val is 0.0 and must be greater than 0."),
        ("model", "red4", f"model is 'red4' and must be one of {', '.join(REGISTRY)}."),
        ("seed", -1, "seed is -1 and must be greater than or equal to 0."),
        ("seed", True, "seed is True and must be a valid integer."),
        ("train.learning_rate", float("nan"), "train.learning_rate is nan and must be"),
        ("train.precision", "bf16", "train.precision is 'bf16' and must be 'auto', 'float32', "),
        ("train.epochs", 2.5, "train.epochs is 2.5 and must be a valid integer"),
        ("fetch.archive.sha256", "abc", "fetch.archive.sha256 is 'abc' and must match pattern"),
        ("fetch.kaggle.dataset", "one", "fetch.kaggle.dataset is 'one' and must match pattern"),
        ("fetch.archive.path", "a\0b", r"path is 'a\x00b' and must be a text on one line, and not empty."),
        (
            "finetuned.unfreeze",
            1.5,
            "finetuned.unfreeze is 1.5 and must be a number from 0 to 1, or the name of a layer.",
        ),
        (
            "finetuned.unfreeze",
            True,
            "finetuned.unfreeze is True and must be a number from 0 to 1, or the name of a layer.",
        ),
        (
            "finetuned.unfreeze",
            "0.5",
            "finetuned.unfreeze is '0.5' and must be a number from 0 to 1, or the name of a layer.",
        ),
        (
            "model",
            "finetuned",
            "model is finetuned, which is trained only if extra_models names it; type "
            "dvc exp run -S 'extra_models=[finetuned]' -S model=finetuned, or set both here.",
        ),
        (
            "extra_models",
            ["red1"],
            "extra_models is ['red1'] and must name extra models, each once: "
            f"{', '.join(name for name in REGISTRY if name not in STUDY)}; or none: [].",
        ),
        ("extra_models", ["fisher", "fisher"], "must name extra models, each once"),
        ("extra_models", ["rembrandt"], "must name extra models, each once"),
        ("extra_models", ["../cli"], "must name extra models, each once"),
        ("finetuned.backbone", " ", "finetuned.backbone is ' ' and must be a text on one line, and not empty."),
        ("red2", 3, "red2 is 3 and must be a section, with parameters in it."),
    ],
)
def test_a_wrong_value_is_reported_with_its_name(tmp_path: Path, name: str, value: Any, message: str) -> None:
    file = tmp_path / "params.yaml"
    write_params(file, {name: value})
    with pytest.raises(UserError) as caught:
        params.load(file)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("quality: 92", "qualty: 92", "there is no parameter augment.qualty; did you mean augment.quality."),
        ("seed: 0 #", "sed: 0 #", "there is no parameter sed; did you mean seed."),
        ("resize:", "resise:", "there is no parameter resise; did you mean resize."),
        (
            "    schools: 6",
            "    schools: 6\n    easel: 4",
            "there is no parameter fetch.sample.easel; the parameters here are",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace(right, wrong, 1)
    assert message in refusal(tmp_path, text).splitlines()[0]


@pytest.mark.parametrize(
    ("document", "key"), [({"a": {"size": 3}}, "size"), ({"a": {"b": [{"nfiles": 3}]}}, "nfiles"), ({"side": 3}, None)]
)
def test_a_key_that_dvc_leaves_out_of_its_run_cache_is_refused(document: dict[str, Any], key: str | None) -> None:
    if key is None:
        documents.check_seen_by_dvc(Path("params.yaml"), document)
        return
    with pytest.raises(UserError, match=rf"params\.yaml: no key may be named {key}: DVC ignores keys of this name"):
        documents.check_seen_by_dvc(Path("params.yaml"), document)


def test_no_parameter_has_a_name_that_dvc_leaves_out_of_its_run_cache() -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert not {"size", "nfiles"} & set(documents.keys(document))
    models: list[type[BaseModel]] = [Params]
    for model in models:
        assert not {"size", "nfiles"} & model.model_fields.keys(), model
        found = (field.annotation for field in model.model_fields.values())
        models += [kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseModel)]
    assert len(models) > 15


def test_an_experiment_changes_the_lines_of_its_values_and_no_other(tmp_path: Path) -> None:
    """params.yaml is committed as DVC writes it."""
    file, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    apply_overrides(file, ["seed=0", "model=red1"])
    assert file.read_text(encoding="utf-8") == text
    apply_overrides(file, ["seed=7", "fetch.source=archive", "fetch.archive.path=x.zip", "augment.zoom=[1.2,1.5]"])
    changed = set(file.read_text(encoding="utf-8").splitlines()) - set(text.splitlines())
    assert {line.partition(" #")[0] for line in changed} == {
        "seed: 7",
        "  source: archive",
        "    path: x.zip",
        "  - 1.2",
    }


OVERRIDES = (
    ("extra_models=[finetuned]", "model=finetuned"), ("extra_models=[fisher,finetuned]",),
    ("extra_models=[]", "model=red1"), ("augment.copies=[]",), ("augment.copies=[zoom,rotation]",),
    ("augment.zoom=[1.2,1.3]",),
    ("fetch.archive.path=x.zip", "fetch.source=archive"), ("fetch.archive.path=null", "fetch.source=sample"),
    ("fetch.folder.path='my paintings'", "fetch.folder.sha256=abc"), ("finetuned.unfreeze=conv5",),
    ("finetuned.unfreeze=0.5",), ("train.epochs=9",), ("seed=3",),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_params_yaml_stays_valid_through_many_experiments(tmp_path: Path, seed: int) -> None:
    """DVC's writer joined two lines after a list with a comment on its key was emptied: `fetch: source: sample`."""
    file, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    expected = parse_yaml(text, "params.yaml")
    for overrides in random.Random(seed).choices(OVERRIDES, k=12):
        apply_overrides(file, list(overrides))
        for name, _, value in (override.partition("=") for override in overrides):
            *sections, leaf = name.split(".")
            section = expected
            for key in sections:
                section = section[key]
            section[leaf] = yaml.safe_load(value)
        assert parse_yaml(file.read_text(encoding="utf-8"), "params.yaml") == expected, overrides
    comments = [line.partition("#")[2].strip() for line in text.splitlines() if "#" in line]
    written = file.read_text(encoding="utf-8")
    assert [comment for comment in comments if comment not in written] == []


def test_a_merge_conflict_is_named(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    both = "<<<<<<< HEAD\nseed: 0\n=======\nseed: 1\n>>>>>>> theirs\n"
    message = refusal(tmp_path, text.replace("seed: 0 #", f"{both}#", 1))
    assert message.startswith(f"merge conflict in {tmp_path}/params.yaml, from line ") and "Traceback" not in message


@pytest.mark.parametrize(
    "path", ["data/raw", "./data/raw/", "data/split/train", "data/raw/../raw", "{here}/data/resized"]
)
def test_a_source_inside_an_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "params.yaml"
    write_params(file, {"fetch.folder.path": path.replace("{here}", str(tmp_path))})
    with pytest.raises(UserError, match=r"and must not be in data/.*, which DVC deletes before it runs"):
        params.load(file)
    write_params(file, {"fetch.folder.path": "data/rawest"})
    params.load(file)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("  quality: 95", "  # quality: 95")
    assert refusal(tmp_path, text).startswith(f"{tmp_path}/params.yaml: resize.quality is missing; add it")


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    write_params(file, {"augment.quality": 0, "red3.l2": 2.0})
    with pytest.raises(UserError) as caught:
        params.load(file)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["", "- a list", "model: [", "\tmodel: red1", "model: red1\nmodel: red2"])
def test_a_malformed_document_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, text)
    assert "\n" not in message
    assert str(tmp_path / "params.yaml") in message


@pytest.mark.parametrize("value", ["9" * 5000, "2026-99-99", "2026-01-01T00:00:00-99:99", "0x_", "1:30", "1.0"])
def test_what_is_not_an_integer_is_refused(tmp_path: Path, value: str) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("seed: 0 #", f"seed: {value} #", 1)
    assert "\n" not in refusal(tmp_path, text)


@pytest.mark.parametrize("value", ["010", "1_0", "0b11", "0x1F", "0o17", "+7", "1"])
def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, value: str) -> None:
    """Else DVC would restore the run of another number: PyYAML reads 010 as 8, and DVC as 10."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("seed: 0 #", f"seed: {value} #", 1)
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    assert params.load(file).seed == parse_yaml(text, file)["seed"]


@pytest.mark.parametrize("value", ["yes", "on", "OFF", "n"])
def test_only_true_and_false_are_booleans(tmp_path: Path, value: str) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("deterministic: true", f"deterministic: {value}")
    assert f"train.deterministic is '{value}' and must be a valid boolean." in refusal(tmp_path, text)


@pytest.mark.parametrize("tag", ["int", "float", "bool", "timestamp", "binary", "set", "omap", "python/name:os.system"])
def test_a_value_that_contradicts_its_tag_is_refused(tmp_path: Path, tag: str) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("seed: 0 #", f'seed: !!{tag} "é" #', 1)
    assert "\n" not in refusal(tmp_path, text)


def test_long_values_are_shortened(tmp_path: Path) -> None:
    """Ten names for ten lists, each of ten of the one before: a megabyte if it were written out."""
    laughs = "".join(f"seed{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'ha'] * 10)}]\n" for i in range(6))
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("seed: 0 #", f"{laughs}seed: *a5 #", 1)
    message = refusal(tmp_path, text)
    assert "seed is [[[...], [...]," in message
    assert len(message) < 3000


def test_at_most_twenty_mistakes_are_reported(tmp_path: Path) -> None:
    lines = refusal(tmp_path, "".join(f"k{i}: 1\n" for i in range(1000))).splitlines()
    assert len(lines) == 21
    missing = sum(field.is_required() for field in Params.model_fields.values())
    assert f"and {1000 + missing - 20} more errors." in lines[-1]


@pytest.mark.parametrize(("key", "message"), [("5", "5"), ("~", "None"), ('"\\e[31m"', r"\x1b[31m")])
def test_a_key_that_is_not_a_name_is_reported(tmp_path: Path, key: str, message: str) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8") + f"{key}: 1\n"
    assert f"there is no parameter {message}; the parameters here are model, extra_models, seed, fetch" in refusal(
        tmp_path, text
    )


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        params.load(tmp_path)


RENAMED = [
    ("  side: 224", "  size: 224", "resize.size is now called resize.side."),
    ("extra_models: [", "beyond: [", "beyond is now called extra_models."),
    ("    images: 20", "    pictures: 20", "fetch.sample.pictures is now called fetch.sample.images."),
    ("  random_crop_flip: false", "  online: false", "train.online is now called train.random_crop_flip."),
    ("mixture_components: 32", "kinds: 32", "fisher.kinds is now called fisher.mixture_components."),
    ("principal_components: 64", "filters: 64", "fisher.filters is now called fisher.principal_components."),
    ("    C: 10.0", "    cost: 10.0", "finetuned.head.cost is now called finetuned.head.C."),
    ("  fine_tune:", "  tail:", "finetuned.tail is now called finetuned.fine_tune."),
    ("  jit: false", "  jit: false\n  resume: true", "train.resume does not exist any more: an interrupted training"),
]


@pytest.mark.parametrize(("new", "old", "message"), RENAMED)
def test_the_old_name_of_a_parameter_is_refused_with_the_new_one(
    tmp_path: Path, new: str, old: str, message: str
) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert new in text
    found = refusal(tmp_path, text.replace(new, old, 1))
    assert found.startswith(f"{tmp_path}/params.yaml: {message}") and "\n" not in found


def test_every_renamed_parameter_exists_under_its_new_name() -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for old, new in validation._RENAMED.items():
        for name, exists in ((new, True), (old, False)):
            section: Any = document
            for key in name.split("."):
                section = section.get(key) if isinstance(section, dict) else None
            assert (section is not None) == exists, name


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("  side: 224", "  side: 128\n  side: 224")
    assert 'found duplicate key "side"' in refusal(tmp_path, text)
    assert "line " in refusal(tmp_path, text)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run this from the top folder"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(("written", "value"), [("1e-05", 1e-5), ("1.5e-4", 1.5e-4), ("0.25", 0.25), ("0", 0.0)])
def test_numbers_as_dvc_writes_them(tmp_path: Path, written: str, value: float) -> None:
    """`dvc exp run -S red2.l1=0.00001` writes 1e-05, which PyYAML alone takes for a text."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("l1: 0.00001", f"l1: {written}")
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    assert params.load(file).red2.l1 == value


def test_params_are_frozen(settings: Callable[..., Params]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings().resize.side = 3
