"""The interface of a Keras backend's devices, with the answers for one CPU."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from redarte.devices.backend import keras


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        capability: the CUDA compute capability (9.0 for an H100); 0 for a GPU that is not NVIDIA's.
    """

    name: str
    capability: float


class Accelerator:
    """The devices of one Keras backend.

    Attributes:
        fast_bfloat16_on_cpu: whether a CPU with bfloat16 instructions trains faster in mixed_bfloat16.
        can_leave_gpu: whether `use_cpu` works after the GPU has computed something.
        always_compiles: whether every training step is compiled, whatever train.jit says.
    """

    fast_bfloat16_on_cpu = True
    can_leave_gpu = True
    always_compiles = False

    def gpus(self) -> list[Gpu]:
        """Returns the GPUs of this machine that are used."""
        raise NotImplementedError

    def prepare(self, deterministic: bool) -> None:
        """Configures the backend before anything is computed."""

    def use_cpu(self) -> None:
        """Computes on the CPU from now on."""
        raise NotImplementedError

    def count(self) -> int:
        """Returns how many devices train together."""
        return 1

    def scope(self) -> AbstractContextManager[Any]:
        """Returns the context in which a model is built and compiled for all devices."""
        return nullcontext()

    def distribute(self, batches: Callable[[bool], Iterator[Any]]) -> Any:
        """Returns the data to fit a model to, on all devices.

        Args:
            batches: makes the batches; for True, the parts of each batch for the devices, one after the other.
        """
        return batches(False)

    def free_memory(self) -> float:
        """Returns the bytes on the GPU that images may occupy."""
        return 0

    def put(self, pixels: np.ndarray) -> Any:
        """Copies images to the GPU.

        Args:
            pixels: (n, side, side, 3), uint8.
        """
        return keras.ops.convert_to_tensor(pixels)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Returns whether a device ran out of memory."""
        raise NotImplementedError
