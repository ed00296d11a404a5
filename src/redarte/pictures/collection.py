"""Which files of a tree become the paintings of which artist, and which are set aside and why.

Nothing is dropped in silence: every file is either a painting of data/raw or counted under a reason. Only
what operating systems leave behind (names that begin with a dot, __MACOSX, Thumbs.db) is passed over.
"""

import csv
import hashlib
import os
import shutil
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from redarte.pictures import images
from redarte.runtime import workers
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import LostError, Sandbox

_LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_STEM_BYTES = 150  # leaves room for "__horizontal_mirror.jpg" in the 255 bytes of a file name
_NAMED = 200  # files named under one reason; the rest are counted


@dataclass
class Collection:
    """What was found in a tree.

    Attributes:
        pictures: "<artist>/<file>" in data/raw -> the file as it lies now.
        set_aside: reason -> the files, as paths in the tree.
        without_pictures: artists that are left with none.
    """

    pictures: dict[str, Path] = field(default_factory=dict)
    set_aside: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    without_pictures: list[str] = field(default_factory=list)

    def artists(self) -> Counter[str]:
        """Each artist's number of pictures."""
        return Counter(name.partition("/")[0] for name in self.pictures)

    def metrics(self) -> dict[str, object]:
        """The content of metrics/fetch.json below the source's name."""
        counts = self.artists()
        return {
            "artists": len(counts),
            "pictures": len(self.pictures),
            "fewest_of_an_artist": min(counts.values()),
            "most_of_an_artist": max(counts.values()),
            "set_aside": {"files": sum(map(len, self.set_aside.values()))}
            | {reason: len(names) for reason, names in sorted(self.set_aside.items())},
            "set_aside_names": {reason: _summary(reason, names) for reason, names in sorted(self.set_aside.items())},
            "artists_without_pictures": self.without_pictures,
        }


def collect(tree: Path, max_pixels: float) -> Collection:
    """Sorts the files of a tree into paintings by artist and files set aside.

    The tree holds a folder for each artist, at any depth below folders that hold nothing else; folders
    inside an artist's folder belong to the artist. Where it has an artists.csv (the study's layout) the
    names in it are the artists, and pictures in other folders are set aside.

    Args:
        tree: any folder.
        max_pixels: a picture with more is set aside, undecoded.

    Raises:
        UserError: the tree holds fewer than two artists with pictures, or two that differ only in capitals, or is
            already split.
    """
    found = Collection()
    candidates = list(_candidates(tree, found))
    names = _named_artists(tree)
    belonging = _by_folder(candidates) if names is None else _by_name(candidates, names)
    artists = {path: artist for path, (artist, _) in belonging.items() if artist is not None}
    for path, (artist, reason) in belonging.items():
        if artist is None:
            found.set_aside[reason].append(path)
    _admit(tree, artists, max_pixels, found)
    expected = _expected_artists(tree, candidates) if names is None else set(names.values())
    found.without_pictures = sorted(expected - set(found.artists()))
    if len(found.artists()) < 2:
        raise UserError(_too_few(found))
    _check_case(found)
    return found


def place(collection: Collection, folder: Path, move: bool) -> None:
    """Fills data/raw with a collection's pictures, their bytes untouched.

    Args:
        folder: an empty folder.
        move: take the files from where they lie, instead of copying them.
    """
    for artist in collection.artists():
        (folder / artist).mkdir()
    for name, path in collection.pictures.items():
        if move:
            path.rename(folder / name)
        else:
            shutil.copyfile(path, folder / name)


def _candidates(tree: Path, found: Collection) -> Iterator[str]:
    """The files that may be pictures, as sorted paths in the tree; the others are set aside."""
    for folder, folders, files in os.walk(tree):
        for name in sorted([*files, *(f for f in folders if Path(folder, f).is_symlink())]):
            path = Path(folder, name)
            relative = path.relative_to(tree).as_posix()
            if _is_litter(name):
                continue
            if relative != relative.encode("utf-8", "replace").decode():
                found.set_aside["name_not_utf8"].append(relative.encode("utf-8", "backslashreplace").decode())
            elif path.is_symlink():
                found.set_aside["symbolic_link"].append(relative)
            elif not path.is_file():
                found.set_aside["not_a_regular_file"].append(relative)
            elif path.suffix.lower() in images.SUFFIXES:
                yield relative
            elif name != "artists.csv":
                found.set_aside["not_a_picture_file"].append(relative)
        folders[:] = sorted(f for f in folders if not _is_litter(f))


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name in _LITTER


def _named_artists(tree: Path) -> dict[str, str] | None:
    """The artists of artists.csv as {folder name as compared: class}; None where the tree has no such file."""
    lists = sorted(tree.rglob("artists.csv"), key=lambda path: (len(path.parts), path))
    if not lists:
        return None
    try:
        with lists[0].open(encoding="utf-8-sig", newline="") as file:
            names = [row["name"].strip() for row in csv.DictReader(file)]
    except (KeyError, AttributeError, UnicodeDecodeError, csv.Error):
        raise UserError(
            f"{lists[0].name} must be a UTF-8 table with a column `name`; mend it, or take it out of the "
            "source to use its folders as the artists."
        ) from None
    return {_comparable(name): _nfc(name).replace(" ", "_").replace("/", "_") for name in names if name}


def _by_name(candidates: list[str], names: dict[str, str]) -> dict[str, tuple[str | None, str]]:
    """Each candidate's artist by the nearest folder around it that is named after one."""
    return {
        path: (
            next((names[key] for key in map(_comparable, path.split("/")[-2::-1]) if key in names), None),
            "not_in_artists_csv",
        )
        for path in candidates
    }


