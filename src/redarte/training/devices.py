"""The devices that TensorFlow sees, here and on other machines: how many, in which precision, and whether always alike.

Several machines are TensorFlow's own business: each finds in the environment variable TF_CONFIG who the others are and
which of them it is, and they share the project's folder. The first of them writes the outputs.
"""

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from redarte.runtime.errors import UserError
from redarte.training.backend import keras, tf


def precision(wish: str) -> str:
    """The Keras dtype policy to train in.

    Args:
        wish: train.precision. auto takes mixed_bfloat16 where the GPU (compute capability 8 or more) or,
            without a GPU, the CPU (avx512_bf16 or AMX) computes with it directly, mixed_float16 on older
            GPUs with tensor cores (7), and float32 elsewhere, where the others would be emulated.
    """
    if wish != "auto":
        return wish
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # With GPUs of several kinds, the least of them decides.
        major = min(tf.config.experimental.get_device_details(gpu).get("compute_capability", (0,))[0] for gpu in gpus)
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text(encoding="utf-8").split() if cpu.exists() else []
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def gpu_names() -> list[str]:
    """The models of the GPUs that TensorFlow sees; none where it sees none."""
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def prepare(seed: int, deterministic: bool) -> None:
    """Seeds everything that draws random numbers, and takes memory as it is needed: the GPU may be shared."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def machine() -> tuple[int, int]:
    """Which of the machines of TF_CONFIG this is, from 0, and how many they are: (0, 1) without TF_CONFIG.

    Raises:
        UserError: TF_CONFIG does not say so.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 0, 1
    try:
        config = json.loads(text)
        chiefs, workers = (list(config["cluster"].get(kind, [])) for kind in ("chief", "worker"))
        number = config["task"]["index"] + (len(chiefs) if config["task"]["type"] == "worker" else 0)
        fits = set(config["cluster"]) <= {"chief", "worker"} and number in range(len(chiefs + workers))
    except (ValueError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise UserError(
            'TF_CONFIG is not of the form {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", '
            '"index": 0}}; write it so (docs/gpu.md), or unset it.'
        )
    return number, len(chiefs + workers)


def is_first() -> bool:
    """Whether this machine is the one that writes the outputs."""
    return machine()[0] == 0


@cache
def strategy() -> tf.distribute.Strategy:
    """All GPUs of this machine and of those in TF_CONFIG; else the one device that TensorFlow takes by itself.

    Other machines are waited for. To be called before TensorFlow computes anything, or it cannot reach them.
    """
    if machine()[1] > 1:
        return _Machines()
    return tf.distribute.MirroredStrategy() if len(gpu_names()) > 1 else tf.distribute.get_strategy()


def of_the_first(numbers: Sequence[float]) -> list[float]:
    """The numbers that the first machine passes here, on every machine; all of them have to ask."""
    return gathered(numbers)[0]


def gathered(numbers: Sequence[float]) -> list[list[float]]:
    """What each machine passes here, in their order, as float32; all of them have to ask."""
    if machine()[1] == 1:
        return [list(numbers)]
    reached = strategy()
    each = reached.run(lambda: tf.constant([numbers], tf.float32))
    rows = reached.gather(each, axis=0).numpy()
    # As many rows a machine as it has devices.
    return [list(map(float, row)) for row in rows[:: len(rows) // machine()[1]]]


class _Machines(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy for several machines, as Keras 3.15 calls it."""

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        if isinstance(value, tuple):
            # A batch, of which Keras wants to know the shapes before the first step.
            return tf.nest.map_structure(lambda part: self.experimental_local_results(part)[0], value)
        # Keras asks for the mean of losses and metrics along an axis, and they have none.
        scalar = self.experimental_local_results(value)[0].shape.rank == 0
        return super().reduce(reduce_op, value, None if scalar else axis)
