"""What a person sees of a stage: progress while it works, one sentence when it cannot."""

import errno
import getpass
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from redarte.runtime import outputs
from redarte.runtime.errors import UserError

Item = TypeVar("Item")
LOG_EVERY = 30.0  # seconds between two lines of progress in a log


def run_stage(stage: Callable[[], None]) -> None:
    """Runs a stage as a program: plain sentences for a person's mistakes, and an exit code.

    Args:
        stage: does the work; raises UserError for what the user can mend.

    Exits with 1 after an error, with 130 after Ctrl-C and with 143 after SIGTERM.
    """
    name = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    settle()
    # While this module was imported Ctrl-C ended the process without a word (stages/__init__.py).
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        outputs.check_links()
        stage()
    except UserError as error:
        _fail(name, str(error), 1)
    except KeyboardInterrupt as interrupt:
        _fail(name, str(interrupt) or "interrupted; `dvc repro` starts this stage again.", 130)
    except MemoryError:
        _fail(name, "this machine has too little free memory for it; close programs or lower resize.side.", 1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(name, f"the disk is full ({error.filename or Path.cwd()}); free some space and run it again.", 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Sends what native code writes to stderr nowhere; exceptions pass as always."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def progress(items: Iterable[Item], total: int, label: str, unit: str = "pictures") -> Iterator[Item]:
    """Passes items on, with a bar (rate, time left) on a terminal and a line now and then in a log."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=f" {unit}", dynamic_ncols=True, smoothing=0.05)
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


def settle() -> None:
    """What a program settles first: how SIGTERM ends it, what an odd name looks like, and that it is somebody."""
    signal.signal(signal.SIGTERM, _terminated)
    _be_somebody()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _be_somebody() -> None:
    """Gives a user id that nobody made a user of (docker run --user) a name and a home: DVC and others ask for them."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "somebody"
    try:
        Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir(), f"redarte-{os.getuid()}")
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid == os.getuid():
            os.environ["HOME"] = str(home)


def _fail(name: str, message: str, code: int) -> None:
    print(f"redarte {name}: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)
