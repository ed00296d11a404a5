"""What devices.py asks a backend of Keras for, answered as for one machine with one CPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from redarte.training.backend import keras


@dataclass(frozen=True)
class Gpu:
    """A GPU: its model, and its CUDA compute capability (9.0 of an H100), 0 where it is not NVIDIA's."""

    name: str
    capability: float


class Accelerator:
    """What one backend of Keras has of its own."""

    cpu_takes_bfloat16 = True

    def gpus(self) -> list[Gpu]:
        """The GPUs of this machine that are used."""
        raise NotImplementedError

    def prepare(self, deterministic: bool) -> None:
        """Settles what has to be settled before anything is computed."""

    def use_cpu(self) -> None:
        """Leaves the GPUs alone."""
        raise NotImplementedError

    def tries(self, wish: bool | str, on_gpu: bool) -> bool:
        """Whether steps are tried in a process of their own, by train.jit."""
        return False

    def compiles(self, wish: bool | str) -> bool:
        """Whether steps are compiled where that is not tried, by train.jit."""
        return wish is True

    def count(self) -> int:
        """How many devices learn together."""
        return 1

    def scope(self) -> AbstractContextManager[Any]:
        """Within it a network is built and compiled for all devices."""
        return nullcontext()

    def deal(self, batches: Callable[[range | None], Iterator[Any]]) -> Any:
        """What a network is fitted to, on all devices: see `devices.deal`."""
        return batches(None)

    def free_memory(self) -> float:
        """The bytes on the GPU for pictures that stay there."""
        return 0

    def put(self, pixels: np.ndarray) -> Any:
        """Pictures (n, side, side, 3) on the GPU: what gives some of them by their places."""
        return keras.ops.convert_to_tensor(pixels)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether a device had too little memory."""
        raise NotImplementedError

    def is_lost(self, error: Exception) -> bool:
        """Whether another machine could not be reached any more."""
        return False

    def gathered(self, numbers: Sequence[float]) -> Any:
        """What each device of each machine passes here: (devices, numbers)."""
        return [numbers]
