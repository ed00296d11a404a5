"""What a person sees of a stage: progress while it works, one sentence when it cannot."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

from tqdm import tqdm

from redarte.errors import UserError

Item = TypeVar("Item")
LOG_EVERY = 30.0  # seconds between two lines of progress in a log
_REEXECUTED = "REDARTE_REEXECUTED"


def run_stage(stage: Callable[[], None], module: str) -> None:
    """Runs a stage as a program: plain sentences for a person's mistakes, and an exit code.

    Args:
        stage: does the work; raises UserError for what the user can mend.
        module: its name for `python -m`, for instance "redarte.stages.fetch".

    Exits with 1 after an error, with 130 after Ctrl-C and with 143 after SIGTERM.
    """
    _run_this_checkout(module)
    name = " ".join([module.rpartition(".")[2], *sys.argv[1:]])
    # As an exception, so that half-written outputs are cleared on the way out.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        stage()
    except UserError as error:
        _fail(name, str(error), 1)
    except KeyboardInterrupt as interrupt:
        _fail(name, str(interrupt) or "interrupted; `dvc repro` starts this stage again.", 130)
    except MemoryError:
        _fail(name, "this machine has too little free memory for it; close programs or lower resize.size.", 1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(name, f"the disk is full ({error.filename or Path.cwd()}); free some space and run it again.", 1)


def progress(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Passes items on, with a bar (rate, time left) on a terminal and a line now and then in a log."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, unit="picture", dynamic_ncols=True, smoothing=0.05)
        return
    started = told = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - told >= LOG_EVERY:
            told, rate = now, done / (now - started)
            say(f"{label}: {done} of {total}, {rate:.0f} a second, {(total - done) / rate:.0f} s left")


def say(line: str) -> None:
    """Prints a line at once, so that it stands in the right place beside DVC's own output."""
    print(line, flush=True)


def _fail(name: str, message: str, code: int) -> None:
    print(f"redarte {name}: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _run_this_checkout(module: str) -> None:
    """Starts the stage again from ./src where another checkout's code is the one that is installed.

    DVC hashes ./src and caches the outputs under that hash, so ./src is what must run: in a second clone
    that shares an environment, and in the temporary folder of a queued experiment.
    """
    here = Path("src/redarte").resolve()
    if not here.is_dir() or here == Path(__file__).resolve().parent or _REEXECUTED in os.environ:
        return
    path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, _REEXECUTED: "1"}
    sys.exit(subprocess.call([sys.executable, "-m", module, *sys.argv[1:]], env=environment))
