"""Finds a user's own files inside the outputs of the pipeline: DVC would delete them before the stage starts."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from redarte.history import repository
from redarte.images import folders
from redarte.params import Params
from redarte.runtime import outputs, paths, tables
from redarte.runtime.console import warn
from redarte.runtime.errors import UserError, listed

_MAX_NAMES = 3  # files in a message

# md5 of a file, by DVC's database of files that have not changed.
Hash = Callable[[Path], str]


def check(settings: Params) -> None:
    """Checks that the outputs of the stages have only files that DVC's cache has too, or that a stage wrote.

    Where the cache does not have an output, as after a killed run, data/raw is compared with the digest in
    metrics/fetch.json, data/split with data/raw, and the others with the names that data/images.csv implies.
    """
    with repository.opened("the outputs cannot be checked") as repo:
        from dvc.fs import LocalFileSystem
        from dvc_data.hashfile.hash import hash_file

        def md5(path: Path) -> str:
            return str(hash_file(str(path.absolute()), LocalFileSystem(), "md5", state=repo.state)[1].value)

        cache = Path(repo.cache.local.path)
        recorded = {
            Path(out.def_path): out.hash_info.value or "" if out.hash_info else ""
            for out in repo.index.outs
            if out.use_cache and Path(out.def_path).exists()
        }
        for output, digest in sorted(recorded.items()):
            record = _record(cache / digest[:2] / digest[2:]) if digest.endswith(".dir") else {}
            if output.is_dir():
                unknown = [name for name, path in _files(output) if not _is_kept(path, record.get(name), md5, cache)]
                written = _written(output, settings, md5) if unknown else set()
                own = [name for name in unknown if name not in written]
                if own:
                    raise UserError(_message(output, own, record))
            elif digest and not _is_kept(output, digest, md5, cache) and _is_recorded(cache, digest):
                warn(f"{output} was edited in place, and the next run may overwrite it: move it away to keep it.")


def _message(output: Path, unknown: list[str], record: dict[str, str]) -> str:
    names = listed(sorted(unknown), _MAX_NAMES)
    edited = [name for name in unknown if name in record]
    what = f"{len(unknown)} files that DVC does not know ({names}{', edited in place' if edited == unknown else ''})"
    return (
        f"{output} has {what}, and the next run would delete them: move them to a folder outside of data/, and set "
        f"fetch.source to folder and fetch.folder.path to that folder; or delete {output} if you do not need them."
    )


def _is_kept(path: Path, expected: str | None, md5: Hash, cache: Path) -> bool:
    """Whether a file is as DVC recorded it, or DVC's cache has its content, of another commit for instance."""
    found = md5(path)
    return found == expected or _is_recorded(cache, found)


def _is_recorded(cache: Path, digest: str) -> bool:
    return (cache / digest[:2] / digest[2:]).is_file()


def _record(file: Path) -> dict[str, str]:
    """The files of a folder and their md5, as DVC's cache records them; empty where there is no such record."""
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return {}


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a folder, without those of operating systems."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not folders.is_of_a_system(path.relative_to(folder)):
                yield path.relative_to(folder).as_posix(), path


def _written(output: Path, settings: Params, md5: Hash) -> set[str]:
    """The files of a folder that a stage has written, although DVC has not recorded them."""
    found = dict(_files(output))
    try:
        if output == paths.RAW:
            if folders.digest(paths.RAW) == outputs.read_json(Path("metrics/fetch.json"))["digest"]:
                return set(found)
            listed = {row["source"] for row in tables.read(paths.IMAGES)}
            written = {name for name in found if folders.image_id(name) in listed}
            return set() if len(written) == len(found) else written  # else one of them was edited
        if output.parent == paths.SPLIT:
            contents = {md5(path) for _, path in _files(paths.RAW)}
            return {name for name, path in found.items() if md5(path) in contents}
        rows = [row for row in tables.read(paths.IMAGES) if row["split"]]
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return set()
    if output.name == "augmented":
        train = [row["image"] for row in rows if row["split"] == "train"]
        return {f"{folders.copy_stem(name, copy)}.jpg" for name in train for copy in settings.augment.copies}
    return {f"{row['split']}/{row['image'].partition('/')[0]}.tar" for row in rows if row["split"] != "test"}
