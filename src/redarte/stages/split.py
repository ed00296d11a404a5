"""split: assigns every artist's pictures to data/split/{train,val,test}/<Artist>/, with split-folders.

Near-duplicates are looked for first, and kept in one split. data/near_duplicates.csv names them.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from splitfolders.split import copy_files, setup_files

from redarte import params
from redarte.pictures import duplicates, images, splitting
from redarte.pictures.splitting import SPLITS, SplitSizes
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say

RAW = Path("data/raw")
SPLIT = Path("data/split")
DUPLICATES = Path("data/near_duplicates.csv")
METRICS = Path("metrics/split.json")

_Group = tuple[str, ...]  # an artist's pictures that stay together, as "<artist>/<file>"


def main() -> None:
    settings = params.load()
    paths = images.list_images(RAW)
    found = duplicates.groups(RAW, paths)
    groups, disputed = groups_of(paths, found if settings.split.keep_duplicates_together else [])
    sizes = splitting.split_sizes({artist: len(own) for artist, own in groups.items()}, settings.split)
    assignment: dict[str, str] = {}
    with outputs.atomic_folders(SPLIT, SPLITS) as folders:
        for artist, size in sizes.items():
            shuffled = setup_files(RAW / artist, settings.seed, group=grouping(groups[artist]))
            assigned = assign(shuffled, size)
            assigned["train"] += [(RAW / path,) for path in disputed[artist]]
            for name in SPLITS:
                copy_files([(assigned[name], "")], RAW / artist, folders[name], prog_bar=None, move=False)
            assignment |= {
                f"{artist}/{file.name}": name for name in SPLITS for group in assigned[name] for file in group
            }
        outputs.write_text(DUPLICATES, duplicates_csv(found, assignment))
        outputs.write_json(METRICS, facts(paths, sizes, assignment, found))
    totals = [f"{name}: {list(assignment.values()).count(name)}" for name in SPLITS]
    say(f"{', '.join(totals)} pictures of {len(sizes)} artists; {len(found)} groups of near-duplicates")


def groups_of(paths: list[str], found: list[list[str]]) -> tuple[dict[str, list[_Group]], dict[str, list[str]]]:
    """Sorts each artist's pictures into what the split keeps together.

    Args:
        paths: all pictures.
        found: groups of near-duplicates to keep together.

    Returns:
        Each artist's groups, most of one picture; and each artist's pictures that are near-duplicates of another
        artist's. Whose they are is not known, so they can test nobody, and are learned.
    """
    group_of = {path: number for number, group in enumerate(found) for path in group}
    across = {number for number, group in enumerate(found) if spans_artists(group)}
    groups: dict[str, dict[object, list[str]]] = {artist_of(path): defaultdict(list) for path in paths}
    disputed: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        group = group_of.get(path)
        if group in across:
            disputed[artist_of(path)].append(path)
        else:
            groups[artist_of(path)][path if group is None else group].append(path)
    return {artist: [tuple(group) for group in own.values()] for artist, own in groups.items()}, disputed


def grouping(groups: list[_Group]) -> Callable[[list[Path]], list[tuple[Path, ...]]]:
    """The groups of an artist, as split-folders asks for them."""
    return lambda _files: [tuple(RAW / path for path in group) for group in groups]


def assign(shuffled: list[tuple[Path, ...]], size: SplitSizes) -> dict[str, list[tuple[Path, ...]]]:
    """Assigns an artist's groups, in split-folders' order, to train, val and test."""
    after = size.before + size.test
    rest = shuffled[: size.before] + shuffled[after:]
    return {"train": rest[: size.train], "val": rest[size.train :], "test": shuffled[size.before : after]}


def duplicates_csv(found: list[list[str]], assignment: dict[str, str]) -> str:
    """data/near_duplicates.csv: group (from 1), path, and the split that the picture is in; empty for left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "path", "split"])
    for number, group in enumerate(found, start=1):
        writer.writerows([number, path, assignment.get(path, "")] for path in group)
    return text.getvalue()


def facts(
    paths: list[str], sizes: dict[str, SplitSizes], assignment: dict[str, str], found: list[list[str]]
) -> dict[str, Any]:
    """The content of metrics/split.json."""
    left_out = sorted(set(map(artist_of, paths)) - set(sizes))
    untested = sorted(artist for artist, size in sizes.items() if size.test == 0)
    splits = list(assignment.values())
    return {
        "artists": len(sizes),
        **{name: splits.count(name) for name in SPLITS},
        "artists_never_tested": len(untested),
        "artists_left_out": len(left_out),
        "pictures_left_out": len(paths) - len(assignment),
        "names_never_tested": untested,
        "names_left_out": left_out,
        "near_duplicates": {
            "groups": len(found),
            "pictures": sum(map(len, found)),
            "groups_across_artists": sum(map(spans_artists, found)),
            "test_pictures_with_one_in_train": sum(
                [assignment.get(path) for path in group].count("test")
                for group in found
                if "train" in {assignment.get(path) for path in group}
            ),
        },
    }


def spans_artists(group: list[str]) -> bool:
    """Whether near-duplicates are said to be by several artists."""
    return len(set(map(artist_of, group))) > 1


def artist_of(path: str) -> str:
    return path.partition("/")[0]


if __name__ == "__main__":
    run_stage(main)
