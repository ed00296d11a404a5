"""How many of each artist's images each split gets: by ratios, or by folds for a cross-validation."""

from typing import NamedTuple

from redarte.params import Split
from redarte.runtime.errors import UserError

_MIN_IMAGES = 3  # one for each split


class SplitSizes(NamedTuple):
    """How many of one artist's groups of images each split gets.

    Attributes:
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
    """Returns the split sizes of all artists."""
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


def _check_count(count: int) -> None:
    if count < _MIN_IMAGES:
        raise ValueError(f"{count} images cannot be split three ways")
