"""split: parts every artist's pictures into data/split/{train,val,test}/<Artist>/, with split-folders.

Near-duplicates are looked for first, and kept on one side of the split. data/near_duplicates.csv names them.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from splitfolders.split import copy_files, setup_files

from redarte import duplicates, outputs, paintings, params, splitting
from redarte.console import run_stage, say
from redarte.splitting import SPLITS, Parts

RAW = Path("data/raw")
SPLIT = Path("data/split")
DUPLICATES = Path("data/near_duplicates.csv")
METRICS = Path("metrics/split.json")

_Unit = tuple[str, ...]  # an artist's pictures that stay together, as "<artist>/<file>"


def main() -> None:
    settings = params.load()
    paths = paintings.listing(RAW)
    groups = duplicates.groups(RAW, paths)
    units, disputed = units_of(paths, groups if settings.split.keep_duplicates_together else [])
    plan = splitting.plan({artist: len(parts) for artist, parts in units.items()}, settings.split)
    place: dict[str, str] = {}
    with outputs.whole_folder(SPLIT) as folder:
        for artist, parts in plan.items():
            ordered = setup_files(RAW / artist, settings.seed, group=grouping(units[artist]))
            parted = cut(ordered, parts)
            parted["train"] += [(RAW / path,) for path in disputed[artist]]
            copy_files([(parted[name], name) for name in SPLITS], RAW / artist, folder, prog_bar=None, move=False)
            place |= {f"{artist}/{file.name}": name for name in SPLITS for unit in parted[name] for file in unit}
        outputs.write_text(DUPLICATES, duplicates_csv(groups, place))
        outputs.write_json(METRICS, facts(paths, plan, place, groups))
    totals = [f"{name}: {list(place.values()).count(name)}" for name in SPLITS]
    say(f"{', '.join(totals)} pictures of {len(plan)} artists; {len(groups)} groups of near-duplicates")


def units_of(paths: list[str], groups: list[list[str]]) -> tuple[dict[str, list[_Unit]], dict[str, list[str]]]:
    """Sorts each artist's pictures into what the split keeps together.

    Args:
        paths: all pictures.
        groups: near-duplicates to keep together.

    Returns:
        Each artist's units; and each artist's pictures that are near-duplicates of another artist's. Whose they are is
        not known, so they can test nobody, and are learned.
    """
    group_of = {path: number for number, group in enumerate(groups) for path in group}
    across = {number for number, group in enumerate(groups) if spans_artists(group)}
    together: dict[str, dict[object, list[str]]] = {artist_of(path): defaultdict(list) for path in paths}
    disputed: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        group = group_of.get(path)
        if group in across:
            disputed[artist_of(path)].append(path)
        else:
            together[artist_of(path)][path if group is None else group].append(path)
    return {artist: [tuple(unit) for unit in units.values()] for artist, units in together.items()}, disputed


def grouping(units: list[_Unit]) -> Callable[[list[Path]], list[tuple[Path, ...]]]:
    """The units of an artist, as split-folders asks for them."""
    return lambda _files: [tuple(RAW / path for path in unit) for unit in units]


def cut(ordered: list[tuple[Path, ...]], parts: Parts) -> dict[str, list[tuple[Path, ...]]]:
    """Cuts an artist's units, in split-folders' order, into train, val and test."""
    after = parts.before + parts.test
    rest = ordered[: parts.before] + ordered[after:]
    return {"train": rest[: parts.train], "val": rest[parts.train :], "test": ordered[parts.before : after]}


def duplicates_csv(groups: list[list[str]], place: dict[str, str]) -> str:
    """data/near_duplicates.csv: group (from 1), path, and the split that the picture is in; empty for left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "path", "split"])
    for number, group in enumerate(groups, start=1):
        writer.writerows([number, path, place.get(path, "")] for path in group)
    return text.getvalue()


def facts(paths: list[str], plan: dict[str, Parts], place: dict[str, str], groups: list[list[str]]) -> dict[str, Any]:
    """The content of metrics/split.json."""
    left_out = sorted(set(map(artist_of, paths)) - set(plan))
    untested = sorted(artist for artist, parts in plan.items() if parts.test == 0)
    splits = list(place.values())
    return {
        "artists": len(plan),
        **{name: splits.count(name) for name in SPLITS},
        "artists_never_tested": len(untested),
        "artists_left_out": len(left_out),
        "pictures_left_out": len(paths) - len(place),
        "names_never_tested": untested,
        "names_left_out": left_out,
        "near_duplicates": {
            "groups": len(groups),
            "pictures": sum(map(len, groups)),
            "groups_across_artists": sum(map(spans_artists, groups)),
            "test_pictures_with_one_in_train": sum(
                [place.get(path) for path in group].count("test")
                for group in groups
                if "train" in {place.get(path) for path in group}
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
