"""One function over files that nobody has checked, each where it may crash, hang or take memory without the run.

Decoders of pictures are native code, and old: a file made to break one ends its process. Here that process is a worker,
which is replaced. A second try tells a bad file from a machine in want of memory.
"""

import multiprocessing
import multiprocessing.util
import os
import resource
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
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

LONGEST = 60.0  # seconds for a file: a picture of 100 megapixels takes three
_AHEAD = 16  # files that wait or are worked on for each worker
_STDERR = 2
_LONGEST_TEMP_DIR = 70  # bytes: the address of a socket has 107, of which multiprocessing's own names take 32
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)


class LostError(UserError):
    """A file twice ended its worker, or took too long; in words that follow its name."""

    def __init__(self, reason: Literal["crashes_the_decoder", "takes_too_long"]):
        super().__init__(reason.replace("_", " "))
        self.reason = reason


class EndedError(UserError):
    """Workers are ended from outside: no file is to blame."""


class Sandbox:
    """Worker processes for such files, in a `with` block; what still runs at its end is stopped.

    Args:
        workers: how many processes.
        memory: bytes that each may hold; a file that needs more raises MemoryError there.
        preload: the module whose functions will be called, imported once for all workers.
        longest: seconds for a file.
    """

    def __init__(self, workers: int, memory: int, preload: str = __name__, longest: float = LONGEST):
        self._workers, self._memory, self._longest = workers, memory, longest
        self._preload = preload
        self._replacing = threading.Lock()
        self._pool = self._made()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | UserError]:
        """Yields function(item), or the UserError that it raised or a LostError, for each item in their order.

        Raises:
            EndedError: workers are ended from outside; and whatever else the function raises.
        """
        waiting = iter(items)
        ahead = deque((item, self._start(function, item)) for item in islice(waiting, _AHEAD * self._workers))
        while ahead:
            item, future = ahead.popleft()
            result: Result | UserError
            try:
                result = self._result(future, function, item)
            except EndedError:
                raise
            except UserError as error:
                result = error
            ahead.extend((item, self._start(function, item)) for item in islice(waiting, 1))
            yield result

    def call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Gives function(item); from any thread.

        Raises:
            LostError: the item was lost.
            EndedError: workers are ended from outside; and whatever the function raises.
        """
        return self._result(self._start(function, item), function, item)

    def _made(self) -> ProcessPool:
        # Forked from a process that has no threads: this one may have any.
        context = multiprocessing.get_context("forkserver")
        # It imports while this process goes on; without __main__ each worker would import that again.
        context.set_forkserver_preload([self._preload, "pebble.pool.process", "__main__"])
        workers.check_semaphores()
        short_temp_dir()
        # A worker that is stopped as it starts would say so with a traceback.
        with quiet():
            forkserver.ensure_running()
        return ProcessPool(self._workers, initializer=_prepare, initargs=(self._memory,), context=context)

    def _stop(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def _start(self, function: Callable[[Item], Result], item: Item) -> ProcessFuture[Result]:
        with self._replacing:
            try:
                return self._pool.schedule(function, args=(item,), timeout=self._longest)
            except RuntimeError:
                # pebble gives a pool up where a worker is ended that had nothing to do.
                self._stop()
                self._pool = self._made()
                return self._pool.schedule(function, args=(item,), timeout=self._longest)

    def _result(self, future: ProcessFuture[Result], function: Callable[[Item], Result], item: Item) -> Result:
        try:
            return self._waited(future)
        except (TimeoutError, ProcessExpired, BrokenProcessPool, CancelledError):
            # It may have been the machine and not the file.
            again = self._start(function, item)
        try:
            return self._waited(again)
        except TimeoutError:
            raise LostError("takes_too_long") from None
        except ProcessExpired as error:
            if error.exitcode not in _FROM_OUTSIDE:
                raise LostError("crashes_the_decoder") from None
        except (BrokenProcessPool, CancelledError):
            pass
        raise EndedError(
            "a worker process was ended from outside, and again, most often for want of memory; "
            "run it again, with fewer workers (REDARTE_WORKERS=1) if it happens again."
        )

    def _waited(self, future: ProcessFuture[Result]) -> Result:
        try:
            return future.result(_AHEAD * self._longest)
        except TimeoutError:
            if future.done():  # the pool itself ended it: the file takes too long
                raise
            # A worker that is ended at the moment in which it takes a file takes it with it, and nobody says so.
            raise CancelledError from None
        except TypeError as error:
            if isinstance(error.__cause__, RemoteTraceback):
                raise  # of the function
            # pebble gives the file to a pool that is being given up, and takes the closed channel for a bad argument.
            raise CancelledError from None


def short_temp_dir() -> None:
    """Sees to it that multiprocessing's sockets lie where their addresses are short enough.

    Raises:
        UserError: there is no such place.
    """
    if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_TEMP_DIR:
        there, tempfile.tempdir = tempfile.tempdir, "/tmp"
        try:
            multiprocessing.util.get_temp_dir()
        except OSError as error:
            raise UserError(f"TMPDIR is too long for a socket, and /tmp cannot be used ({error.strerror}).") from None
        finally:
            tempfile.tempdir = there
    else:
        multiprocessing.util.get_temp_dir()


def _prepare(memory: int) -> None:
    """Bounds what this process may hold, and keeps what decoders remark on broken files out of the log."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, most))
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDERR)
