"""JAX's devices."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np

from redarte.devices.backend import keras
from redarte.devices.interface import Accelerator, Gpu


class JaxAccelerator(Accelerator):
    """JAX compiles every step by XLA."""

    fast_bfloat16_on_cpu = False  # slower than float32 there, where TensorFlow is twice as fast
    always_compiles = True

    def gpus(self) -> list[Gpu]:
        found = [device for device in self._devices() if device.platform == "gpu"]
        return [Gpu(device.device_kind, float(getattr(device, "compute_capability", 0))) for device in found]

    def prepare(self, deterministic: bool) -> None:
        flags = os.environ.get("XLA_FLAGS", "")
        if deterministic and "deterministic_ops" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()

    def use_cpu(self) -> None:
        jax.config.update("jax_default_device", jax.local_devices(backend="cpu")[0])

    def count(self) -> int:
        return len(self._devices())

    def scope(self) -> AbstractContextManager[Any]:
        # Set for the process and not for a scope: Keras splits each batch of a fit by it.
        if self.count() > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        return nullcontext()

    def free_memory(self) -> float:
        stats = self._devices()[0].memory_stats() or {}
        return float(stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0))

    def put(self, pixels: np.ndarray) -> Any:
        return _IndexedArray(jax.device_put(pixels, self._devices()[0]))

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)

    def _devices(self) -> list[Any]:
        chosen = jax.config.jax_default_device
        return jax.local_devices() if chosen is None else [chosen]


class _IndexedArray:
    """An array on the GPU with compiled indexing, which takes a tenth of the time of JAX's own."""

    def __init__(self, array: Any):
        self._array = array
        self._take = jax.jit(lambda array, indices: array.at[indices].get(mode="promise_in_bounds"))

    def __getitem__(self, indices: np.ndarray) -> Any:
        return self._take(self._array, indices)


ACCELERATOR = JaxAccelerator()
