"""Validators for parameters, and pydantic's errors as sentences: the key, what is wrong, what to do."""

import difflib
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from redarte.runtime.errors import masked, printable

_MAX_SENTENCES = 20
# Old parameter -> new parameter.
_RENAMED = {
    "beyond": "extra_models",
    "evaluate.coverage": "export.coverage",
    "fetch.apply_corrections": "split.apply_corrections",
    "fetch.sample.pictures": "fetch.sample.images",
    "finetuned.filters": "finetuned.principal_components",
    "finetuned.head.cost": "finetuned.head.C",
    "finetuned.online": "finetuned.random_crop_flip",
    "finetuned.tail": "finetuned.fine_tune",
    "fisher.cost": "fisher.C",
    "fisher.filters": "fisher.principal_components",
    "fisher.kinds": "fisher.mixture_components",
    "resize.size": "resize.side",
    "train.online": "train.random_crop_flip",
}
_REMOVED = {"train.resume": "an interrupted training always resumes; delete models/.checkpoints to start again"}
_UNKNOWN = ("extra_forbidden", "invalid_key")  # pydantic's error types for a key that is no parameter

# A few kilobytes of YAML can define gigabytes: a value is shortened to one line.
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 80, 80


def short_repr(value: object) -> str:
    """Returns a value on one line, shortened, and without the secrets of an address."""
    return _short.repr(masked(value) if isinstance(value, str) else value)


def ascending(pair: list[float]) -> list[float]:
    """Returns a pair of numbers, the smaller first.

    Raises:
        ValueError: there are not two numbers, or they are not in order.
    """
    if len(pair) != 2 or pair[0] > pair[1]:
        raise ValueError("must be two numbers, the smaller first")
    return pair


def single_line(text: str) -> str:
    """Returns a text that is one non-empty line.

    Raises:
        ValueError: the text is empty or has control characters.
    """
    if not text.strip() or re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must be a text on one line, and not empty")
    return text


def without_secrets(path: str) -> str:
    """Returns a path, or an http(s) address without user name, password and query.

    Raises:
        ValueError: the address has what git, dvc.lock and `dvc params diff` would show to others.
    """
    found = re.match(r"(?i)https?://(?P<host>[^/?#]*)[^?#]*(\?(?P<query>[^#]*))?", path)
    if found and "@" in found["host"]:
        raise ValueError(
            "must have no user name or password, because git and dvc.lock would store them: write the line "
            "`machine <host> login <name> password <password>` into ~/.netrc"
        )
    # Such as ?download=1, which is no secret.
    if found and not re.fullmatch(r"((download|dl|raw)(=(0|1|true|false)?)?&?)*", found["query"] or ""):
        raise ValueError(
            "must have no query (?…), because git and dvc.lock would store a token in it: set the environment "
            "variable REDARTE_ARCHIVE_QUERY to it"
        )
    return path


def encoding(name: str) -> str:
    """Returns the name of a text encoding that Python knows.

    Raises:
        ValueError: Python does not know it.
    """
    try:
        b"".decode(name)
    except LookupError:
        raise ValueError("must be the name of an encoding that Python knows, such as cp932 or latin-1") from None
    return name


def fraction_or_name(value: object) -> float | str:
    """Returns a number from 0 to 1, or a name.

    Raises:
        ValueError: the value is neither.
    """
    if isinstance(value, str) and not re.match(r"[-+.0-9]", value):
        return single_line(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("must be a number from 0 to 1, or the name of a layer")
    return float(value)


def outside_outputs(path: str) -> str:
    """Returns a path that is not in a folder which DVC deletes before a stage writes it.

    Raises:
        ValueError: the path is in an output.
    """
    location = Path(path).expanduser().resolve()
    for name in ("raw", "split", "augmented", "resized"):
        output = Path("data", name).resolve()
        if location == output or output in location.parents:
            raise ValueError(f"must not be in data/{name}, which DVC deletes before it runs: move the images elsewhere")
    return path


def format_errors(path: Path, model: type[BaseModel], errors: Sequence[Any]) -> str:
    """Returns the errors of a document, one sentence a line."""
    # A renamed key is not missing under its new name, and a mistyped key is reported before the missing one.
    new_names = {_RENAMED.get(_name(error)) for error in errors}
    kept = [error for error in errors if _name(error) not in new_names]
    kept.sort(key=lambda error: error["type"] not in _UNKNOWN)
    sentences = [f"{path}: {_sentence(model, error)}." for error in kept[:_MAX_SENTENCES]]
    more = len(kept) - len(sentences)
    return "\n".join(sentences + ([f"{path}: and {more} more errors."] if more else []))


def _name(error: Any) -> str:
    return ".".join(map(str, error["loc"]))


def _sentence(model: type[BaseModel], error: Any) -> str:
    parts = [printable(key) for key in error["loc"]]
    name = ".".join(parts) or "the document"
    if name in _RENAMED:
        return f"{name} is now called {_RENAMED[name]}"
    if name in _REMOVED:
        return f"{name} does not exist any more: {_REMOVED[name]}"
    if error["type"] in _UNKNOWN:
        return f"there is no parameter {name}{_suggestion(model, parts)}"
    if error["type"] == "missing":
        return f"{name} is missing; add it (the committed params.yaml has every parameter)"
    if error["type"] == "model_type":
        return f"{name} is {short_repr(error['input'])} and must be a section, with parameters in it"
    rule = re.sub(r"^(Value error, |Input |String )", "", error["msg"]).replace("should", "must", 1)
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        return f"{name}: {rule}" if parts else rule
    return f"{name} is {short_repr(error['input'])} and {rule}"


def _suggestion(model: type[BaseModel], parts: list[str]) -> str:
    section: Any = model
    for key in parts[:-1]:
        section = section.model_fields[key].annotation
    near = difflib.get_close_matches(parts[-1], section.model_fields, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join([*parts[:-1], near[0]])}"
    return f"; the parameters here are {', '.join(section.model_fields)}"
