"""One function over many images, on this machine or on a Ray cluster whose machines share the project's folder.

The only module that imports ray. It uses plain Ray tasks, because Ray itself repeats the tasks of a lost machine;
docs/scale.md compares them with joblib's Ray backend and with Ray Data.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from redarte.runtime import outputs, workers
from redarte.runtime.console import progress
from redarte.runtime.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
_ADDRESS = "RAY_ADDRESS"
_TASK_SIZE = 16  # images in a task: about 0.1 s of work, where starting a task takes 1 ms
_TASKS_PER_CORE = 4  # tasks that run or wait for each core of the cluster
_CONNECT_TIMEOUT = 5  # seconds


def map_parallel(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> Iterator[Result]:
    """Applies a function to each item, with progress, on a Ray cluster or on the cores of this machine.

    The environment variable RAY_ADDRESS names the cluster. It is not a parameter, because it changes no byte of any
    output.

    Args:
        function: a picklable function that reads and writes files of the project; it may run twice for an item.

    Yields:
        function(item), in the order of the items.
    """
    if not os.environ.get(_ADDRESS):
        return workers.map_parallel(function, items, label)
    return progress(_map_on_ray(function, items, label), len(items), label)


def _map_on_ray(function: Callable[[Item], Result], items: Sequence[Item], label: str) -> Iterator[Result]:
    ray = _import_ray(label)
    with outputs.scratch_folder(Path("data/ray")) as marker, _connection(ray, label):
        task, remote_function = ray.remote(_run_task), ray.put(function)
        parts = (items[start : start + _TASK_SIZE] for start in range(0, len(items), _TASK_SIZE))
        ahead = max(1, int(ray.cluster_resources().get("CPU", 1))) * _TASKS_PER_CORE
        try:
            for _, result in workers.look_ahead(
                lambda part: task.remote(Path.cwd(), marker, remote_function, part), parts, ahead
            ):
                yield from ray.get(result)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise UserError(
                f"{label}: the Ray cluster at {os.environ[_ADDRESS]} lost its machines ({type(error).__name__}); run "
                "the command again, or unset RAY_ADDRESS."
            ) from None


def _run_task(root: Path, marker: Path, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Applies the function to some items in the project's folder, which a marker file identifies."""
    if not (root / marker).exists():
        raise UserError(
            f"{root} on {socket.gethostname()} is not the project's folder; every machine of the cluster must share "
            "the folder under the same path."
        )
    os.chdir(root)
    return [function(item) for item in items]


def _import_ray(label: str) -> Any:
    try:
        import ray
    except ImportError:
        raise UserError(
            f"{label}: {_ADDRESS} is set and Ray is not installed; type python -m pip install 'redarte[ray]', or unset "
            f"{_ADDRESS}."
        ) from None
    return ray


@contextmanager
def _connection(ray: Any, label: str) -> Iterator[None]:
    """Connects to the cluster for the duration of the block; tasks that still run at its end are stopped."""
    address = os.environ[_ADDRESS]
    # Every machine runs the code of this checkout, whatever is installed there.
    code = str(Path(__file__).parents[1])
    try:
        _check_reachable(address)
        ray.init(address, runtime_env={"py_modules": [code]}, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(
            f"{label}: no Ray cluster responds at {address} ({_ADDRESS}): {reason}; start it, or unset {_ADDRESS}."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises OSError where nothing listens at <host>:<port>: Ray itself would wait for ten minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT).close()
