"""Splits each artist's images into train, val and test, in the order in which split-folders shuffles them.

An image whose artist was corrected stays in the split that it has without the correction, so that the models with and
without corrections are measured on the same test images.
"""

import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from redarte.images.splitting.corrections import RawImage
from redarte.images.splitting.sizes import SplitSizes, split_sizes
from redarte.params import Split
from redarte.runtime.errors import UserError

SPLITS = ("train", "val", "test")

_Group = tuple[str, ...]  # images of an artist that stay together, as "<artist>/<file>"


@dataclass(frozen=True)
class Assignment:
    """The artists, and the split of each image.

    Attributes:
        artists: the classes; artists that are left out are missing.
        splits: the path of an image in data/raw -> train, val or test; images that are left out are missing.
    """

    artists: list[str] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)


def assign(
    raw: Path,
    images: list[RawImage],
    duplicates: list[list[str]],
    corrected_duplicates: list[list[str]],
    settings: Split,
    seed: int,
) -> tuple[Assignment, set[str]]:
    """Assigns each image to a split.

    Over folds, corrected images do not stay in their split: every image is a test image once.

    Args:
        duplicates: groups of near-duplicates.
        corrected_duplicates: the same, after corrections.

    Returns:
        The assignment, and the common test images, as paths in data/raw: those that are test images of the same artist
        with and without corrections.
    """
    sources = {image.raw_path: image.raw_path for image in images}
    corrected = {image.raw_path: image.corrected_path for image in images if image.corrected_path}
    is_corrected = settings.apply_corrections and (corrected, corrected_duplicates) != (sources, duplicates)

    def attempt(names: dict[str, str], groups: list[list[str]], before: dict[str, str], is_used: bool) -> Assignment:
        try:
            return _assign(raw, names, groups if settings.keep_duplicates_together else [], settings, seed, before)
        except UserError:
            if is_used:
                raise
            # For instance, only the corrections give each artist enough images.
            return Assignment()

    without = attempt(sources, duplicates, {}, is_used=not is_corrected)
    before = {} if settings.folds else without.splits
    with_them = attempt(corrected, corrected_duplicates, before, is_used=is_corrected)
    common = {
        file
        for file, name in corrected.items()
        if _artist(name) == _artist(sources[file]) and without.splits.get(file) == with_them.splits.get(file) == "test"
    }
    return with_them if is_corrected else without, common


def copy_images(raw: Path, images: list[RawImage], assignment: Assignment, targets: dict[str, Path]) -> None:
    """Copies the images to the folders of their splits.

    Args:
        targets: split -> its folder.
    """
    from splitfolders.split import copy_files

    files: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for image in images:
        if image.corrected_path and image.raw_path in assignment.splits:
            split = assignment.splits[image.raw_path]
            if image.corrected_path == image.raw_path:
                files[_artist(image.raw_path), split].append(raw / image.raw_path)
            else:
                target = targets[split] / image.corrected_path
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(raw / image.raw_path, target)
    for artist in assignment.artists:
        for split in SPLITS:
            copy_files([(files[artist, split], "")], raw / artist, targets[split], prog_bar=None, move=False)


def group_images(paths: list[str], duplicates: list[list[str]]) -> tuple[dict[str, list[_Group]], dict[str, list[str]]]:
    """Groups each artist's images by what the split keeps together.

    Args:
        paths: "<artist>/<file>" of all images.

    Returns:
        Each artist's groups, most of them of one image; and each artist's images that are near-duplicates of another
        artist's image. The true artist of these is unknown: they are only used for training.
    """
    group_of = {path: number for number, group in enumerate(duplicates) for path in group}
    across = {number for number, group in enumerate(duplicates) if len(set(map(_artist, group))) > 1}
    groups: dict[str, dict[object, list[str]]] = {_artist(path): defaultdict(list) for path in paths}
    disputed: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        group = group_of.get(path)
        if group in across:
            disputed[_artist(path)].append(path)
        else:
            groups[_artist(path)][path if group is None else group].append(path)
    return {artist: [tuple(group) for group in own.values()] for artist, own in groups.items()}, disputed


def _assign(
    raw: Path, names: dict[str, str], duplicates: list[list[str]], settings: Split, seed: int, before: dict[str, str]
) -> Assignment:
    """Assigns images by their artists.

    Args:
        names: path in data/raw -> "<artist>/<file>".
        before: path in data/raw -> the split in which it should stay.
    """
    file_of = {name: file for file, name in names.items()}
    groups, disputed = group_images(
        sorted(file_of), [[names[file] for file in group if file in names] for group in duplicates]
    )
    sizes = split_sizes({artist: len(own) for artist, own in groups.items()}, settings)
    splits: dict[str, str] = {}
    for artist, size in sizes.items():
        assigned = _shuffle(raw, groups[artist], size, seed)
        if before and (size.val or size.test):
            assigned = {group: before.get(file_of[group[0]], "train") for group in assigned}
            _fill(assigned, size)
        splits |= {name: split for group, split in assigned.items() for name in group}
        splits |= dict.fromkeys(disputed[artist], "train")
    return Assignment(list(sizes), {file_of[name]: split for name, split in splits.items()})


def _shuffle(raw: Path, groups: list[_Group], size: SplitSizes, seed: int) -> dict[_Group, str]:
    """The groups of one artist in random order, with their splits."""
    # Here and below, because the service reads corrections.csv without split-folders.
    from splitfolders.split import setup_files

    shuffled = setup_files(raw, seed, group=lambda _files: [tuple(map(Path, group)) for group in groups])
    names = [tuple(path.as_posix() for path in group) for group in shuffled]
    after = size.before + size.test
    rest = names[: size.before] + names[after:]
    return {group: "train" if number < size.train else "val" for number, group in enumerate(rest)} | dict.fromkeys(
        names[size.before : after], "test"
    )


def _fill(assigned: dict[_Group, str], size: SplitSizes) -> None:
    """Moves groups of an artist, from the largest split, to a split that has none left after corrections."""
    for split in SPLITS:
        by_split = {name: [group for group, of in assigned.items() if of == name] for name in SPLITS}
        if not by_split[split]:
            donor = max(by_split.values(), key=len)
            for group in donor[: min(getattr(size, split), len(donor) - 1)]:
                assigned[group] = split


def _artist(path: str) -> str:
    return path.partition("/")[0]
