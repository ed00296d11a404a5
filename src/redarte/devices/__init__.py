"""The devices that train: GPU or CPU, precision, compilation, distribution and memory.

What differs between the Keras backends is in tensorflow, jax and torch of this package.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from redarte.devices import backend
from redarte.devices.backend import keras
from redarte.devices.interface import Accelerator
from redarte.params import Train
from redarte.runtime.console import say
from redarte.runtime.errors import UserError, first_line

accelerator: Accelerator = importlib.import_module(f"redarte.devices.{backend.NAME}").ACCELERATOR
_MEMORY_SHARE = 0.5  # of the GPU's free memory, for decoded images


def precision(requested: str) -> str:
    """Returns the Keras dtype policy to train in.

    Args:
        requested: train.precision. auto means mixed_bfloat16 where the GPU (compute capability 8 or more) or, without a
            GPU, the CPU (avx512_bf16 or AMX) has instructions for it, mixed_float16 on older GPUs with tensor cores
            (7), and float32 elsewhere.
    """
    if requested != "auto":
        return requested
    gpus = accelerator.gpus()
    if gpus:
        # With several kinds of GPUs, the oldest decides.
        capability = min(gpu.capability for gpu in gpus)
        return "mixed_bfloat16" if capability >= 8 else "mixed_float16" if capability >= 7 else "float32"
    cpu = Path("/proc/cpuinfo")
    flags = set(cpu.read_text(encoding="utf-8").split()) if cpu.exists() else set()
    is_fast = accelerator.fast_bfloat16_on_cpu and {"avx512_bf16", "amx_bf16"} & flags
    return "mixed_bfloat16" if is_fast else "float32"


def gpu_names() -> list[str]:
    """Returns the models of the GPUs that the backend uses; none where it computes on the CPU."""
    return [gpu.name for gpu in accelerator.gpus()]


def facts() -> dict[str, str]:
    """Returns the backend and the device, for metrics/train_<model>.json."""
    return {"backend": backend.NAME, "device": (gpu_names() or ["CPU"])[0]}


def prepare(seed: int, settings: Train) -> None:
    """Seeds the random number generators, and chooses between GPU and CPU by trying a small step.

    Call it before anything is computed.
    """
    accelerator.prepare(settings.deterministic)
    if settings.device == "cpu":
        accelerator.use_cpu()
    elif settings.device == "gpu" and not accelerator.gpus():
        raise UserError(
            f"train.device is gpu, and {backend.NAME} finds no GPU: `redarte doctor` reports what is missing; or set "
            "train.device to auto."
        )
    if accelerator.gpus():
        _try_gpu(settings)
    if settings.jit:
        _try_compiling()
    backend.set_seed(seed)


@contextmanager
def one_device() -> Iterator[None]:
    """Returns a context in which a model runs on one device."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def to_device(pixels: np.ndarray) -> Any:
    """Copies images to the GPU, if there is one GPU and they fit in half of its free memory.

    Args:
        pixels: (n, side, side, 3), uint8.
    """
    fits = accelerator.count() == 1 and pixels.nbytes <= _MEMORY_SHARE * accelerator.free_memory()
    return accelerator.put(pixels) if accelerator.gpus() and fits else pixels


def _try_gpu(settings: Train) -> None:
    """Computes a small step on the GPU, and falls back to the CPU where that fails."""
    try:
        _step(jit=False)
    except Exception as error:
        # A driver that is too old, or kernels that are missing: each library has its own exceptions.
        problem = f"{backend.NAME} cannot compute on the {gpu_names()[0]} ({first_line(error)})"
        if settings.device == "gpu" or not accelerator.can_leave_gpu:
            raise UserError(
                f"train.device is {settings.device}, and {problem}; set train.device to cpu, or train.backend to "
                "another backend (docs/gpu.md)."
            ) from None
        say(f"{problem}: training on the CPU")
        accelerator.use_cpu()


def _try_compiling() -> None:
    try:
        _step(jit=True)
    except Exception as error:
        # PyTorch, for instance, needs a C++ compiler.
        raise UserError(
            f"train.jit is true, and {backend.NAME} cannot compile steps here ({first_line(error)}); set train.jit to "
            "false."
        ) from None


def _step(jit: bool) -> None:
    """Trains a small model with a convolution for one step."""
    with one_device():
        model = keras.Sequential(
            [
                keras.Input((16, 16, 3)),
                keras.layers.Conv2D(8, 3),
                keras.layers.Flatten(),
                keras.layers.Dense(2, activation="softmax"),
            ]
        )
        model.compile("adam", "categorical_crossentropy", jit_compile=jit or accelerator.always_compiles)
        model.train_on_batch(np.zeros((2, 16, 16, 3), np.float32), np.eye(2, dtype=np.float32))
