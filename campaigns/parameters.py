"""Every params.yaml runs, or is refused before any work, in sentences that name the error.

An attack draws a hundred documents and a hundred corrupt texts of YAML for params.load; accepted ones have the same
values for DVC. Then the stages run on tiny images with one document of allowed values.
"""

import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, get_args

import hypothesis
import yaml
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.conftest import ROOT, Workspace, new_workspace, save_backbone

from redarte import params
from redarte.params import Params
from redarte.runtime.errors import UserError

DOCUMENTS = 100
TEXTS = ("fetch.archive.path", "fetch.archive.sha256", "fetch.folder.path", "finetuned.backbone", "finetuned.weights")
_LONGEST = 300  # seconds for a stage

# Narrower ranges for a tiny run; the other values are drawn from the allowed ranges.
TINY: dict[str, Any] = {
    "fetch.source": st.just("sample"),
    "fetch.sample.schools": st.integers(2, 4),
    "fetch.sample.images": st.integers(3, 9),
    "split.folds": st.integers(0, 3),
    "augment.max_side": st.integers(16, 64),
    "resize.side": st.integers(8, 48),
    "train.epochs": st.integers(1, 2),
    "fisher.input_size": st.integers(8, 96),
    "fisher.mixture_components": st.integers(1, 8),
    "finetuned.input_size": st.integers(8, 96),
    "finetuned.principal_components": st.integers(1, 20),
    "finetuned.head.epochs": st.integers(0, 1),
    "finetuned.fine_tune.epochs": st.integers(0, 1),
    "evaluate.gallery": st.integers(1, 6),
}


@contextmanager
def prepared(folder: Path) -> Iterator[Workspace]:
    save_backbone(folder / "tiny.keras")
    yield new_workspace(folder / "redarte", {})


def attack(workspace: Workspace, seed: int) -> Counter[str]:
    return read_documents(workspace.path.parent, seed) + run_one(workspace, seed)


def read_documents(folder: Path, seed: int) -> Counter[str]:
    """Reads documents with a wrong value here or there, and texts that are hardly YAML."""
    happened: Counter[str] = Counter()
    rng = random.Random(seed)
    for document in drawn(
        st.tuples(documents({}), st.lists(st.tuples(st.sampled_from(LEAVES), wild), max_size=3)), seed
    ):
        drawn_one, wrong = document
        text = yaml.safe_dump(drawn_one, allow_unicode=True, sort_keys=False)
        happened[f"texts {read(folder, broken(rng, rng.choice([text, COMMITTED])))}"] += 1
        for name, value in wrong:
            put(drawn_one, name, value)
        happened[f"documents {read(folder, yaml.safe_dump(drawn_one, allow_unicode=True))}"] += 1
    return happened


def read(folder: Path, text: str) -> str:
    """The result of a text as a params.yaml."""
    file = folder / "params.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    started = time.monotonic()
    try:
        settings = params.load(file)
    except UserError as error:
        for line in str(error).splitlines():
            is_one = line.startswith(str(file)) and line.endswith(".")
            assert is_one or line.startswith(f"merge conflict in {file}, from line "), line
            assert len(line) < 1000, line
        return "refused"
    finally:
        assert time.monotonic() - started < 5, "it takes too long to read"
    try:
        seen_by_dvc = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    except YAMLFileCorruptedError:
        return "taken, and refused by DVC"
    for name in TEXTS:  # 2026-01-01 may be a path
        put(seen_by_dvc, name, attrgetter(name)(settings))
    assert Params.model_validate(seen_by_dvc) == settings, "DVC reads other values"
    return "taken"


