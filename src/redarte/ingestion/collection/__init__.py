"""Finds the images of each artist in a tree of unchecked files.

Every file either becomes an image of data/raw or is counted under a reason; only system files (.DS_Store, __MACOSX,
@eaDir) are ignored. `files` lists a tree, `layout` decides whose each file is, `checks` decides whether it is an image.
"""

import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from redarte.images import decoding, folders
from redarte.images.folders import comparable, nfc
from redarte.ingestion import checks
from redarte.ingestion.collection import files, layout
from redarte.ingestion.collection.layout import Layout
from redarte.runtime import workers
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError, printable
from redarte.runtime.sandbox import Sandbox, TaskFailedError

_STEM_BYTES = 150  # leaves room for "__horizontal_mirror.jpg" in the 255 bytes of a file name
_MAX_NAMES = 200  # files that are named for one reason


@dataclass
class Collection:
    """What was found in a tree.

    Attributes:
        root: the folder of the tree whose folders are the artists; "" for the whole tree, or for artists.csv.
        images: "<artist>/<file>" in data/raw -> the file in the tree.
        skipped: reason -> files, as paths in the tree.
        without_images: artists that have no images left.
        broken_profiles: images with an unusable colour profile, as paths in the tree.
        further_pages: images with several pages, as paths in the tree -> the number of pages that are not used.
    """

    root: str = ""
    images: dict[str, Path] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    without_images: list[str] = field(default_factory=list)
    broken_profiles: list[str] = field(default_factory=list)
    further_pages: dict[str, int] = field(default_factory=dict)

    def artists(self) -> Counter[str]:
        """Returns each artist's number of images."""
        return Counter(name.partition("/")[0] for name in self.images)

    def metrics(self) -> dict[str, object]:
        """Returns the content of metrics/fetch.json, without the name of the source."""
        counts = self.artists()
        return {
            "artists": len(counts),
            "images": len(self.images),
            "min_images_per_artist": min(counts.values()),
            "max_images_per_artist": max(counts.values()),
            "skipped": {"files": sum(map(len, self.skipped.values()))}
            | {reason: len(names) for reason, names in sorted(self.skipped.items())},
            "skipped_names": {reason: _summary(reason, names) for reason, names in sorted(self.skipped.items())},
            "artists_without_images": self.without_images,
            "broken_colour_profiles": len(self.broken_profiles),
            "further_pages": sum(self.further_pages.values()),
            "further_pages_names": _summary("further_pages", list(self.further_pages)),
        }


def find_images(tree: Path, max_pixels: float, root: str | None = None, parameter: str = "root") -> Collection:
    """Assigns the files of a tree to artists, and skips what cannot be used.

    The tree has a folder for each artist, at any depth below folders that only wrap them; folders inside an artist's
    folder belong to the artist. Where the tree has an artists.csv (the study's layout), the names in it are the
    artists, and images in other folders are skipped.

    Args:
        root: the folder of the tree whose folders are the artists; None: it is detected.
    """
    found = Collection()
    candidates, lists = [], []
    for path, reason in files.walk(tree):
        if reason is None:
            candidates.append(path)
        elif reason == files.LIST:
            lists.append(path)
        else:
            found.skipped[reason].append(path)
    if lists and root is None:
        belonging = layout.by_list(tree / min(lists, key=lambda path: (path.count("/"), path)), candidates)
    else:
        belonging = layout.by_folder(tree, candidates, root, parameter)
    found.root = belonging.root
    found.skipped |= belonging.outside
    _check_names(belonging)
    _check_files(tree, belonging.artists, max_pixels, found)
    found.without_images = sorted(belonging.expected - set(found.artists()))
    if len(found.artists()) < 2:
        raise UserError(_too_few(found))
    return found


def copy_images(collection: Collection, folder: Path, move: bool) -> None:
    """Fills data/raw with a collection's images, byte for byte.

    Args:
        folder: an empty folder.
    """
    for artist in sorted(collection.artists()):
        (folder / artist).mkdir()
    for name, path in collection.images.items():
        if move:
            path.rename(folder / name)
        else:
            shutil.copyfile(path, folder / name)


