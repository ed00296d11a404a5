"""split: parts every artist's pictures into data/split/{train,val,test}/<Artist>/, with split-folders."""

from pathlib import Path

from splitfolders.split import split_class_dir_fixed

from redarte import outputs, paintings, params
from redarte.console import run_stage, say
from redarte.errors import UserError
from redarte.params import Split
from redarte.splitting import FEWEST, SPLITS, shares

RAW = Path("data/raw")
SPLIT = Path("data/split")
METRICS = Path("metrics/split.json")


def main() -> None:
    settings = params.load()
    counts = {artist: len(list((RAW / artist).iterdir())) for artist in paintings.classes(RAW)}
    plan = plan_split(counts, settings.split)
    with outputs.whole_folder(SPLIT) as folder:
        for artist, parts in plan.items():
            split_class_dir_fixed(
                RAW / artist, folder, parts, settings.seed, prog_bar=None, group_prefix=None, group=None,
                move=False, formats=None,
            )  # fmt: skip
        totals = dict(zip(SPLITS, map(sum, zip(*plan.values(), strict=True)), strict=True))
        left_out = sorted(set(counts) - set(plan))
        untested = sorted(artist for artist, parts in plan.items() if parts[2] == 0)
        outputs.write_json(
            METRICS,
            {
                "artists": len(plan),
                **totals,
                "artists_never_tested": len(untested),
                "artists_left_out": len(left_out),
                "pictures_left_out": sum(counts[artist] for artist in left_out),
                "names_never_tested": untested,
                "names_left_out": left_out,
            },
        )
    say(", ".join(f"{split}: {count}" for split, count in totals.items()) + f" pictures of {len(plan)} artists")


def plan_split(counts: dict[str, int], settings: Split) -> dict[str, tuple[int, int, int]]:
    """Each artist's pictures in train, val and test.

    Raises:
        UserError: artists have fewer than three pictures, and split.too_small is `error`; or fewer than two
            artists are left.
    """
    small = {artist: count for artist, count in counts.items() if count < FEWEST}
    if small and settings.too_small == "error":
        names = ", ".join(f"{artist} ({count})" for artist, count in small.items())
        raise UserError(
            f"too few pictures to split: {names}; an artist needs {FEWEST}, one for each of train, val and test: "
            "add pictures, or set split.too_small to train_only or leave_out."
        )
    plan = {artist: shares(count, settings) for artist, count in counts.items() if artist not in small}
    if settings.too_small == "train_only":
        plan |= {artist: (count, 0, 0) for artist, count in small.items()}
    if len(plan) < 2 or all(parts[2] == 0 for parts in plan.values()):
        raise UserError(f"telling artists apart needs two of them, and one with {FEWEST} pictures or more.")
    return dict(sorted(plan.items()))


if __name__ == "__main__":
    run_stage(main)
