"""Which files of a tree become the paintings of which artist, and which are set aside and why.

Nothing is dropped in silence: every file is either a painting of data/raw or counted under a reason. Only
what systems leave behind (.DS_Store, __MACOSX, @eaDir) is passed over.
"""

import hashlib
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from redarte.pictures import images
from redarte.pictures.collection import checks, files, layout
from redarte.pictures.collection.layout import Layout, comparable, nfc
from redarte.runtime import workers
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError, printable
from redarte.runtime.sandbox import LostError, Sandbox

_STEM_BYTES = 150  # leaves room for "__horizontal_mirror.jpg" in the 255 bytes of a file name
_NAMED = 200  # files named under one reason; the rest are counted


@dataclass
class Collection:
    """What was found in a tree.

    Attributes:
        root: the folder of the tree whose folders are the artists; empty where that is the whole tree, or artists.csv.
        pictures: "<artist>/<file>" in data/raw -> the file as it lies now.
        set_aside: reason -> the files, as paths in the tree.
        without_pictures: artists that are left with none.
        broken_profiles: pictures whose colour profile cannot be used, as paths in the tree.
        further_pages: pictures with more than one page, as paths in the tree -> the pages that are not read.
    """

    root: str = ""
    pictures: dict[str, Path] = field(default_factory=dict)
    set_aside: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    without_pictures: list[str] = field(default_factory=list)
    broken_profiles: list[str] = field(default_factory=list)
    further_pages: dict[str, int] = field(default_factory=dict)

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
            "broken_colour_profiles": len(self.broken_profiles),
            "further_pages": sum(self.further_pages.values()),
            "further_pages_names": _summary("further_pages", list(self.further_pages)),
        }


def collect(tree: Path, max_pixels: float, root: str | None = None, parameter: str = "root") -> Collection:
    """Sorts the files of a tree into paintings by artist and files set aside.

    The tree holds a folder for each artist, at any depth below folders that hold nothing else; folders
    inside an artist's folder belong to the artist. Where it has an artists.csv (the study's layout) the
    names in it are the artists, and pictures in other folders are set aside.

    Args:
        tree: any folder.
        max_pixels: a picture with more is set aside, undecoded.
        root: the folder of the tree whose folders are the artists; None: it is found.
        parameter: what `root` is called in params.yaml.

    Raises:
        UserError: a folder cannot be read; the tree holds fewer than two artists with pictures, or two whose names are
            written differently; or it cannot be told which folders are the artists.
    """
    found = Collection()
    candidates, lists = [], []
    for path, reason in files.walk(tree):
        if reason is None:
            candidates.append(path)
        elif reason == files.LIST:
            lists.append(path)
        else:
            found.set_aside[reason].append(path)
    if lists and root is None:
        belonging = layout.by_list(tree / min(lists, key=lambda path: (path.count("/"), path)), candidates)
    else:
        belonging = layout.by_folder(tree, candidates, root, parameter)
    found.root = belonging.root
    found.set_aside |= belonging.outside
    _check_names(belonging)
    _admit(tree, belonging.artists, max_pixels, found)
    found.without_pictures = sorted(belonging.expected - set(found.artists()))
    if len(found.artists()) < 2:
        raise UserError(_too_few(found))
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


def _admit(tree: Path, artists: dict[str, str], max_pixels: float, found: Collection) -> None:
    """Decodes every candidate once, and keeps those that are whole pictures, each once."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    with Sandbox(workers.count(), checks.most_memory(max_pixels), checks.__name__) as sandbox:
        verdicts = sandbox.map(partial(_inspect, tree, max_pixels), list(artists))
        for path, verdict in zip(artists, progress(verdicts, len(artists), "checking"), strict=True):
            inspected = _Inspected(_lost(verdict)) if isinstance(verdict, UserError) else verdict
            if inspected.reason:
                found.set_aside[inspected.reason].append(path)
            else:
                by_digest[inspected.digest].append(path)
            if inspected.has_broken_profile:
                found.broken_profiles.append(path)
            if inspected.further_pages:
                found.further_pages[path] = inspected.further_pages
    taken: set[str] = set()
    for path, *again in by_digest.values():
        if any(artists[other] != artists[path] for other in again):
            # Nobody can say whose it is, and one copy could land in train and the other in test.
            found.set_aside["same_picture_under_two_artists"] += [path, *again]
            continue
        found.set_aside["duplicate"] += again
        found.pictures[f"{artists[path]}/{_file_name(path, artists[path], taken)}"] = tree / path
    found.set_aside = defaultdict(list, {reason: sorted(names) for reason, names in found.set_aside.items() if names})


@dataclass(frozen=True)
class _Inspected:
    """Why a file is set aside; or what tells its content from others, and what is to be counted of it."""

    reason: str | None
    digest: str = ""
    has_broken_profile: bool = False
    further_pages: int = 0


def _inspect(tree: Path, max_pixels: float, path: str) -> _Inspected:
    try:
        data = checks.read_content(tree / path, max_pixels)
    except OSError:  # of another user, or of a disk that fails
        return _Inspected("unreadable")
    if data is None:
        return _Inspected("too_large_a_file")
    reason = checks.problem(data, max_pixels)
    if reason:
        return _Inspected(reason)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return _Inspected(None, digest, images.has_broken_profile(data), checks.further_pages(data))


def _lost(error: UserError) -> str:
    if isinstance(error, LostError):
        return error.reason
    raise error


def _file_name(path: str, artist: str, taken: set[str]) -> str:
    """A file name whose stem no other picture of the artist has, in any case of its letters.

    Stems and not names, because a.jpg and a.png both become a.jpg once resized; images.COPY_MARK is kept for copies.
    """
    file = PurePosixPath(nfc(path))
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


def _summary(reason: str, names: list[str]) -> list[str]:
    """The files set aside for one reason; by folder where the folder is the reason."""
    if reason in ("not_in_artists_csv", "outside_any_artist"):
        folders = Counter(str(PurePosixPath(name).parent) for name in names)
        return [f"{folder} ({count})" for folder, count in sorted(folders.items())]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return names[:_NAMED] + more


def _check_names(found: Layout) -> None:
    """Refuses artists that are one, or that a teammate's disk would take for one."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for artist in sorted(set(found.artists.values())):
        spellings[comparable(artist)].append(artist)
    alike = [" and ".join(map(repr, map(printable, names))) for names in spellings.values() if len(names) > 1]
    if alike:
        raise UserError(
            f"The source holds artists whose names differ in nothing but spaces, capitals or the form of their letters "
            f"({'; '.join(alike)}); put their pictures into one folder, or rename one of them."
        )


def _too_few(found: Collection) -> str:
    counts = ", ".join(f"{reason}: {len(names)}" for reason, names in found.set_aside.items())
    return (
        f"The source holds pictures of {len(found.artists())} artists, and telling artists apart needs at least "
        f"two; it must hold a folder for each artist with its pictures in it (set aside: {counts or 'nothing'})."
    )
