"""Splits each artist's images into train, val and test: by ratios, or by folds for a cross-validation."""

import csv
import io
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from splitfolders.split import copy_files, setup_files

from redarte.images.decoding import folders
from redarte.params import Split
from redarte.runtime.errors import UserError

SPLITS = ("train", "val", "test")
_MIN_IMAGES = 3  # one for each split

_Group = tuple[str, ...]  # images of an artist that stay together, as "<artist>/<file>"


class SplitSizes(NamedTuple):
    """How many of one artist's groups of images each split gets.

    Attributes:
        train: of train.
        val: of val.
        test: of test.
        before: the test groups come after so many other groups; of the rest, train comes first.
    """

    train: int
    val: int
    test: int
    before: int


def holdout(count: int, settings: Split) -> SplitSizes:
    """Returns the split sizes of one artist by the ratios of params.yaml.

    split-folders alone rounds val down, to none for an artist with fewer than ten images at 0.1; here each ratio is
    rounded to the nearest integer, val and test get at least one image, and train gets the rest.

    Args:
        count: the artist's images, 3 or more; near-duplicates that are kept together count as one.
        settings: the ratios.

    Raises:
        ValueError: fewer than 3 images.

    Example:
        With ratios of 0.8, 0.1 and 0.1: 3 -> 1, 1 and 1; 12 -> 10, 1 and 1; 877 -> 701, 88 and 88.
    """
    _check_count(count)
    val = min(max(1, round(settings.val * count)), count - 2)
    test = min(max(1, round(settings.test * count)), count - val - 1)
    return SplitSizes(count - val - test, val, test, before=count - test)


def fold(count: int, artist: int, settings: Split) -> SplitSizes:
    """Returns the split sizes of one artist in one of `split.folds` folds.

    Over the folds, every image is a test image once. An artist with fewer images than folds has none in some folds.

    Args:
        count: the artist's images, 3 or more.
        artist: the artist's index, so that the larger folds are different ones for each artist.
        settings: the number of folds, the fold, and the ratio of train and val in the rest.

    Raises:
        ValueError: fewer than 3 images.

    Example:
        With 5 folds and ratios of 0.8, 0.1 and 0.1, 12 images in fold 0: 8, 1 and 3; in fold 4: 9, 1 and 2.
    """
    _check_count(count)
    chunk = (settings.fold + artist) % settings.folds
    size, larger = divmod(count, settings.folds)
    start = chunk * size + min(chunk, larger)
    test = size + (chunk < larger)
    rest = count - test
    val = min(max(1, round(rest * settings.val / (settings.train + settings.val))), rest - 1)
    return SplitSizes(rest - val, val, test, before=start)


def split_sizes(counts: dict[str, int], settings: Split) -> dict[str, SplitSizes]:
    """Returns the split sizes of all artists.

    Args:
        counts: each artist's images; near-duplicates that are kept together count as one.
        settings: the section split.

    Raises:
        UserError: artists have fewer than three images, and split.too_small is `error`; fewer than two artists are
            left; or no artist has an image for each fold.
    """
    small = {artist: count for artist, count in counts.items() if count < _MIN_IMAGES}
    if small and settings.too_small == "error":
        names = ", ".join(f"{artist} ({count})" for artist, count in small.items())
        raise UserError(
            f"too few images to split: {names}; an artist needs {_MIN_IMAGES}, one for each of train, val and test. "
            "Near-duplicates that are kept together count as one, and near-duplicates of another artist's image do not "
            "count: add images, or set split.too_small to train_only or leave_out."
        )
    if settings.folds > max(counts.values()):
        raise UserError(f"split.folds is {settings.folds}, and no artist has so many images: lower it.")
    kept = sorted(set(counts) - set(small))
    if settings.folds:
        sizes = {artist: fold(counts[artist], index, settings) for index, artist in enumerate(kept)}
    else:
        sizes = {artist: holdout(counts[artist], settings) for artist in kept}
    if settings.too_small == "train_only":
        sizes |= {artist: SplitSizes(count, 0, 0, before=count) for artist, count in small.items()}
    if len(sizes) < 2 or all(size.test == 0 for size in sizes.values()):
        raise UserError(f"a classifier needs two artists, one of them with {_MIN_IMAGES} images or more.")
    return dict(sorted(sizes.items()))


