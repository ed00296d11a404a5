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
    "evaluation", "holdout", "unlabeled", "unlabelled", "entrenamiento", "prueba", "pruebas", "validacion",
    "validación",
})  # fmt: skip
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
        root: the folder whose folders are the artists; None: found, below folders that hold nothing else.
        parameter: what `root` is called in params.yaml.

    Raises:
        UserError: the layer cannot be told, or there is no such root.
    """
    parts = {path: nfc(path).split("/") for path in paths}
    above = _found(list(parts.values()), parameter) if root is None else _parts_of(root, parameter)
    depth = len(above)
    layout = Layout("/".join(above))
    for path, names in parts.items():
        if names[:depth] == above and len(names) > depth + 1:
            layout.artists[path] = names[depth]
        else:
            layout.outside["outside_any_artist"].append(path)
    folder = tree.joinpath(*above)
    if folder.is_dir():
        own = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
        layout.expected = {nfc(entry.name) for entry in own if not is_litter(entry.name)}
    if root is None and len(set(layout.artists.values())) > 1 and 2 * len(layout.artists) < len(parts):
        raise UserError(
            f"The source has most of its pictures ({len(parts) - len(layout.artists)} of {len(parts)}) outside the "
            f"folders that would be the artists ({_some(sorted(layout.expected))}); give each artist a folder, or set "
            f"{parameter} to the folder whose folders are the artists."
        )
    if root is not None and not layout.artists:
        raise UserError(
            f"{parameter} is {root}, and the source has no folders with pictures in a folder of this name; it has "
            f"{_some(names[0] for names in parts.values() if len(names) > 1)}."
        )
    return layout


def _found(paths: list[list[str]], parameter: str) -> list[str]:
    """The folder whose folders are the artists, as its parts."""
    above: list[str] = []
    while True:
        below = [names[len(above) :] for names in paths if names[: len(above)] == above]
        tops = {name: _Top() for name in sorted({names[0] for names in below if len(names) > 1})}
        for name, *rest in below:
            if len(rest) > 1:
                tops[name].folders[rest[0]] += 1
            elif rest:
                tops[name].direct += 1
        wrapper = _wrapper(tops)
        if wrapper is None:
            _check(tops, above, parameter)
            return above
        above.append(wrapper)


@dataclass
class _Top:
    """A folder, by the pictures that lie in it and in each of its folders."""

    direct: int = 0
    folders: Counter[str] = field(default_factory=Counter)

    @property
    def nested(self) -> int:
        return self.folders.total()

    @property
    def wraps(self) -> bool:
        """Whether its folders hold the pictures, but for some that lie beside them."""
        return self.direct <= _STRAYS * (self.direct + self.nested)


def _wrapper(tops: dict[str, _Top]) -> str | None:
    """The folder that only holds the next layer; None where this layer is that of the artists."""
    pictures = sum(top.direct + top.nested for top in tops.values())
    split = any(_is_word(name) and _words(name) & _SPLITS for name in tops)
    for name, top in tops.items():
        main = _is_word(name) and not split and top.nested >= (1 - _STRAYS) * pictures and len(top.folders) > 1
        if (main or len(tops) == 1) and top.wraps and top.folders:
            return name
    return None


def _check(tops: dict[str, _Top], above: list[str], parameter: str) -> None:
    """Refuses a layer that is probably not that of the artists."""
    words = [name for name in tops if _is_word(name)]
    told = [name for name in words if _words(name) & (_SPLITS - {"val", "dev"})]
    wrapping = [name for name, top in tops.items() if top.folders and top.wraps]
    shared = {
        folder for folder, count in Counter(f for name in wrapping for f in tops[name].folders).items() if count > 1
    }
    sharing = [name for name in wrapping if shared & set(tops[name].folders)]
    common = _without_what_is_common(tops)
    if told or len(words) > 1:
        _refuse("is already split, or sorted by kind or size", words if len(words) > 1 else tops, above, parameter)
    if len(tops) > 1 and all(map(_is_word, common)):
        _refuse("is already split, or sorted by kind or size", tops, above, parameter)
    if 2 * len(sharing) >= max(len(tops), 2):
        _refuse(f"has folders that hold the same folders ({_some(sorted(shared))})", sharing, above, parameter)
    pictures = sum(top.direct + top.nested for top in tops.values())
    for name in wrapping:
        if len(tops[name].folders) > len(tops) and tops[name].nested >= (1 - _STRAYS / 2) * pictures:
            _refuse(f"has most of its pictures in the folders of {printable(name)}", tops, above, parameter)


def _refuse(what: str, seen: Iterable[str], above: list[str], parameter: str) -> None:
    names = ["/".join([*above, name]) for name in seen]
    example = next((name for name in names if "train" in name.casefold()), names[-1])
    raise UserError(
        f"The source {what}: {_some(names)}. Its pictures must lie in a folder for each artist, and `split` splits "
        f"them: set {parameter} to the folder whose folders are the artists, such as {printable(example)}, or to "
        f"{'/'.join(above) or '.'} if these are the artists."
    )


def _is_word(name: str) -> bool:
    """Whether a folder is named for a split, a kind or a size of pictures, such as training_set or 224x224."""
    return bool(words := _words(name)) and words <= _SPLITS | _KINDS


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()))


def _without_what_is_common(names: Iterable[str]) -> list[str]:
    """The names without the words that all of them have: what tells art_train from art_test."""
    words = [_words(name) for name in names]
    common = set.intersection(*words) if words else set()
    return [" ".join(own - common) for own in words]


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
    return {comparable(name): nfc(name).replace(" ", "_").replace("/", "_") for name in names if name}


def _some(names: Iterable[str]) -> str:
    each = list(dict.fromkeys(map(printable, names)))
    return ", ".join(each[:_NAMED]) + (f" and {len(each) - _NAMED} more" if len(each) > _NAMED else "") or "none"


def nfc(name: str) -> str:
    # macOS writes ü as u and a combining diaeresis; the same name must be the same class everywhere.
    return unicodedata.normalize("NFC", name)


def comparable(name: str) -> str:
    """A name without what people and systems write differently: spaces, underscores, capitals, Unicode forms."""
    return re.sub(r"[\s_]+", "_", unicodedata.normalize("NFKC", name).casefold()).strip("_")