def run_one(workspace: Workspace, seed: int) -> Counter[str]:
    """Takes the stages of one model through a document of allowed values."""
    document = drawn(documents(TINY), seed, examples=5)[-1]
    document["finetuned"]["backbone"] = str(workspace.path.parent / "tiny.keras")
    document["finetuned"]["weights"] = "none"
    (workspace.path / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    name = document["model"]
    for command in (["fetch"], ["split"], ["augment"], ["resize"], ["train", name], ["export", name], ["evaluate"]):
        done: subprocess.CompletedProcess[str] = workspace.stage(*command, check=False)
        if done.returncode:
            # One sentence for each wrong parameter.
            spoken = rf"^redarte {' '.join(command)}: (.*[a-z_]+\.[a-z_]+.*)(?:\nparams\.yaml: .*)*\n*\Z"
            sentence = re.search(spoken, done.stderr, re.MULTILINE)
            assert done.returncode == 1 and sentence and "Traceback" not in done.stderr, done.stderr
            return Counter({f"runs refused by {command[0]}: {re.sub('[0-9.]+', '#', sentence[1])}": 1})
    return Counter({f"runs of {name}": 1})


def drawn(strategy: st.SearchStrategy[Any], seed: int, examples: int = DOCUMENTS) -> list[Any]:
    """Examples of a strategy, always the same for a seed."""
    found = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found


def documents(narrowed: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Documents whose values are allowed individually, and mostly also together."""
    return section(Params, "", narrowed).map(made_whole)


def section(model: type[BaseModel], path: str, narrowed: dict[str, Any]) -> st.SearchStrategy[Any]:
    fields = {}
    for name, info in model.model_fields.items():
        kind, here = info.annotation, f"{path}{name}"
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields[name] = section(kind, f"{here}.", narrowed)
        elif here in narrowed or here in OURS:
            fields[name] = (OURS | narrowed)[here]
        else:
            fields[name] = st.from_type(Annotated[kind, *info.metadata] if info.metadata else kind)  # type: ignore[arg-type]
    return st.fixed_dictionaries(fields)


def pair(least: float, most: float) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(least, most), min_size=2, max_size=2).map(sorted)


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip)
# Parameters with a validator function, which Hypothesis cannot inspect.
OURS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from([*params.STUDY, "fisher", "finetuned"]),
    "extra_models": st.lists(st.sampled_from(["fisher", "finetuned"]), unique=True),
    "augment.rotation": pair(-180, 180),
    "augment.zoom": pair(1, 4),
    "augment.shift": pair(0, 0.9),
    "augment.copies": st.lists(st.sampled_from(get_args(params.CopyName)), unique=True),
    "fetch.archive.path": st.none() | _TEXT,
    "fetch.archive.sha256": st.none() | st.from_regex(r"[0-9A-Fa-f]{64}", fullmatch=True),
    "split.train": st.floats(0.1, 1),
    "split.val": st.floats(0.1, 1),
    "split.test": st.floats(0.1, 1),
    "fetch.folder.path": st.none() | _TEXT,
    "fetch.kaggle.dataset": st.from_regex(r"[a-z0-9-]{1,9}/[a-z0-9-]{1,9}", fullmatch=True),
    "finetuned.backbone": _TEXT,
    "finetuned.weights": _TEXT,
    "finetuned.unfreeze": st.floats(0, 1) | st.just("sec"),
}


def made_whole(document: dict[str, Any]) -> dict[str, Any]:
    """The same with a model that is trained, shares that add up, a fold that there is, and patches that fit."""
    if document["model"] not in (*params.STUDY, *document["extra_models"]):
        document["extra_models"] = [*document["extra_models"], document["model"]]
    split, fisher = document["split"], document["fisher"]
    total = split["train"] + split["val"] + split["test"]
    split |= {name: split[name] / total for name in ("train", "val", "test")}
    split["folds"] = 0 if split["folds"] == 1 else split["folds"]
    split["fold"] %= max(split["folds"], 1)
    fisher["cell"] = max(1, min(fisher["cell"], fisher["input_size"] // 4))
    return document


def leaves(document: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in document.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")


COMMITTED = (ROOT / "params.yaml").read_text(encoding="utf-8")
LEAVES = list(leaves(yaml.safe_load(COMMITTED)))

# Any YAML value, also in place of a section.
wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.dates() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def put(document: dict[str, Any], name: str, value: object) -> None:
    *sections, leaf = name.split(".")
    with suppress(KeyError, TypeError):  # an earlier wrong value may stand where the section was
        for key in sections:
            document = document[key]
        document[leaf] = value


def broken(rng: random.Random, text: str) -> str:
    """The same text with a few lines changed as people and bad merges change them."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        line = lines[at]
        lines[at : at + 1] = rng.choice(
            [
                [],
                [line, line],
                ["\t" + line],
                [" " + line],
                [line.lstrip()],
                [line[: rng.randint(0, len(line))]],
                [line[: rng.randint(0, len(line))] + rng.choice("#:&*!|>'%@`{}[],-? \t") + line],
                [line.replace(":", "", 1)],
                [f"{line.split(':')[0]}: {rng.choice(ODD)}"],
                [f"{line.split(':')[0]}: {rng.choice(ODD)}"],
                [f"<<<<<<< HEAD\n{line}"],
                [f"{line} {rng.choice(ODD)}"],
                [rng.choice(ODD)],
            ]
        ) or [""]
    return "\n".join(lines) + rng.choice(["", "\n", "\n...\n", "\n---\n", "\0"])


ODD = [
    "010", "0x10", "0o10", "1:30", "1_000", "+1", "1.", ".5", "1e3", "1E-3", "1e400", ".nan", "-.inf", "yes",
    "off", "Null", "~", "TRUE", "'1'", '"0.5"', "2026-99-99", "2026-01-01 00:00:00 +99:99", "!!int x",
    "!!float '1'", "!!bool 1", "!!str 1", "!!timestamp x", "!!binary x", "!!python/object:os.system x", "!x 1",
    "&a 1", "*a", "&a [*a]", "{<<: *a}", "[1, 2", "{", "[" * 2000, "9" * 5000, "% x", "@", "`", "|", ">-",
    "? a", "- 1", "é", "\ufeff1", "\u2028", "\x7f", "\x1b[31m", "#", " # 1", "<<: {size: 3}", "1, 2", "=", "-",
    "--- 1", "'\\", '"\\ud800"', '"\\x00"', "0b1", "-0", "-0.0", "0.1e", "1.e+5", "00", "٣",
]  # fmt: skip
