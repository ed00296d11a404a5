"""Console output of stages and commands: progress, one-sentence errors, and signals."""

import errno
import getpass
import io
import json
import logging
import os
import signal
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from redarte.runtime import outputs, paths, provenance
from redarte.runtime.errors import UNPRINTABLE, UserError, escaped

Item = TypeVar("Item")
LOG_INTERVAL = 30.0  # seconds between two lines of progress in a log


def run_stage(stage: Callable[[], None]) -> None:
    """Runs a stage as a program, and exits with 1 after an error, 130 after Ctrl-C and 143 after SIGTERM."""
    name = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    setup_process()
    # During imports, Ctrl-C ends the process without a message (stages/__init__.py).
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        outputs.check_links()
        stage()
        provenance.write()
    except UserError as error:
        _fail(name, str(error), 1)
    except KeyboardInterrupt as interrupt:
        _fail(name, str(interrupt) or "interrupted; `dvc repro` starts this stage again.", 130)
    except MemoryError:
        _fail(name, "this machine does not have enough free memory; close programs or lower resize.side.", 1)
    except OSError as error:
        missing = str(error.filename)
        if error.errno == errno.ENOENT and Path(missing.partition("/")[0]) in paths.OUTPUTS:
            _fail(name, f"{missing} is missing; create it with `dvc repro`, or get it with `dvc pull`.", 1)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(name, f"the disk is full ({error.filename or Path.cwd()}); free some space and run the stage again.", 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Returns a context that discards what native code writes to stderr; exceptions are not affected."""
    sys.stderr.flush()
    original, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(null)


def progress(items: Iterable[Item], total: int, label: str, unit: str = "images") -> Iterator[Item]:
    """Yields the items, with a progress bar on a terminal and a line every 30 seconds in a log.

    Args:
        total: the number of items; 0 where it is unknown.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=f" {unit}", dynamic_ncols=True, smoothing=0.05)
        return
    started = reported = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - reported >= LOG_INTERVAL:
            reported, rate = now, done / (now - started)
            left = (
                f" of {total}, {rate:.0f} a second, {(total - done) / rate:.0f} s left"
                if total
                else f", {rate:.0f} a second"
            )
            say(f"{label}: {done}{left}")


def say(text: str) -> None:
    """Prints a text immediately, so that it keeps its place among DVC's own output."""
    print(escaped(text), flush=True)


def warn(text: str) -> None:
    """Prints a text on stderr, after the name of the program."""
    print(f"redarte: {escaped(text)}", file=sys.stderr, flush=True)


def json_line(values: dict[str, Any]) -> str:
    """Returns a JSON object on one line, with control characters as JSON escapes."""
    line = json.dumps(values, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], line)


def quiet_libraries() -> None:
    """Silences warnings about malformed tags of images, and lets OpenCV use one thread, in this process and those that
    it starts: workers are processes, one for each core.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"


def markup(text: str) -> str:
    """Returns a text for rich that is shown as it is."""
    from rich.markup import escape

    return str(escape(escaped(text)))


def setup_process() -> None:
    """Prepares the process of a command: SIGTERM exits with 143, names are escaped, and user and home exist."""
    signal.signal(signal.SIGTERM, _terminated)
    quiet_libraries()
    _ensure_user_and_home()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _ensure_user_and_home() -> None:
    """Gives a user id without an entry in /etc/passwd (docker run --user) a name and a home: DVC asks for them."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "somebody"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_private_folder(Path(tempfile.gettempdir(), f"redarte-{os.getuid()}")))


def _private_folder(path: Path) -> Path:
    """The folder, or a new one with a random name where somebody else may have created it or can write to it."""
    with suppress(OSError):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return path
    return Path(tempfile.mkdtemp(prefix="redarte-"))


def _fail(name: str, message: str, code: int) -> None:
    print(f"redarte {name}: {escaped(message)}", file=sys.stderr, flush=True)
    sys.exit(code)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)