def group_images(paths: list[str], duplicates: list[list[str]]) -> tuple[dict[str, list[_Group]], dict[str, list[str]]]:
    """Groups each artist's images by what the split keeps together.

    Args:
        paths: "<artist>/<file>" of all images.
        duplicates: the groups of near-duplicates to keep together.

    Returns:
        Each artist's groups, most of them of one image; and each artist's images that are near-duplicates of another
        artist's image. The true artist of these is unknown: they are only used for training.
    """
    group_of = {path: number for number, group in enumerate(duplicates) for path in group}
    across = {number for number, group in enumerate(duplicates) if _has_several_artists(group)}
    groups: dict[str, dict[object, list[str]]] = {_artist(path): defaultdict(list) for path in paths}
    disputed: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        group = group_of.get(path)
        if group in across:
            disputed[_artist(path)].append(path)
        else:
            groups[_artist(path)][path if group is None else group].append(path)
    return {artist: [tuple(group) for group in own.values()] for artist, own in groups.items()}, disputed


def copy_artist(
    folder: Path, artist: str, groups: list[_Group], disputed: list[str], size: SplitSizes, seed: int,
    targets: dict[str, Path],
) -> dict[str, str]:  # fmt: skip
    """Copies the images of one artist to the splits, in the order in which split-folders shuffles them.

    Args:
        folder: a class-per-folder tree.
        artist: one of its folders.
        groups: the artist's groups, from `group_images`.
        disputed: the artist's images that are only used for training.
        size: the artist's split sizes.
        seed: the seed of params.yaml.
        targets: split -> its folder.

    Returns:
        "<artist>/<file>" -> split.
    """
    shuffled = setup_files(folder / artist, seed, group=lambda _files: [tuple(map(folder.joinpath, g)) for g in groups])
    after = size.before + size.test
    rest = shuffled[: size.before] + shuffled[after:]
    assigned = {
        "train": [*rest[: size.train], *((folder / path,) for path in disputed)],
        "val": rest[size.train :],
        "test": shuffled[size.before : after],
    }
    for split in SPLITS:
        copy_files([(assigned[split], "")], folder / artist, targets[split], prog_bar=None, move=False)
    return {f"{artist}/{file.name}": split for split in SPLITS for group in assigned[split] for file in group}


def duplicates_csv(duplicates: list[list[str]], assignment: dict[str, str]) -> str:
    """Returns data/near_duplicates.csv: group (from 1), image ("<artist>/<stem>"), split; "" for an image left out.

    Args:
        duplicates: the groups of near-duplicates, as "<artist>/<file>".
        assignment: "<artist>/<file>" -> split.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "image", "split"])
    for number, group in enumerate(duplicates, start=1):
        writer.writerows([number, folders.image_id(path), assignment.get(path, "")] for path in group)
    return text.getvalue()


def metrics(
    paths: list[str], sizes: dict[str, SplitSizes], assignment: dict[str, str], duplicates: list[list[str]]
) -> dict[str, Any]:
    """Returns the content of metrics/split.json.

    Args:
        paths: "<artist>/<file>" of all images.
        sizes: from `split_sizes`.
        assignment: "<artist>/<file>" -> split.
        duplicates: the groups of near-duplicates.
    """
    left_out = sorted(set(map(_artist, paths)) - set(sizes))
    untested = sorted(artist for artist, size in sizes.items() if size.test == 0)
    splits = list(assignment.values())
    return {
        "artists": len(sizes),
        **{name: splits.count(name) for name in SPLITS},
        "artists_never_tested": len(untested),
        "artists_left_out": len(left_out),
        "images_left_out": len(paths) - len(assignment),
        "names_never_tested": untested,
        "names_left_out": left_out,
        "near_duplicates": {
            "groups": len(duplicates),
            "images": sum(map(len, duplicates)),
            "groups_across_artists": sum(map(_has_several_artists, duplicates)),
            "test_images_with_duplicate_in_train": sum(
                [assignment.get(path) for path in group].count("test")
                for group in duplicates
                if "train" in {assignment.get(path) for path in group}
            ),
        },
    }


def _check_count(count: int) -> None:
    if count < _MIN_IMAGES:
        raise ValueError(f"{count} images cannot be split three ways")


def _has_several_artists(group: list[str]) -> bool:
    return len(set(map(_artist, group))) > 1


def _artist(path: str) -> str:
    return path.partition("/")[0]
