"""YAML files of a user: reading, and mistakes that YAML allows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redarte.runtime.errors import UserError, printable

_MAX_DEPTH = 100  # sections and lists inside each other
_IGNORED_BY_DVC = frozenset({"size", "nfiles"})


def read_yaml(path: Path) -> dict[Any, Any]:
    """Reads a YAML 1.2 file with sections, as DVC reads params.yaml."""
    # Imported where it is needed, because it takes a tenth of a second.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
        check_merged(path, text)
        _check_depth(YAML(typ="safe").parse(text))
        document = YAML(typ="safe").load(text)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist here: run this from the top folder of the project.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deep: it has sections, and parameters in them.") from None
    except (YAMLError, ValueError, KeyError, AttributeError) as error:
        # Where a value does not match its explicit tag (!!int), the parser raises Python's own exceptions.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", in line {mark.line + 1}"
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{path} is not valid YAML{where}: {printable(problem).rstrip('.')}.") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} must have sections such as fetch: and train:, and has none.")
    return document


def _check_depth(events: Iterator[Any]) -> None:
    """Raises RecursionError where the C parser of ruamel.yaml would exhaust the stack, which ends the process."""
    depth = 0
    for event in events:
        depth += {"MappingStart": 1, "SequenceStart": 1, "MappingEnd": -1, "SequenceEnd": -1}.get(
            type(event).__name__.removesuffix("Event"), 0
        )
        if depth > _MAX_DEPTH:
            raise RecursionError


def check_seen_by_dvc(path: Path, document: object) -> None:
    """Checks that DVC's run cache distinguishes the values of all keys (treeverse/dvc#10296)."""
    for key in keys(document):
        if key in _IGNORED_BY_DVC:
            raise UserError(
                f"{path}: no key may be named {key}: DVC ignores keys of this name in its run cache "
                "(treeverse/dvc#10296) and would restore the results of another value; rename the key."
            )


def check_merged(path: Path, text: str) -> None:
    """Checks that a file has no markers of a merge conflict."""
    line = next((number for number, line in enumerate(text.splitlines(), 1) if line.startswith("<<<<<<< ")), None)
    if line is None:
        return
    if path.name == "dvc.lock":
        advice = "type: git checkout --ours dvc.lock metrics && dvc repro && git add dvc.lock metrics"
    else:
        what = {"params.yaml": "edit to the values that you want", "corrections.csv": "keep the rows of both versions"}
        advice = (
            f"{what.get(path.name, 'keep one of the two versions')}, delete the lines that begin with <<<<<<<, ======= "
            f"and >>>>>>>, and type: git add {path}"
        )
    raise UserError(f"merge conflict in {path}, from line {line} on: {advice}")


def keys(document: object) -> Iterator[object]:
    """Yields the keys of a document, at any depth."""
    waiting, seen = [document], set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, dict):
            yield from found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
