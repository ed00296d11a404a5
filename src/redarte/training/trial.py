"""Steps on trial: whether a device computes, and whether steps are quicker once they are compiled.

`python -m redarte.training.trial <file>` is the process that tries what a file says, and may die of it.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from redarte.params import Train
from redarte.runtime.errors import first_line
from redarte.training import jobs
from redarte.training.backend import keras

# Gives a network as it is before training, by its dtype policy.
Build = Callable[[str], Any]
_STEPS = 10
_SECONDS = 300  # XLA compiles a network of hundreds of layers in a minute


@dataclass(frozen=True)
class Outcome:
    """What a trial found.

    Attributes:
        plain, compiled: seconds of a step as it is and compiled; None where it failed.
        reason: why the first that failed did; empty where both went well.
    """

    plain: float | None
    compiled: float | None
    reason: str = ""


def small(policy: str) -> Any:
    """A network with a convolution, to try a device with."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(8, 3, dtype=policy),
            keras.layers.Flatten(dtype=policy),
            keras.layers.Dense(2, activation="softmax", dtype="float32"),
        ]
    )


def here() -> Outcome:
    """Tries a device in this process."""
    try:
        keras.ops.convert_to_numpy(small("float32")(np.zeros((1, 16, 16, 3), np.float32)))
    except Exception as error:
        # A driver that is too old, kernels that are missing: each library has exceptions of its own.
        return Outcome(None, None, first_line(error))
    return Outcome(0.0, 0.0)


def run(build: Build, settings: Train, policy: str) -> Outcome:
    """Tries steps of a network in a process of its own: first as they are, then compiled."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "asked")
        asked.write_bytes(cloudpickle.dumps((build, settings, policy)))
        environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "redarte.training.trial", str(asked)],
                text=True, capture_output=True, timeout=_SECONDS, env=environment,
            )  # fmt: skip
            out, reason = done.stdout, _reason(done)
        except subprocess.TimeoutExpired as late:
            out, reason = (late.stdout or b"").decode(), f"it took longer than {_SECONDS} s"
    seconds = [*map(float, out.split()), None, None]
    return Outcome(seconds[0], seconds[1], reason if seconds[1] is None else "")


def _reason(done: "subprocess.CompletedProcess[str]") -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process that tried it ended with {done.returncode}"


def _try(asked: Path) -> None:
    """Prints the seconds of a step as it is, and then compiled."""
    build, settings, policy = cloudpickle.loads(asked.read_bytes())
    for jit in (False, True) if settings.jit else (False,):
        network = jobs.compile_network(build(policy), settings, policy, steps=1, jit=jit)
        pictures = np.zeros((settings.batch_size, *network.input_shape[1:]), np.uint8)
        labels = np.eye(network.output_shape[1], dtype=np.float32)[np.zeros(len(pictures), int)]
        network.train_on_batch(pictures, labels)  # compiles
        started = time.perf_counter()
        for _ in range(_STEPS):
            network.train_on_batch(pictures, labels)
        print((time.perf_counter() - started) / _STEPS, flush=True)


def _told(error: Exception) -> str:
    """What Keras wraps: it begins with the layer, and comes in colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()
    return next((line for line in lines if line.strip() and not line.startswith("Exception enc")), type(error).__name__)


if __name__ == "__main__":
    try:
        _try(Path(sys.argv[1]))
    except Exception as error:
        from redarte.training import devices

        if not devices.is_out_of_memory(error):
            sys.exit(_told(error))
        # It computes; how much is too much the training itself will say.
        print(0.0, 0.0)
