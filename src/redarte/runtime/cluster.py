"""One function over many pictures, on this machine or on a Ray cluster, whose machines share the project's folder.

The only module that imports ray. Plain tasks, because Ray itself repeats those that a lost machine took with it;
docs/scale.md has them beside joblib's backend for Ray and beside Ray Data.
"""

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import redarte
from redarte.runtime import outputs, workers
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
_ADDRESS = "RAY_ADDRESS"
_TOGETHER = 16  # pictures in a task: about a tenth of a second, where starting one takes a thousandth
_AHEAD = 4  # tasks that wait or run for each core of the cluster


def map_parallel(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> Iterator[Result]:
    """Yields function(item) for each item, in the order of the items, with progress.

    On the cluster that the environment variable RAY_ADDRESS names; on the cores of this machine where it names none. An
    environment variable and no parameter, because it changes no byte of any output.

    Args:
        function: a picklable function that reads and writes files of the project; it may be run twice for an item.
        items: one entry a picture.
        label: what the progress bar says.

    Raises:
        UserError: Ray is not installed, or its cluster cannot be reached, does not share the project's folder or is
            lost; as `workers.map_parallel`; and whatever the function raises.
    """
    if not os.environ.get(_ADDRESS):
        return workers.map_parallel(function, items, label)
    return progress(_on_ray(function, items, label), len(items), label)


def _on_ray(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> Iterator[Result]:
    ray = _installed(label)
    with outputs.scratch_folder(Path("data/ray")) as mark, _cluster(ray, label):
        each, function_there = ray.remote(_each), ray.put(function)
        parts = (items[start : start + _TOGETHER] for start in range(0, len(items), _TOGETHER))
        tasks = (each.remote(Path.cwd(), mark, function_there, part) for part in parts)
        try:
            waiting = deque(islice(tasks, max(1, int(ray.cluster_resources().get("CPU", 1))) * _AHEAD))
            while waiting:
                done = ray.get(waiting.popleft())
                waiting.extend(islice(tasks, 1))
                yield from done
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise UserError(
                f"{label}: the Ray cluster at {os.environ[_ADDRESS]} lost its machines ({type(error).__name__}); "
                "run it again, or unset RAY_ADDRESS."
            ) from None


def _each(root: Path, mark: Path, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """A task: the function over some of the items, in the project's folder, which is known by what stands in it now."""
    if not (root / mark).exists():
        raise UserError(
            f"{root} on {socket.gethostname()} is not the project's folder; every machine of the cluster must have it, "
            "shared, under the same path."
        )
    os.chdir(root)
    return [function(item) for item in items]


def _installed(label: str) -> Any:
    try:
        import ray
    except ImportError:
        raise UserError(
            f"{label}: {_ADDRESS} is set and Ray is missing; run `pip install -r requirements-ray.txt`, or unset it."
        ) from None
    return ray


@contextmanager
def _cluster(ray: Any, label: str) -> Iterator[None]:
    """The connexion to the cluster for the time of the block; what still runs at its end is stopped."""
    address = os.environ[_ADDRESS]
    # Every machine runs this very code, whatever it has installed.
    code = str(Path(redarte.__file__).parent)
    try:
        _knock(address)
        ray.init(address, runtime_env={"py_modules": [code]}, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(
            f"{label}: no Ray cluster answers at {address} ({_ADDRESS}): {reason}; start it, or unset RAY_ADDRESS."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nothing listens at a <host>:<port>, for which Ray itself would wait ten minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()
