"""Worker processes for untrusted files: a file may crash, hang or exhaust its worker without ending the run.

Image decoders are native code: a malicious file ends the process. A worker that ended is replaced, and its file is
tried a second time, which tells a bad file from a machine that is short of memory.
"""

import multiprocessing
import multiprocessing.util
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from types import TracebackType
from typing import Literal, Self, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool
from pebble.common.types import RemoteTraceback

from redarte.runtime import workers
from redarte.runtime.console import quiet
from redarte.runtime.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

TIMEOUT = 60.0  # seconds for a file: an image of 100 megapixels takes three
_FILES_PER_WORKER = 16  # files that wait or are processed for each worker
_STDERR = 2
_MAX_TEMP_DIR = 70  # bytes: a socket's address has 107, of which multiprocessing's own names take 32
_EXTERNAL_SIGNALS = (-signal.SIGKILL, -signal.SIGTERM)


class TaskFailedError(UserError):
    """A file ended its worker twice, or took too long. The message continues a sentence that names the file."""

    def __init__(self, reason: Literal["crashes_the_decoder", "takes_too_long"]):
        super().__init__(reason.replace("_", " "))
        self.reason = reason


class WorkersKilledError(UserError):
    """Workers are killed from outside; no file is the cause."""


class Sandbox:
    """A pool of worker processes, to be used in a `with` block; running work is stopped at its end.

    Args:
        memory: bytes that each may allocate; a file that needs more raises MemoryError there.
        preload: the module whose functions are called, imported once for all workers.
        timeout: seconds for a file.
    """

    def __init__(self, workers: int, memory: int, preload: str = __name__, timeout: float = TIMEOUT):
        self._workers, self._memory, self._timeout = workers, memory, timeout
        self._preload = preload
        self._replacing = threading.Lock()
        self._pool = self._new_pool()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | UserError]:
        """Applies a function to each item.

        Args:
            function: a picklable function.

        Yields:
            function(item), or the UserError that it raised or a TaskFailedError, in the order of the items.

        Raises:
            WorkersKilledError: workers are killed from outside.
        """
        started = workers.look_ahead(lambda item: self._start(function, item), items, _FILES_PER_WORKER * self._workers)
        for item, future in started:
            result: Result | UserError
            try:
                result = self._result(future, function, item)
            except WorkersKilledError:
                raise
            except UserError as error:
                result = error
            yield result

    def call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Applies a function to one item; may be called from any thread.

        Args:
            function: a picklable function.

        Returns:
            function(item).

        Raises:
            TaskFailedError: the item ended its worker twice, or took too long.
            WorkersKilledError: workers are killed from outside.
        """
        return self._result(self._start(function, item), function, item)

    def _new_pool(self) -> ProcessPool:
        # Forked from a server process without threads; this process may have threads.
        context = multiprocessing.get_context("forkserver")
        # The server imports while this process continues; without __main__ each worker would import it again.
        context.set_forkserver_preload([self._preload, "pebble.pool.process", "__main__"])
        workers.check_semaphores()
        short_temp_dir()
        # A worker that is stopped as it starts would print a traceback.
        with quiet():
            forkserver.ensure_running()
        return ProcessPool(self._workers, initializer=_prepare_worker, initargs=(self._memory,), context=context)

    def _stop(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def _start(self, function: Callable[[Item], Result], item: Item) -> ProcessFuture[Result]:
        with self._replacing:
            try:
                return self._pool.schedule(function, args=(item,), timeout=self._timeout)
            except RuntimeError:
                # pebble closes the pool when an idle worker is killed.
                self._stop()
                self._pool = self._new_pool()
                return self._pool.schedule(function, args=(item,), timeout=self._timeout)

    def _result(self, future: ProcessFuture[Result], function: Callable[[Item], Result], item: Item) -> Result:
        try:
            return self._wait(future)
        except (TimeoutError, ProcessExpired, BrokenProcessPool, CancelledError):
            # The machine may be the cause, and not the file.
            second = self._start(function, item)
        try:
            return self._wait(second)
        except TimeoutError:
            raise TaskFailedError("takes_too_long") from None
        except ProcessExpired as error:
            if error.exitcode not in _EXTERNAL_SIGNALS:
                raise TaskFailedError("crashes_the_decoder") from None
        except (BrokenProcessPool, CancelledError):
            pass
        raise WorkersKilledError(
            "worker processes were killed from outside twice, usually because memory ran out; run the command again, "
            "with fewer workers (REDARTE_WORKERS=1) if the problem persists."
        )

    def _wait(self, future: ProcessFuture[Result]) -> Result:
        try:
            return future.result(_FILES_PER_WORKER * self._timeout)
        except TimeoutError:
            if future.done():  # the pool ended the work: the file takes too long
                raise
            # A worker that is killed while it receives a file loses the file, and pebble does not report it.
            raise CancelledError from None
        except TypeError as error:
            if isinstance(error.__cause__, RemoteTraceback):
                raise  # raised by the function
            # pebble passes the file to a closing pool, and reports the closed channel as a bad argument.
            raise CancelledError from None


def short_temp_dir() -> None:
    """Makes multiprocessing create its sockets where their addresses are short enough."""
    if len(os.fsencode(tempfile.gettempdir())) > _MAX_TEMP_DIR:
        original, tempfile.tempdir = tempfile.tempdir, "/tmp"
        try:
            multiprocessing.util.get_temp_dir()
        except OSError as error:
            raise UserError(f"TMPDIR is too long for a socket, and /tmp cannot be used ({error.strerror}).") from None
        finally:
            tempfile.tempdir = original
    else:
        multiprocessing.util.get_temp_dir()


def _prepare_worker(memory: int) -> None:
    """Limits the memory of this process, and keeps decoder warnings about corrupt files out of the log."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory if hard_limit == resource.RLIM_INFINITY else min(memory, hard_limit)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard_limit))
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)
