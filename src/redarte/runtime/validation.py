"""Checks of values, and what pydantic finds wrong with a document as sentences: the key, what is wrong, what to do."""

import difflib
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from redarte.runtime.errors import UserError, printable

_MOST = 20  # sentences at once
_IGNORED_BY_DVC = frozenset({"size", "nfiles"})
_UNKNOWN = ("extra_forbidden", "invalid_key")  # what pydantic calls a key that is no parameter

# A few kilobytes of YAML can name gigabytes: what is told of a value is cut to a line.
_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxstring, _brief.maxother = 2, 80, 80
brief = _brief.repr


def ascending(pair: list[float]) -> list[float]:
    """Raises ValueError where two numbers are not in order."""
    if len(pair) != 2 or pair[0] > pair[1]:
        raise ValueError("must be two numbers, the smaller first")
    return pair


def on_a_line(text: str) -> str:
    """Raises ValueError where a text has another line, or nothing."""
    if not text.strip() or re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must be a text on one line, and not empty")
    return text


def encoding(name: str) -> str:
    """Raises ValueError where Python knows no encoding of text by this name."""
    try:
        b"".decode(name)
    except LookupError:
        raise ValueError("must be the name of an encoding that Python knows, such as cp932 or latin-1") from None
    return name


def share_or_name(value: object) -> float | str:
    """Raises ValueError where a value is neither a share from 0 to 1 nor a name."""
    if isinstance(value, str) and not re.match(r"[-+.0-9]", value):
        return on_a_line(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("must be a share from 0 to 1, or the name of a layer")
    return float(value)


def seen_by_dvc(section: Any) -> Any:
    """Raises ValueError where a section has a key, at any depth, that DVC leaves out of its run cache's key."""
    for key in keys(section):
        if key in _IGNORED_BY_DVC:
            raise ValueError(
                f"no key may be named {key}: DVC ignores keys of this name in its run cache (treeverse/dvc#10296) and "
                "would give the results of another value; rename it"
            )
    return section


def outside_of_outputs(path: str) -> str:
    """Raises ValueError where a path is in a folder that DVC deletes before a stage writes it."""
    place = Path(path).expanduser().resolve()
    for name in ("raw", "split", "augmented", "resized"):
        output = Path("data", name).resolve()
        if place == output or output in place.parents:
            raise ValueError(f"must not be in data/{name}, which DVC deletes before it runs: move the images elsewhere")
    return path


def keys(value: object) -> Iterator[object]:
    """The keys of a document, at any depth."""
    waiting, seen = [value], set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:  # an alias of YAML
            continue
        seen.add(id(found))
        if isinstance(found, dict):
            yield from found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def check_merged(path: Path, text: str) -> None:
    """Raises UserError where git left the marks of a merge conflict in a file."""
    marked = next((number for number, line in enumerate(text.splitlines(), 1) if line.startswith("<<<<<<< ")), None)
    if marked is None:
        return
    if path.name == "dvc.lock":
        advice = (
            "take either version (git checkout --ours dvc.lock), run `dvc repro`, and type: git add dvc.lock metrics"
        )
    else:
        advice = (
            "keep one of the two versions, delete the lines that begin with <<<<<<<, ======= and >>>>>>>, and type: "
            f"git add {path}"
        )
    raise UserError(f"merge conflict in {path}, from line {marked} on: {advice}")


def told(path: Path, model: type[BaseModel], problems: Sequence[Any], renamed: Mapping[str, str]) -> str:
    """The problems of a document, a sentence a line.

    Args:
        path: of the document.
        model: what it should have been.
        problems: as `ValidationError.errors` gives them.
        renamed: old name -> new name, of keys that were renamed.
    """
    # The new name of a key that is there under its old one is not missing.
    new_names = {renamed.get(_name(problem)) for problem in problems}
    kept = [problem for problem in problems if _name(problem) not in new_names]
    # A key with a typing mistake is also a key that is missing: say the mistake first.
    kept.sort(key=lambda problem: problem["type"] not in _UNKNOWN)
    sentences = [_sentence(path, model, problem, renamed) for problem in kept[:_MOST]]
    more = len(kept) - len(sentences)
    return "\n".join(sentences + ([f"{path}: and {more} more of the kind."] if more else []))


def _name(problem: Any) -> str:
    return ".".join(map(str, problem["loc"]))


def _sentence(path: Path, model: type[BaseModel], problem: Any, renamed: Mapping[str, str]) -> str:
    keys = [printable(key) for key in problem["loc"]]
    name = ".".join(keys) or "the document"
    if name in renamed:
        return f"{path}: {name} is now called {renamed[name]}."
    if problem["type"] in _UNKNOWN:
        return f"{path}: there is no parameter {name}{_did_you_mean(model, keys)}."
    if problem["type"] == "missing":
        return f"{path}: {name} is missing; add it (the committed params.yaml shows every parameter)."
    if problem["type"] == "model_type":
        return f"{path}: {name} is {brief(problem['input'])} and must be a section, with parameters in it."
    wish = re.sub(r"^(Value error, |Input |String )", "", problem["msg"]).replace("should", "must", 1)
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        return f"{path}: {name}: {wish}." if keys else f"{path}: {wish}."
    return f"{path}: {name} is {brief(problem['input'])} and {wish}."


def _did_you_mean(model: type[BaseModel], keys: list[str]) -> str:
    section: Any = model
    for key in keys[:-1]:
        section = section.model_fields[key].annotation
    near = difflib.get_close_matches(keys[-1], section.model_fields, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join([*keys[:-1], near[0]])}"
    return f"; here you can set {', '.join(section.model_fields)}"
