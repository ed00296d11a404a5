"""data/images.csv, which lists all images, and metrics/split.json."""

from typing import Any

from redarte.images import folders
from redarte.images.splitting.corrections import RawImage
from redarte.runtime import tables

COLUMNS = ("image", "source", "split", "near_duplicates", "common_test")


def to_csv(images: list[RawImage], splits: dict[str, str], duplicates: list[list[str]], common_test: set[str]) -> str:
    """Returns data/images.csv, which has a row for each image of data/raw.

    Args:
        splits: path in data/raw -> split.

    Returns:
        Rows of image (its identity, "<artist>/<stem>"; "" if it is excluded), source (the same in data/raw), split (""
        if it is left out), near_duplicates (the number of its group, from 1, or ""), and common_test (yes or no).
    """
    group_of = {path: number for number, group in enumerate(duplicates, start=1) for path in group}
    rows = [
        [
            folders.image_id(image.corrected_path) if image.corrected_path else "",
            folders.image_id(image.raw_path),
            splits.get(image.raw_path, ""),
            group_of.get(image.raw_path, ""),
            "yes" if image.raw_path in common_test else "no",
        ]
        for image in images
    ]
    return tables.to_csv([COLUMNS, *rows])


def metrics(
    images: list[RawImage], artists: list[str], splits: dict[str, str], duplicates: list[list[str]]
) -> dict[str, Any]:
    """Returns the content of metrics/split.json.

    Args:
        splits: path in data/raw -> split.
    """
    artist_of = {image.raw_path: image.corrected_path.partition("/")[0] for image in images if image.corrected_path}
    left_out = sorted(set(artist_of.values()) - set(artists))
    untested = sorted(set(artists) - {artist_of[file] for file, split in splits.items() if split == "test"})
    count = list(splits.values()).count
    groups = [group for group in ([file for file in group if file in artist_of] for group in duplicates) if group[1:]]
    return {
        "artists": len(artists),
        "train": count("train"),
        "val": count("val"),
        "test": count("test"),
        "artists_never_tested": len(untested),
        "artists_left_out": len(left_out),
        "images_left_out": len(artist_of) - len(splits),
        "names_never_tested": untested,
        "names_left_out": left_out,
        "near_duplicates": {
            "groups": len(groups),
            "images": sum(map(len, groups)),
            "groups_across_artists": sum(len({artist_of[file] for file in group}) > 1 for group in groups),
            "test_images_with_duplicate_in_train": sum(
                [splits.get(file) for file in group].count("test")
                for group in groups
                if "train" in {splits.get(file) for file in group}
            ),
        },
    }
