"""Whose each picture of a tree is: by the folder that it lies in, and which layer of folders is that of the artists."""

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from redarte.pictures.collection.files import is_litter
from redarte.runtime.errors import UserError, printable

# What folders of a split are called, in English and in Spanish, and folders of one kind or size of pictures.
_SPLITS = frozenset({
    "train", "training", "trainset", "test", "testing", "testset", "val", "valid", "validation", "dev", "eval",
    "evaluation", "holdout", "unlabeled", "unlabelled", "pred", "extra", "entrenamiento", "prueba", "pruebas",
    "validacion", "validación",
})  # fmt: skip
_NAMES = frozenset({"val", "dev", "valid", "extra"})  # which may be a part of an artist's name
_KINDS = frozenset({
    "image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos", "painting",
    "paintings", "artwork", "artworks", "data", "dataset", "set", "sets", "file", "files", "jpg", "jpeg", "png",
    "raw", "original", "originals", "resized", "small", "medium", "large", "big", "full", "thumb", "thumbs",
    "thumbnail", "thumbnails", "preview", "previews", "mask", "masks", "label", "labels", "annotations", "hires",
    "lores", "hq", "lq", "px", "x", "fold", "part", "batch", "chunk", "shard", "split", "subset",
})  # fmt: skip
_STRAYS = 0.2  # of all pictures, at most: so many may lie beside the folders of artists
_NAMED = 6  # folders in a sentence


@dataclass
class Layout:
    """Whose the pictures are.

    Attributes:
        root: the folder whose folders are the artists; empty for the whole tree.
        artists: path of a picture in the tree -> the artist.
        outside: reason -> the pictures that are no artist's.
        expected: every artist that there should be pictures of.
    """

    root: str
    artists: dict[str, str] = field(default_factory=dict)
    outside: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    expected: set[str] = field(default_factory=set)


def by_list(file: Path, paths: Iterable[str]) -> Layout:
    """The nearest folder around a picture that is named after an artist of artists.csv says whose it is.

    Args:
        file: artists.csv.
        paths: the pictures, as paths in the tree.

    Raises:
        UserError: it is no table with a column `name`.
    """
    names = _listed(file)
    layout = Layout("", expected=set(names.values()))
    for path in paths:
        keys = map(comparable, path.split("/")[-2::-1])
        artist = next((names[key] for key in keys if key in names), None)
        if artist is None:
            layout.outside["not_in_artists_csv"].append(path)
        else:
            layout.artists[path] = artist
    return layout


def by_folder(tree: Path, paths: Iterable[str], root: str | None, parameter: str) -> Layout:
    """The folders of one layer are the artists, and folders in them belong to them.

    Args:
        tree: the folder of all.
        paths: the pictures, as paths in the tree.
        root: where to look: the folder whose folders are the artists, or that only wraps it; None: in all of the tree,
            and only where it is plain that they are artists.
        parameter: what `root` is called in params.yaml.

    Raises:
        UserError: the layer cannot be told, or there is no such root.
    """
    parts = {path: nfc(path).split("/") for path in paths}
    above = _found(list(parts.values()), None if root is None else _parts_of(root, parameter), parameter)
    layout = Layout("/".join(above))
    for path, names in parts.items():
        if names[: len(above)] == above and len(names) > len(above) + 1:
            layout.artists[path] = artist_of(names[len(above)])
        else:
            layout.outside["outside_any_artist"].append(path)
    folder = tree.joinpath(*above)
    if folder.is_dir():
        own = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
        layout.expected = {artist_of(nfc(entry.name)) for entry in own if not is_litter(entry.name)}
    if root is not None and not layout.artists:
        raise UserError(
            f"{parameter} is {root}, and the source has no folders with pictures in a folder of this name; it has "
            f"{_some(names[0] for names in parts.values() if len(names) > 1)}."
        )
    if root is None and len(set(layout.artists.values())) > 1 and 2 * len(layout.artists) < len(parts):
        raise UserError(
            f"The source has most of its pictures ({len(parts) - len(layout.artists)} of {len(parts)}) outside the "
            f"folders that would be the artists ({_some(sorted(layout.expected))}); give each artist a folder, or set "
            f"{parameter} to the folder whose folders are the artists."
        )
    return layout


def _found(paths: list[list[str]], root: list[str] | None, parameter: str) -> list[str]:
    """The folder whose folders are the artists, as its parts."""
    above = list(root or [])
    while True:
        tops = _tops(names[len(above) :] for names in paths if names[: len(above)] == above)
        wrapper = _wrapper(tops)
        if wrapper is None:
            if root is None:
                _check(tops, above, parameter)
            return above
        above.append(wrapper)


def _tops(paths: Iterable[list[str]]) -> "dict[str, _Top]":
    """The folders at the top of some paths, sorted."""
    tops: dict[str, _Top] = {}
    for name, *rest in paths:
        if not rest:
            continue
        top = tops.setdefault(name, _Top())
        if len(rest) > 1:
            top.folders[rest[0]] += 1
        else:
            top.direct += 1
    return dict(sorted(tops.items()))


