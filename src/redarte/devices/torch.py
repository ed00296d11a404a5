"""PyTorch's devices. Keras trains on one of them."""

import os
import warnings

import torch

from redarte.devices.backend import keras
from redarte.devices.interface import Accelerator, Gpu


class TorchAccelerator(Accelerator):
    """PyTorch on one GPU or on the CPU."""

    _on_cpu = False

    def gpus(self) -> list[Gpu]:
        if not self._on_cpu and torch.cuda.is_available():
            name, devices = torch.cuda.get_device_name(), torch.cuda.device_count()
            capability = float("{}.{}".format(*torch.cuda.get_device_capability()))
            return [Gpu(name if devices == 1 else f"{name} (1 of {devices})", capability)]
        return [Gpu("Apple GPU", 0)] if not self._on_cpu and torch.backends.mps.is_available() else []

    def prepare(self, deterministic: bool) -> None:
        if deterministic:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        # An operation without a deterministic version is used without a warning.
        warnings.filterwarnings("ignore", message=".*deterministic")
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.benchmark = not deterministic

    def use_cpu(self) -> None:
        self._on_cpu = True
        # Entered for the rest of the process.
        keras.device("cpu").__enter__()

    def free_memory(self) -> float:
        return float(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0

    def is_out_of_memory(self, error: Exception) -> bool:
        # On the CPU PyTorch raises a plain RuntimeError.
        return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


ACCELERATOR = TorchAccelerator()
