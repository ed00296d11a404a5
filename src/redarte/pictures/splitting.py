"""Which pictures of an artist go to train, val and test: in shares, or fold by fold for a cross-validation."""

from typing import NamedTuple

from redarte.params import Split
from redarte.runtime.errors import UserError

SPLITS = ("train", "val", "test")
FEWEST = 3  # one picture for each split


class SplitSizes(NamedTuple):
    """How many of one artist's pictures go where.

    Attributes:
        train, val, test: how many go where.
        before: the test pictures are those after so many others; of the rest, train comes first.
    """

    train: int
    val: int
    test: int
    before: int


def holdout(count: int, settings: Split) -> SplitSizes:
    """The split sizes of one artist by the shares of params.yaml.

    split-folders alone rounds val down, to none for an artist with fewer than ten pictures at 0.1; here
    each share is rounded to the nearest whole, val and test get at least one picture, and train the rest.

    Args:
        count: the artist's pictures, 3 or more; near-duplicates that are kept together count as one.
        settings: the shares.

    Raises:
        ValueError: fewer than 3 pictures.

    Example:
        With shares of 0.8, 0.1 and 0.1: 3 -> 1, 1 and 1; 12 -> 10, 1 and 1; 877 -> 701, 88 and 88.
    """
    if count < FEWEST:
        raise ValueError(f"{count} pictures cannot be split three ways")
    val = min(max(1, round(settings.val * count)), count - 2)
    test = min(max(1, round(settings.test * count)), count - val - 1)
    return SplitSizes(count - val - test, val, test, before=count - test)


def fold(count: int, place: int, settings: Split) -> SplitSizes:
    """The split sizes of one artist in one of `split.folds` folds.

    Over the folds, every picture is a test picture once. An artist with fewer pictures than folds has none in some.

    Args:
        count: the artist's pictures, 3 or more.
        place: the artist's among all, so that not every artist's larger folds are the same.
        settings: the number of folds, which one this is, and the shares of train and val in what is left.

    Raises:
        ValueError: fewer than 3 pictures.

    Example:
        With 5 folds and shares of 0.8, 0.1 and 0.1, 12 pictures in fold 0: 8, 1 and 3; in fold 4: 9, 1 and 2.
    """
    if count < FEWEST:
        raise ValueError(f"{count} pictures cannot be split three ways")
    chunk = (settings.fold + place) % settings.folds
    size, larger = divmod(count, settings.folds)
    start = chunk * size + min(chunk, larger)
    test = size + (chunk < larger)
    left = count - test
    val = min(max(1, round(left * settings.val / (settings.train + settings.val))), left - 1)
    return SplitSizes(left - val, val, test, before=start)


def split_sizes(counts: dict[str, int], settings: Split) -> dict[str, SplitSizes]:
    """How many of each artist's pictures go where.

    Args:
        counts: each artist's pictures; near-duplicates that are kept together count as one.

    Raises:
        UserError: artists have fewer than three pictures, and split.too_small is `error`; fewer than two artists are
            left; or no artist has a picture for each fold.
    """
    small = {artist: count for artist, count in counts.items() if count < FEWEST}
    if small and settings.too_small == "error":
        names = ", ".join(f"{artist} ({count})" for artist, count in small.items())
        raise UserError(
            f"too few pictures to split: {names}; an artist needs {FEWEST}, one for each of train, val and test, where "
            "near-duplicates that are kept together count as one, and as none if another artist has one of them: add "
            "pictures, or set split.too_small to train_only or leave_out."
        )
    if settings.folds > max(counts.values()):
        raise UserError(f"split.folds is {settings.folds}, and no artist has so many pictures: set it lower.")
    kept = sorted(set(counts) - set(small))
    if settings.folds:
        sizes = {artist: fold(counts[artist], place, settings) for place, artist in enumerate(kept)}
    else:
        sizes = {artist: holdout(counts[artist], settings) for artist in kept}
    if settings.too_small == "train_only":
        sizes |= {artist: SplitSizes(count, 0, 0, before=count) for artist, count in small.items()}
    if len(sizes) < 2 or all(size.test == 0 for size in sizes.values()):
        raise UserError(f"telling artists apart needs two of them, and one with {FEWEST} pictures or more.")
    return dict(sorted(sizes.items()))
