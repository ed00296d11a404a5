"""What made an output: each stage records its parameters and the md5 of its dependencies in data/inputs/<stage>.json.

An entry of dvc.lock has no checksum. git merges two versions of it line by line, so that it may have the parameters of
one run and the outputs of another, and DVC calls it up to date. The md5 of the record is in the entry too: it can be
computed from the parameters and dependencies of the entry, without any file.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redarte.runtime import documents, outputs, paths

_COMMAND = "sh src/stage "  # before a stage and its arguments in dvc.yaml
_IGNORED = "__pycache__"  # by .dvcignore


def write() -> None:
    """Writes the record of the stage that runs in this process; nothing outside of a DVC project."""
    name = [Path(sys.argv[0]).stem, *sys.argv[1:]]
    if not Path("dvc.yaml").is_file():
        return
    values = documents.read_yaml(Path("params.yaml"))
    entry = next((found for found in _entries(values) if found["cmd"] == _COMMAND + " ".join(name)), None)
    if entry is None:  # an extra model that params.yaml does not name
        return
    lock = documents.read_yaml(Path("dvc.lock")) if Path("dvc.lock").is_file() else {"stages": {}}
    produced = {out["path"]: out["md5"] for other in lock["stages"].values() for out in other.get("outs", ())}
    dependencies = {path: produced.get(path) or _md5(Path(path)) for path in entry["deps"]}
    parameters = {name: _leaf(values, name) for name in entry.get("params", ())}
    outputs.write_text(paths.RECORDS / f"{'_'.join(name)}.json", _text(dependencies, parameters))


def code_digest(*packages: str) -> str:
    """Returns a hash of the code of packages in this checkout, which the stages run, for caches outside of DVC."""
    here = Path("src/redarte")
    root = here if here.is_dir() else Path(__file__).parents[1]
    return hashlib.blake2b("".join(str(_md5(root / name)) for name in packages or [""]).encode()).hexdigest()


def is_mixed(entry: dict[str, Any]) -> bool:
    """Returns whether an entry of dvc.lock, or of DVC's run cache, has the outputs of another run."""
    recorded = [out["md5"] for out in entry.get("outs", ()) if Path(out["path"]).parent == paths.RECORDS]
    dependencies = {dependency["path"]: dependency["md5"] for dependency in entry.get("deps", ())}
    text = _text(dependencies, entry.get("params", {}).get("params.yaml", {}))
    return bool(recorded) and recorded != [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()]


def _text(dependencies: dict[str, Any], parameters: dict[str, Any]) -> str:
    return json.dumps({"dependencies": dependencies, "parameters": parameters}, indent=1, sort_keys=True) + "\n"


def _entries(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The stages of dvc.yaml as DVC resolves them."""
    for stage in documents.read_yaml(Path("dvc.yaml"))["stages"].values():
        items = _resolved(stage.get("foreach", [None]), values)
        for item in items:
            yield _resolved(stage.get("do", stage), {**values, "item": item})


def _resolved(value: Any, values: dict[str, Any]) -> Any:
    """A value of dvc.yaml with ${key} replaced."""
    if isinstance(value, dict):
        return {key: _resolved(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    if whole := re.fullmatch(r"\$\{([^}]+)\}", value):
        return _leaf(values, whole[1])
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(_leaf(values, found[1])), value)


def _leaf(values: dict[str, Any], name: str) -> Any:
    for key in name.split("."):
        values = values[key]
    return values


def _md5(path: Path) -> str | None:
    """The md5 by which DVC knows a file or a folder of files; None where there is no such file."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    files = [file for file in path.rglob("*") if file.is_file() and _IGNORED not in file.parts]
    if not files:
        return None
    listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    text = json.dumps(sorted(listed, key=lambda entry: str(entry["relpath"])), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"
