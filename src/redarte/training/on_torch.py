"""PyTorch's devices, of which Keras trains on one."""

import os
import warnings

import torch

from redarte.training.accelerator import Accelerator, Gpu
from redarte.training.backend import keras


class Own(Accelerator):
    """PyTorch's."""

    _on_cpu = False

    def gpus(self) -> list[Gpu]:
        if not self._on_cpu and torch.cuda.is_available():
            name, several = torch.cuda.get_device_name(), torch.cuda.device_count()
            capability = float("{}.{}".format(*torch.cuda.get_device_capability()))
            return [Gpu(name if several == 1 else f"{name} (1 of {several})", capability)]
        return [Gpu("Apple GPU", 0)] if not self._on_cpu and torch.backends.mps.is_available() else []

    def prepare(self, deterministic: bool) -> None:
        if deterministic:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        # What has no deterministic way is done in another, without a word.
        warnings.filterwarnings("ignore", message=".*deterministic")
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.benchmark = not deterministic

    def tries(self, wish: bool | str, on_gpu: bool) -> bool:
        # Its compiler needs a C++ compiler, and more.
        return wish is True

    def use_cpu(self) -> None:
        self._on_cpu = True
        # From here on: this is never left.
        keras.device("cpu").__enter__()

    def free_memory(self) -> float:
        return float(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0

    def is_out_of_memory(self, error: Exception) -> bool:
        # On the CPU it is a RuntimeError like others.
        return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
