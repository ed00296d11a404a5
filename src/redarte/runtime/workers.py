"""Parallel work: one function over many items on all cores, and work that is started ahead of its results."""

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from redarte.runtime.console import progress, quiet_libraries
from redarte.runtime.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Started = TypeVar("Started")
_PARENT_CHECK = 1.0  # seconds between two checks whether the parent process still runs


def count() -> int:
    """Returns the number of worker processes: REDARTE_WORKERS, else every core that this process may use.

    This is an environment variable and not a parameter, because it changes no byte of any output.
    """
    requested = os.environ.get("REDARTE_WORKERS", "")
    if requested and (not requested.isdecimal() or int(requested) < 1):
        raise UserError(f"REDARTE_WORKERS is {requested!r}; set it to a number of processes, 1 or more.")
    if requested != "1":
        check_semaphores()
    # Imported here, because `redarte predict` of one image does not need it.
    import joblib

    return int(requested or joblib.cpu_count())


def map_parallel(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> Iterator[Result]:
    """Applies a function to each item on all cores, with progress.

    Args:
        function: a picklable function; it runs in another process when there is more than one worker.

    Yields:
        function(item), in the order of the items.
    """
    processes = min(count(), max(len(items), 1))
    import joblib

    with joblib.parallel_config("loky", initializer=_exit_with_parent, initargs=(os.getpid(),)):
        parallel = joblib.Parallel(n_jobs=processes, return_as="generator")
    results = parallel(joblib.delayed(function)(item) for item in items)
    try:
        yield from progress(results, len(items), label)
    except joblib.externals.loky.process_executor.TerminatedWorkerError:
        raise UserError(
            f"{label}: a worker process was killed from outside, usually because memory ran out; run the command "
            "again, with fewer workers (REDARTE_WORKERS=1) if the problem persists."
        ) from None


def look_ahead(start: Callable[[Item], Started], items: Iterable[Item], count: int) -> Iterator[tuple[Item, Started]]:
    """Starts the work on items before their results are needed.

    Args:
        count: how many items are in progress beside the yielded one; 1 or more.

    Yields:
        Each item and what `start` returned for it, in the order of the items.
    """
    remaining = iter(items)
    window = deque((item, start(item)) for item in islice(remaining, count))
    while window:
        oldest = window.popleft()
        window.extend((item, start(item)) for item in islice(remaining, 1))
        yield oldest


def check_semaphores() -> None:
    """Checks that processes can share semaphores, which some containers do not allow."""
    try:
        multiprocessing.get_context("fork").Lock()
    except (OSError, ImportError) as error:
        raise UserError(
            f"worker processes need /dev/shm, which cannot be used here ({error}): start the container with a tmpfs on "
            "/dev/shm, as docker does by default."
        ) from None


def _exit_with_parent(parent: int) -> None:
    """Ends this worker when its parent process has ended: a parent that is killed cannot stop its workers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK)
        os._exit(1)

    quiet_libraries()
    threading.Thread(target=watch, daemon=True).start()
