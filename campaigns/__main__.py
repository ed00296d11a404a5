"""python -m campaigns NAME [--seed 0] [--count 100]: attacks, and their outcomes."""

import argparse
import importlib
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import campaigns

NAMES = sorted(module.name for module in pkgutil.iter_modules(campaigns.__path__) if not module.name.startswith("_"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m campaigns", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seed", type=int, default=0, help="of the first attack; the next has the next one")
    parser.add_argument("--count", type=int, default=100, help="how many attacks")
    chosen = parser.parse_args()
    # As an exception, so that `timeout` ends it with its counts and without leaving anything.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = run(chosen.name, range(chosen.seed, chosen.seed + chosen.count))
    sys.exit(1 if failed else 0)


def run(name: str, seeds: range) -> list[int]:
    """Runs one attack for each seed, prints each failure as it comes, and the counts at the end, also of an early one.

    Returns:
        The seeds of the attacks that a promise did not hold against.
    """
    campaign = importlib.import_module(f"{campaigns.__name__}.{name}")
    outcomes: Counter[str] = Counter()
    made, failed = 0, []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder, campaign.prepared(Path(folder)) as target:
        try:
            for seed in seeds:
                try:
                    outcomes.update(campaign.attack(target, seed))
                except Exception:
                    failed.append(seed)
                    print(f"FAILED: python -m campaigns {name} --seed {seed} --count 1", flush=True)
                    traceback.print_exc()
                made += 1
        finally:
            for outcome, times in sorted(outcomes.items()):
                print(f"{times:8} {outcome}")
            held = f"{len(failed)} failed" if failed else "all held"
            seconds = time.monotonic() - started
            print(f"{made} attacks of {name} from seed {seeds.start} in {seconds:.0f} s, {held}", flush=True)
    return failed


if __name__ == "__main__":
    main()
