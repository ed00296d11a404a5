"""Real processes that die, hang and take memory."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import psutil
import pytest
from pebble import ProcessFuture

from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import Sandbox, TaskFailedError, WorkersKilledError

MEMORY = 2**30


def work(item: str) -> str:
    """What a decoder may do to its process: crash, hang or allocate."""
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "abort":
        os.abort()
    if item == "hang":
        time.sleep(600)
    if item == "large":
        return str(len(bytearray(4 * MEMORY)))
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "wrong":
        raise UserError("is wrong")
    return item.upper()


def die_once(mark: Path) -> str:
    """Dies at the first try, as on a machine in want of memory."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "whole"


def test_a_file_that_kills_its_worker_is_the_only_one_lost() -> None:
    items = ["a", "crash", "b", "hang", "wrong", "abort", "c", *map(str, range(50))]
    with Sandbox(2, MEMORY, timeout=0.5) as sandbox:
        results = list(sandbox.map(work, items))
    message = {item: str(result) for item, result in zip(items, results, strict=True)}
    assert [result.reason for result in results if isinstance(result, TaskFailedError)] == [
        "crashes_the_decoder", "takes_too_long", "crashes_the_decoder",
    ]  # fmt: skip
    assert message["wrong"] == "is wrong"
    assert all(message[item] == item.upper() for item in items if item not in ("crash", "hang", "wrong", "abort"))


def test_the_memory_of_a_file_is_limited() -> None:
    with Sandbox(1, MEMORY) as sandbox:
        with pytest.raises(MemoryError):
            sandbox.call(work, "large")
        assert sandbox.call(work, "a") == "A"


def workers() -> list[psutil.Process]:
    """The processes that decode: the children of multiprocessing's fork server."""
    found = []
    for process in psutil.Process().children(recursive=True):
        # One may end while it is looked at.
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() != os.getpid():
                found.append(process)
    return found


def test_idle_workers_that_are_killed_are_replaced() -> None:
    with Sandbox(2, MEMORY) as sandbox:
        assert sandbox.call(work, "a") == "A"
        for worker in workers():
            worker.kill()
        psutil.wait_procs(workers(), timeout=10)
        time.sleep(0.5)
        assert sandbox.call(work, "b") == "B"
        assert list(sandbox.map(work, ["c", "d"])) == ["C", "D"]


def test_a_file_that_no_worker_takes_is_not_reported_as_slow() -> None:
    with Sandbox(2, MEMORY, timeout=0.2) as sandbox:
        assert sandbox.call(work, "a") == "A"
        stopped = workers()
        for worker in stopped:
            worker.suspend()
        try:
            with pytest.raises(WorkersKilledError):
                sandbox.call(work, "b")
        finally:
            for worker in stopped:
                worker.resume()


def test_a_closed_pool_is_not_reported_as_a_bad_file() -> None:
    """pebble takes the channel that it is closing for an argument of the wrong type; a function may raise the same.

    It happens between two instructions of pebble's, so the future is made as pebble leaves it.
    """
    future: ProcessFuture[str] = ProcessFuture()
    future.set_exception(TypeError("'NoneType' object cannot be interpreted as an integer"))
    with Sandbox(1, MEMORY) as sandbox:
        with pytest.raises(CancelledError):
            sandbox._wait(future)
        with pytest.raises(TypeError):
            sandbox.call(len, 3)  # type: ignore[arg-type]


def test_workers_that_are_killed_repeatedly_are_not_reported_as_a_bad_file() -> None:
    done = threading.Event()

    def end_them() -> None:
        while not done.is_set():
            for worker in workers():
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            time.sleep(0.05)

    # A worker that is ended as it takes the item takes it with it: then it is waited for many times as long.
    with Sandbox(2, MEMORY, timeout=2) as sandbox:
        ending = threading.Thread(target=end_them)
        ending.start()
        try:
            with pytest.raises(WorkersKilledError):
                sandbox.call(work, "hang")
        finally:
            done.set()
            ending.join()
        assert sandbox.call(work, "a") == "A"


def alone(code: str) -> "subprocess.CompletedProcess[str]":
    """Runs code with a Sandbox in a separate process."""
    code = f"from redarte.runtime.sandbox import Sandbox\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_decoder_warnings_are_not_logged() -> None:
    done = alone(
        "import os, functools\nwith Sandbox(1, 2**30) as box: box.call(functools.partial(os.write, 2), b'JPEG')"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux")
def test_starting_and_stopping_workers_log_nothing() -> None:
    """A worker that is stopped as it starts prints a traceback, in one run of a hundred."""
    listing = "[os.readlink(f'/proc/{child.pid}/fd/2') for child in psutil.Process().children() if child.children()]"
    done = alone(f"import os, psutil\nwith Sandbox(1, 2**30) as box: box.call(abs, -3); print({listing})")
    assert (done.stdout, done.stderr) == ("['/dev/null']\n", "")


def test_a_lower_limit_of_the_process_is_kept() -> None:
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (2**29, 2**29))\n"
    done = alone(f"{limited}with Sandbox(1, 2**30) as box: print(box.call(abs, -3))")
    assert done.stdout == "3\n", done.stderr


def test_a_worker_that_is_killed_from_outside_loses_no_file(tmp_path: Path) -> None:
    with Sandbox(1, MEMORY) as sandbox:
        assert sandbox.call(die_once, tmp_path / "mark") == "whole"
        with pytest.raises(WorkersKilledError, match="killed from outside"):
            list(sandbox.map(work, ["a", "killed", "b"]))