def _check_files(tree: Path, artists: dict[str, str], max_pixels: float, found: Collection) -> None:
    """Decodes every candidate once, and keeps the complete images, each once."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    with Sandbox(workers.count(), checks.max_memory(max_pixels), checks.__name__) as sandbox:
        verdicts = sandbox.map(partial(_inspect, tree, max_pixels), list(artists))
        for path, verdict in zip(artists, progress(verdicts, len(artists), "checking"), strict=True):
            inspected = _Inspected(_reason_of(verdict)) if isinstance(verdict, UserError) else verdict
            if inspected.reason:
                found.skipped[inspected.reason].append(path)
            else:
                by_digest[inspected.digest].append(path)
            if inspected.has_broken_profile:
                found.broken_profiles.append(path)
            if inspected.further_pages:
                found.further_pages[path] = inspected.further_pages
    taken: set[str] = set()
    for path, *again in by_digest.values():
        if any(artists[other] != artists[path] for other in again):
            # The artist is unknown, and one copy could be in train and the other in test.
            found.skipped["same_image_under_two_artists"] += [path, *again]
            continue
        found.skipped["duplicate"] += again
        found.images[_file_name(path, artists[path], taken)] = tree / path
    found.skipped = defaultdict(list, {reason: sorted(names) for reason, names in found.skipped.items() if names})


@dataclass(frozen=True)
class _Inspected:
    """The result of checking a file: why it is skipped; or a hash of its content, and what is counted."""

    reason: str | None
    digest: str = ""
    has_broken_profile: bool = False
    further_pages: int = 0


def _inspect(tree: Path, max_pixels: float, path: str) -> _Inspected:
    try:
        data = checks.read_content(tree / path, max_pixels)
    except OSError:  # without permission, or on a failing disk
        return _Inspected("unreadable")
    if data is None:
        return _Inspected("too_large_a_file")
    reason = checks.problem(data, max_pixels)
    if reason:
        return _Inspected(reason)
    digest = folders.content_hash(data)
    return _Inspected(None, digest, decoding.has_broken_profile(data), checks.further_pages(data))


def _reason_of(error: UserError) -> str:
    if isinstance(error, TaskFailedError):
        return error.reason
    raise error


def _file_name(path: str, artist: str, taken: set[str]) -> str:
    """ "<artist>/<file>" with a stem that no other image of the artist has, ignoring case.

    Stems and not names are unique, because a.jpg and a.png both become a.jpg in data/resized.
    """
    file = PurePosixPath(nfc(path))
    stem = folders.without_copy_separator(file.stem)
    stem = stem.encode()[:_STEM_BYTES].decode(errors="ignore")
    return folders.unique_id(artist, stem, taken) + file.suffix.lower()


def _summary(reason: str, names: list[str]) -> list[str]:
    """The files skipped for one reason; grouped by folder where the folder is the reason."""
    grouped: list[str] = []
    if reason in ("not_in_artists_csv", "outside_any_artist"):
        folders = Counter(folder for name in names if (folder := name.rpartition("/")[0]))
        grouped = [f"{folder} ({count})" for folder, count in sorted(folders.items())]
        names = [name for name in names if "/" not in name]
    more = [f"and {len(names) - _MAX_NAMES} more"] if len(names) > _MAX_NAMES else []
    return grouped + names[:_MAX_NAMES] + more


def _check_names(found: Layout) -> None:
    """Refuses artists whose names do not fit into the name of a file, or differ only in spelling, or on some file
    systems not at all.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for artist in sorted(set(found.artists.values())):
        problem = folders.problem_of_artist(artist)
        if problem:
            raise UserError(f"The source has an artist whose name {problem} ({printable(artist)}); rename the folder.")
        spellings[comparable(artist)].append(artist)
    alike = [" and ".join(map(repr, map(printable, names))) for names in spellings.values() if len(names) > 1]
    if alike:
        raise UserError(
            f"The source has artists whose names differ only in spaces, capitals, leading zeros or Unicode form "
            f"({'; '.join(alike)}); put their images into one folder, or rename one of them."
        )


def _too_few(found: Collection) -> str:
    counts = ", ".join(f"{reason}: {len(names)}" for reason, names in found.skipped.items())
    return (
        f"The source has images of {len(found.artists())} artists, and a classifier needs at least two; it must have a "
        f"folder for each artist with images in it (skipped: {counts or 'nothing'})."
    )