@dataclass
class _Top:
    """A folder, by the pictures that lie in it and in each of its folders."""

    direct: int = 0
    folders: Counter[str] = field(default_factory=Counter)

    @property
    def nested(self) -> int:
        return self.folders.total()

    @property
    def nests(self) -> bool:
        """Whether its folders hold its pictures, but for some beside them."""
        return bool(self.folders) and self.direct <= _STRAYS * (self.direct + self.nested)

    @property
    def wraps(self) -> bool:
        """Whether those may be folders of artists: no artist's own, such as images or 512px."""
        return self.nests and not all(_is_word(name) and _words(name) <= _KINDS for name in self.folders)


def _wrapper(tops: dict[str, _Top]) -> str | None:
    """The folder that only holds the next layer; None where this layer is that of the artists."""
    pictures = sum(top.direct + top.nested for top in tops.values())
    split = any(_words(name) & _SPLITS for name in tops)
    for name, top in tops.items():
        main = _is_word(name) and not split and top.nested >= (1 - _STRAYS) * pictures and len(top.folders) > 1
        if (main or len(tops) == 1) and top.nests:
            return name
    return None


def _check(tops: dict[str, _Top], above: list[str], parameter: str) -> None:
    """Refuses a layer that is probably not that of the artists."""
    words = [name for name in tops if _is_word(name)]
    splits = [name for name in tops if _words(name) & _SPLITS - _NAMES]
    if len(words) > 1 or len(splits) > 1 or set(words) & set(splits):
        _refuse("is already split, or sorted by kind or size", [*words, *splits], tops, above, parameter)
    wrapping = {name: top for name, top in tops.items() if top.wraps}
    folders = Counter(folder for top in wrapping.values() for folder in top.folders)
    shared = sorted(folder for folder, count in folders.items() if count > 1)
    sharing = [name for name, top in wrapping.items() if set(shared) & set(top.folders)]
    if 2 * len(sharing) >= max(len(tops), 2):
        _refuse(f"has folders that hold the same folders ({_some(shared)})", sharing, tops, above, parameter)
    pictures = sum(top.direct + top.nested for top in tops.values())
    nested = sum(top.nested for top in wrapping.values())
    if nested >= (1 - _STRAYS / 2) * pictures and (len(wrapping) > 1 or len(folders) > len(tops)):
        _refuse("has its pictures in folders of folders", wrapping, tops, above, parameter)


def _refuse(what: str, seen: Iterable[str], tops: dict[str, _Top], above: list[str], parameter: str) -> None:
    """Says what was seen, first the folders that it is about."""
    likeliest = max(tops, key=lambda name: ("train" in name.casefold(), len(tops[name].folders)))
    folder = "/".join(above) or "."
    raise UserError(
        f"The source {what}: {_some('/'.join([*above, name]) for name in [*seen, *tops])}. Its pictures must lie in a "
        f"folder for each artist, and `split` splits them: set {parameter} to the folder whose folders are the artists,"
        f" such as {printable('/'.join([*above, likeliest]))}, or to {folder} if these are the artists."
    )


def _is_word(name: str) -> bool:
    """Whether a folder is named for a split, a kind or a size of pictures, such as training_set or 224x224."""
    return bool(words := _words(name)) and words <= _SPLITS | _KINDS


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()))


def _parts_of(root: str, parameter: str) -> list[str]:
    path = PurePosixPath(nfc(root))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{parameter} is {root} and must be a folder in the source, such as pictures/train, or `.`")
    return list(path.parts)


def _listed(file: Path) -> dict[str, str]:
    """The artists of artists.csv as {folder name as compared: class}."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            names = [row["name"].strip() for row in csv.DictReader(opened)]
    except (KeyError, AttributeError, UnicodeDecodeError, csv.Error):
        raise UserError(
            f"{file.name} must be a UTF-8 table with a column `name`; mend it, or take it out of the "
            "source to use its folders as the artists."
        ) from None
    return {comparable(name): artist_of(nfc(name).replace(" ", "_").replace("/", "_")) for name in names if name}


def _some(names: Iterable[str]) -> str:
    each = list(dict.fromkeys(map(printable, names)))
    return ", ".join(each[:_NAMED]) + (f" and {len(each) - _NAMED} more" if len(each) > _NAMED else "") or "none"


def artist_of(folder: str) -> str:
    """The artist of a folder's name. A cell that begins with one of these signs would be a formula in a spreadsheet."""
    return f"_{folder}" if folder.startswith(("=", "+", "-", "@")) else folder


def nfc(name: str) -> str:
    # macOS writes ü as u and a combining diaeresis; the same name must be the same class everywhere.
    return unicodedata.normalize("NFC", name)


def comparable(name: str) -> str:
    """A name without what people and systems write differently: spaces, underscores, capitals, Unicode forms."""
    return re.sub(r"[\s_]+", "_", unicodedata.normalize("NFKC", name).casefold()).strip("_")
