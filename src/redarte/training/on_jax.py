"""JAX's devices, on one machine."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np

from redarte.training.accelerator import Accelerator, Gpu
from redarte.training.backend import keras


class Own(Accelerator):
    """JAX's. It compiles everything by XLA, and has no steps without."""

    cpu_takes_bfloat16 = False  # slower than float32 there, where TensorFlow is twice as fast

    def gpus(self) -> list[Gpu]:
        found = [device for device in self._devices() if device.platform == "gpu"]
        return [Gpu(device.device_kind, float(getattr(device, "compute_capability", 0))) for device in found]

    def prepare(self, deterministic: bool) -> None:
        flags = os.environ.get("XLA_FLAGS", "")
        if deterministic and "deterministic_ops" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()

    def use_cpu(self) -> None:
        jax.config.update("jax_default_device", jax.local_devices(backend="cpu")[0])

    def compiles(self, wish: bool | str) -> bool:
        return True

    def count(self) -> int:
        return len(self._devices())

    def scope(self) -> AbstractContextManager[Any]:
        # From here on, and not within the scope alone: Keras deals out each batch of a fit by it.
        if self.count() > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        return nullcontext()

    def free_memory(self) -> float:
        told = self._devices()[0].memory_stats() or {}
        return float(told.get("bytes_limit", 0) - told.get("bytes_in_use", 0))

    def put(self, pixels: np.ndarray) -> Any:
        return _OnGpu(jax.device_put(pixels, self._devices()[0]))

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)

    def _devices(self) -> list[Any]:
        chosen = jax.config.jax_default_device
        return jax.local_devices() if chosen is None else [chosen]


class _OnGpu:
    """An array that is indexed by compiled code, in a tenth of the time of JAX's own indexing."""

    def __init__(self, array: Any):
        self._array = array
        self._take = jax.jit(lambda array, places: array.at[places].get(mode="promise_in_bounds"))

    def __getitem__(self, places: np.ndarray) -> Any:
        return self._take(self._array, places)
