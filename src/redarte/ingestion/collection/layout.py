"""Assigns each image of a tree to an artist: by the layer of folders that are the artists, or by artists.csv."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from redarte.images.folders import artist_of, comparable, is_system_file, nfc
from redarte.runtime import tables
from redarte.runtime.errors import UserError, listed, printable

# Names of folders that are not artists: splits of a data set, and kinds or sizes of images.
_SPLITS = frozenset({"train", "training", "trainset", "test", "testing", "val", "valid", "validation"})
_AMBIGUOUS = frozenset({"val"})  # may be a part of an artist's name
_KINDS = frozenset({
    "image", "images", "img", "pictures", "photos", "paintings", "artworks", "data", "dataset", "set", "jpg", "png",
    "raw", "original", "resized", "small", "large", "thumbnails", "masks", "labels", "px", "x", "fold", "part",
})  # fmt: skip
_MAX_STRAY = 0.2  # share of the images that may be outside of the artists' folders


@dataclass
class Layout:
    """The artists of the images.

    Attributes:
        root: the folder whose folders are the artists; "" for the whole tree.
        artists: path of an image in the tree -> artist.
        outside: reason -> images that belong to no artist.
        expected: every artist that should have images.
    """

    root: str
    artists: dict[str, str] = field(default_factory=dict)
    outside: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    expected: set[str] = field(default_factory=set)


def by_list(file: Path, paths: Iterable[str]) -> Layout:
    """Assigns each image to the innermost folder around it that is named after an artist of artists.csv."""
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
    """Assigns each image to a folder of the artists' layer; folders inside an artist's folder belong to the artist.

    Args:
        root: the folder whose folders are the artists, or a wrapper of it; None: the layer is detected, and must be
            unambiguous.
    """
    parts = {path: nfc(path).split("/") for path in paths}
    above = _detect_root(list(parts.values()), None if root is None else _parts_of(root, parameter), parameter)
    layout = Layout("/".join(above))
    for path, names in parts.items():
        if names[: len(above)] == above and len(names) > len(above) + 1:
            layout.artists[path] = artist_of(names[len(above)])
        else:
            layout.outside["outside_any_artist"].append(path)
    folder = tree.joinpath(*above)
    if folder.is_dir():
        own = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
        layout.expected = {artist_of(nfc(entry.name)) for entry in own if not is_system_file(entry.name)}
    if root is not None and not layout.artists:
        raise UserError(
            f"{parameter} is {root}, and the source has no folders with images in a folder of this name; it has "
            f"{listed(names[0] for names in parts.values() if len(names) > 1)}."
        )
    if root is None and len(set(layout.artists.values())) > 1 and 2 * len(layout.artists) < len(parts):
        raise UserError(
            f"The source has most of its images ({len(parts) - len(layout.artists)} of {len(parts)}) outside of the "
            f"folders that would be the artists ({listed(sorted(layout.expected))}); give each artist a folder, or set "
            f"{parameter} to the folder whose folders are the artists."
        )
    return layout


def _detect_root(paths: list[list[str]], root: list[str] | None, parameter: str) -> list[str]:
    """The folder whose folders are the artists, as its parts."""
    above = list(root or [])
    while True:
        tops = _top_folders(names[len(above) :] for names in paths if names[: len(above)] == above)
        wrapper = _wrapper(tops)
        if wrapper is None:
            if root is None:
                _check(tops, above, parameter)
            return above
        above.append(wrapper)


def _top_folders(paths: Iterable[list[str]]) -> "dict[str, _Folder]":
    """The folders at the top of some paths, sorted."""
    tops: dict[str, _Folder] = {}
    for name, *rest in paths:
        if not rest:
            continue
        top = tops.setdefault(name, _Folder())
        if len(rest) > 1:
            top.folders[rest[0]] += 1
        else:
            top.direct += 1
    return dict(sorted(tops.items()))


@dataclass
class _Folder:
    """A folder, by the images that are directly in it and in each of its folders."""

    direct: int = 0
    folders: Counter[str] = field(default_factory=Counter)

    @property
    def nested(self) -> int:
        return self.folders.total()

    @property
    def nests(self) -> bool:
        """Whether its images are in its folders, except for a few."""
        return bool(self.folders) and self.direct <= _MAX_STRAY * (self.direct + self.nested)

    @property
    def wraps(self) -> bool:
        """Whether its folders may be artists, and not an artist's own, such as images or 512px."""
        return self.nests and not all(_is_generic(name) and _words(name) <= _KINDS for name in self.folders)