def _by_folder(candidates: list[str]) -> dict[str, tuple[str | None, str]]:
    """Each candidate's artist by the folder it lies in, below what only wraps the folders of artists."""
    depth = _depth(candidates)
    parts = {path: path.split("/") for path in candidates}
    artists = {_nfc(p[depth]) for p in parts.values() if len(p) > depth + 1}
    if artists and {artist.casefold() for artist in artists} <= _SPLITS:
        raise UserError(
            f"The source is already split ({', '.join(sorted(artists))}); give one folder with a folder for "
            "each artist, and `split` will split it."
        )
    return {path: (_nfc(p[depth]) if len(p) > depth + 1 else None, "outside_any_artist") for path, p in parts.items()}


def _depth(candidates: list[str]) -> int:
    """How many folders only wrap the folders of artists."""
    parents = [path.split("/")[:-1] for path in candidates]
    depth = 0
    while parents and all(len(p) > depth + 1 and p[depth] == parents[0][depth] for p in parents):
        depth += 1
    return depth


def _expected_artists(tree: Path, candidates: list[str]) -> set[str]:
    """The folders that stand where artists' folders do, also those without a picture."""
    depth = _depth(candidates)
    wrapper = tree.joinpath(*candidates[0].split("/")[:depth]) if candidates else tree
    return {_nfc(f.name) for f in wrapper.iterdir() if f.is_dir() and not f.is_symlink() and not _is_litter(f.name)}


def _admit(tree: Path, artists: dict[str, str], max_pixels: float, found: Collection) -> None:
    """Decodes every candidate once, and keeps those that are whole pictures, each once."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    with Sandbox(workers.count(), images.most_memory(max_pixels), images.__name__) as sandbox:
        verdicts = sandbox.map(partial(_inspect, tree, max_pixels), list(artists))
        for path, verdict in zip(artists, progress(verdicts, len(artists), "checking"), strict=True):
            reason, digest = (_lost(verdict), "") if isinstance(verdict, UserError) else verdict
            if reason:
                found.set_aside[reason].append(path)
            else:
                by_digest[digest].append(path)
    taken: set[str] = set()
    for path, *again in by_digest.values():
        if any(artists[other] != artists[path] for other in again):
            # Nobody can say whose it is, and one copy could land in train and the other in test.
            found.set_aside["same_picture_under_two_artists"] += [path, *again]
            continue
        found.set_aside["duplicate"] += again
        found.pictures[f"{artists[path]}/{_file_name(path, artists[path], taken)}"] = tree / path
    found.set_aside = defaultdict(list, {reason: sorted(names) for reason, names in found.set_aside.items() if names})


def _inspect(tree: Path, max_pixels: float, path: str) -> tuple[str | None, str]:
    try:
        reason = images.problem(tree / path, max_pixels)
        # What is set aside may be as large as the disk.
        return reason, "" if reason else hashlib.blake2b((tree / path).read_bytes(), digest_size=16).hexdigest()
    except PermissionError:
        return "unreadable", ""


def _lost(error: UserError) -> str:
    if isinstance(error, LostError):
        return error.reason
    raise error


def _file_name(path: str, artist: str, taken: set[str]) -> str:
    """A file name whose stem no other picture of the artist has, in any case of its letters.

    Stems and not names, because a.jpg and a.png both become a.jpg once resized; images.COPY_MARK is kept for copies.
    """
    file = PurePosixPath(_nfc(path))
    stem = file.stem
    while images.COPY_MARK in stem:
        stem = stem.replace(images.COPY_MARK, "_")
    stem = stem.encode()[:_STEM_BYTES].decode(errors="ignore")
    unique, number = stem, 1
    while f"{artist}/{unique}".casefold() in taken:
        number += 1
        unique = f"{stem}-{number}"
    taken.add(f"{artist}/{unique}".casefold())
    return unique + file.suffix.lower()


def _nfc(name: str) -> str:
    # macOS writes ü as u and a combining diaeresis; the same name must be the same class everywhere.
    return unicodedata.normalize("NFC", name)


def _comparable(name: str) -> str:
    return _nfc(name).replace(" ", "_").casefold()


def _summary(reason: str, names: list[str]) -> list[str]:
    """The files set aside for one reason; by folder where the folder is the reason."""
    if reason in ("not_in_artists_csv", "outside_any_artist"):
        folders = Counter(str(PurePosixPath(name).parent) for name in names)
        return [f"{folder} ({count})" for folder, count in sorted(folders.items())]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return names[:_NAMED] + more


def _check_case(found: Collection) -> None:
    """Refuses artists that a teammate's disk would take for one."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for artist in found.artists():
        spellings[artist.casefold()].append(artist)
    alike = [", ".join(names) for names in spellings.values() if len(names) > 1]
    if alike:
        raise UserError(
            f"The source holds artists whose names differ in nothing but capitals ({'; '.join(alike)}), which are one "
            "folder on some disks; put their pictures into one folder, or rename one of them."
        )


def _too_few(found: Collection) -> str:
    counts = ", ".join(f"{reason}: {len(names)}" for reason, names in found.set_aside.items())
    return (
        f"The source holds pictures of {len(found.artists())} artists, and telling artists apart needs at least "
        f"two; it must hold a folder for each artist with its pictures in it (set aside: {counts or 'nothing'})."
    )
