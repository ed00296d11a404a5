"""One function over many pictures, on all the cores that this process may use."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from redarte.runtime.console import progress
from redarte.runtime.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
_SECONDS_AFTER = 1.0  # that a worker may outlive its parent


def count() -> int:
    """How many worker processes to use: REDARTE_WORKERS, else every core that this process may use.

    An environment variable and no parameter, because it changes no byte of any output.

    Raises:
        UserError: it is no such number, or this machine can have no worker processes.
    """
    wish = os.environ.get("REDARTE_WORKERS", "")
    if wish and (not wish.isdecimal() or int(wish) < 1):
        raise UserError(f"REDARTE_WORKERS is {wish!r}; set it to a number of processes, 1 or more.")
    if wish != "1":
        check_semaphores()
    # Imported where it is needed: `redarte predict` of one picture does without.
    import joblib

    return int(wish or joblib.cpu_count())


def map_parallel(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> Iterator[Result]:
    """Yields function(item) for each item, in the order of the items, with progress.

    Args:
        function: a picklable function; it runs in another process when there is more than one worker.
        items: one entry a picture.
        label: what the progress bar says.

    Raises:
        UserError: a worker process was ended from outside; and whatever the function raises.
    """
    processes = min(count(), max(len(items), 1))
    import joblib

    with joblib.parallel_config("loky", initializer=_end_with, initargs=(os.getpid(),)):
        parallel = joblib.Parallel(n_jobs=processes, return_as="generator")
    results = parallel(joblib.delayed(function)(item) for item in items)
    try:
        yield from progress(results, len(items), label)
    except joblib.externals.loky.process_executor.TerminatedWorkerError:
        raise UserError(
            f"{label}: a worker process was ended from outside, most often for want of memory; "
            "run it again, with fewer workers (REDARTE_WORKERS=1) if it happens again."
        ) from None


def check_semaphores() -> None:
    """Raises UserError where processes cannot share semaphores: in some containers."""
    try:
        multiprocessing.get_context("fork").Lock()
    except (OSError, ImportError) as error:
        raise UserError(
            f"worker processes need /dev/shm, which cannot be used here ({error}): start the container with a tmpfs "
            "there, as docker does by itself."
        ) from None


def _end_with(parent: int) -> None:
    """Sees to it that this worker ends when its parent does: one that is killed cannot end its workers itself."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_AFTER)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