def _wrapper(tops: dict[str, _Folder]) -> str | None:
    """The folder that only wraps the next layer; None where this layer is that of the artists."""
    images = sum(top.direct + top.nested for top in tops.values())
    split = any(_words(name) & _SPLITS for name in tops)
    for name, top in tops.items():
        main = _is_generic(name) and not split and top.nested >= (1 - _MAX_STRAY) * images and len(top.folders) > 1
        if (main or len(tops) == 1) and top.nests:
            return name
    return None


def _check(tops: dict[str, _Folder], above: list[str], parameter: str) -> None:
    """Refuses a layer that is probably not that of the artists."""
    words = [name for name in tops if _is_generic(name)]
    splits = [name for name in tops if _words(name) & _SPLITS - _AMBIGUOUS]
    if len(words) > 1 or len(splits) > 1 or set(words) & set(splits):
        _refuse("is already split, or sorted by kind or size", [*words, *splits], tops, above, parameter)
    wrapping = {name: top for name, top in tops.items() if top.wraps}
    folders = Counter(folder for top in wrapping.values() for folder in top.folders)
    shared = sorted(folder for folder, count in folders.items() if count > 1)
    sharing = [name for name, top in wrapping.items() if set(shared) & set(top.folders)]
    if 2 * len(sharing) >= max(len(tops), 2):
        _refuse(f"has folders that hold the same folders ({listed(shared)})", sharing, tops, above, parameter)
    images = sum(top.direct + top.nested for top in tops.values())
    nested = sum(top.nested for top in wrapping.values())
    if nested >= (1 - _MAX_STRAY / 2) * images and (len(wrapping) > 1 or len(folders) > len(tops)):
        _refuse("has its images in folders of folders", wrapping, tops, above, parameter)


def _refuse(what: str, seen: Iterable[str], tops: dict[str, _Folder], above: list[str], parameter: str) -> None:
    """Raises UserError; the message begins with the folders that are the reason."""
    likeliest = max(tops, key=lambda name: ("train" in name.casefold(), len(tops[name].folders)))
    folder = "/".join(above) or "."
    raise UserError(
        f"The source {what}: {listed('/'.join([*above, name]) for name in [*seen, *tops])}. Its images must be in a "
        f"folder for each artist, and `split` splits them: set {parameter} to the folder whose folders are the artists,"
        f" such as {printable('/'.join([*above, likeliest]))}, or to {folder} if these are the artists."
    )


def _is_generic(name: str) -> bool:
    """Whether a folder is named after a split, a kind or a size of images, such as training_set or 224x224."""
    return bool(words := _words(name)) and words <= _SPLITS | _KINDS


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()))


def _parts_of(root: str, parameter: str) -> list[str]:
    path = PurePosixPath(nfc(root))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{parameter} is {root} and must be a folder in the source, such as images/train, or `.`")
    return list(path.parts)


def _listed(file: Path) -> dict[str, str]:
    """The artists of artists.csv: name in comparable form -> class."""
    try:
        names = [row["name"].strip() for row in tables.read(file)]
    except (KeyError, UserError):
        raise UserError(
            f"{file.name} must be a UTF-8 table with a column `name`; correct it, or remove it from the "
            "source to use the folders as the artists."
        ) from None
    return {comparable(name): artist_of(nfc(name).replace(" ", "_").replace("/", "_")) for name in names if name}
