"""How many of an artist's pictures go to train, val and test."""

from redarte.params import Split

SPLITS = ("train", "val", "test")
FEWEST = 3  # one picture for each split


def shares(count: int, settings: Split) -> tuple[int, int, int]:
    """The pictures of one artist in train, val and test.

    split-folders alone rounds val down, to none for an artist with fewer than ten pictures at 0.1; here
    each share is rounded to the nearest whole, val and test get at least one picture, and train the rest.

    Args:
        count: the artist's pictures, 3 or more.
        settings: the shares.

    Raises:
        ValueError: fewer than 3 pictures.

    Example:
        With shares of 0.8, 0.1 and 0.1: 3 -> (1, 1, 1), 12 -> (10, 1, 1), 877 -> (701, 88, 88).
    """
    if count < FEWEST:
        raise ValueError(f"{count} pictures cannot be split three ways")
    val = min(max(1, round(settings.val * count)), count - 2)
    test = min(max(1, round(settings.test * count)), count - val - 1)
    return count - val - test, val, test
