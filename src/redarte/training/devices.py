"""The devices that learn: which there are, in which precision and whether by XLA, and what they can hold.

What a backend has of its own stands in on_tensorflow, on_jax and on_torch.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from redarte.params import Train
from redarte.runtime.console import say
from redarte.runtime.errors import UserError
from redarte.training import backend, trial
from redarte.training.accelerator import Accelerator
from redarte.training.backend import keras
from redarte.training.machines import machine

_own: Accelerator = importlib.import_module(f"redarte.training.on_{backend.NAME}").Own()
_SLACK = 1.1  # a compiled step is used unless it is slower by more than this: times vary
_MEMORY_SHARE = 0.5  # of what is free on the GPU, for decoded pictures


def precision(wish: str) -> str:
    """The Keras dtype policy to train in.

    Args:
        wish: train.precision. auto takes mixed_bfloat16 where the GPU (compute capability 8 or more) or,
            without a GPU, the CPU (avx512_bf16 or AMX) computes with it directly, mixed_float16 on older
            GPUs with tensor cores (7), and float32 elsewhere, where the others would be emulated.
    """
    if wish != "auto":
        return wish
    gpus = _own.gpus()
    if gpus:
        # With GPUs of several kinds, the least of them decides.
        least = min(gpu.capability for gpu in gpus)
        return "mixed_bfloat16" if least >= 8 else "mixed_float16" if least >= 7 else "float32"
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text(encoding="utf-8").split() if cpu.exists() else []
    return "mixed_bfloat16" if _own.cpu_takes_bfloat16 and {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def gpu_names() -> list[str]:
    """The models of the GPUs that the backend uses; none where it computes on the CPU."""
    return [gpu.name for gpu in _own.gpus()]


def facts() -> dict[str, str]:
    """Where a network is trained, for metrics/train_<network>.json."""
    return {"backend": backend.NAME, "device": (gpu_names() or ["CPU"])[0]}


def prepare(seed: int, settings: Train, build: trial.Build = trial.small) -> bool:
    """Seeds everything that draws random numbers, and decides between GPU and CPU, by trying a step on the GPU.

    To be called before anything is computed.

    Args:
        build: the network to try.

    Returns:
        Whether steps are to be compiled: by XLA, or under PyTorch by its own compiler.

    Raises:
        UserError: train.device or train.jit asks for what cannot be had here, or TF_CONFIG does.
    """
    machines = machine()[1]
    if machines > 1 and backend.NAME != "tensorflow":
        raise UserError(
            f"TF_CONFIG names {machines} machines, and {backend.NAME} learns on one; unset TF_CONFIG, or KERAS_BACKEND."
        )
    if settings.jit is False and _own.compiles(False):
        raise UserError(f"train.jit is false, and {backend.NAME} has no steps that are not compiled; set it to auto.")
    _own.prepare(settings.deterministic)
    backend.set_seed(seed)
    if settings.device == "cpu":
        _own.use_cpu()
    elif settings.device == "gpu" and not _own.gpus():
        raise UserError(
            f"train.device is gpu, and {backend.NAME} sees none here: `redarte doctor` says what is missing; or set it "
            "to auto."
        )
    on_gpu = bool(_own.gpus())
    if _own.tries(settings.jit, on_gpu):
        return _compiles(trial.run(build, settings, precision(settings.precision)), settings)
    if on_gpu:
        _compiles(trial.here(), settings)
    return _own.compiles(settings.jit)


def count() -> int:
    """How many devices learn together, those of other machines among them. Other machines are waited for."""
    return _own.count()


def scope() -> AbstractContextManager[Any]:
    """Within it a network is built and compiled for all devices."""
    return _own.scope()


@contextmanager
def one_device() -> Iterator[None]:
    """Within it a network is built, or used, on one device alone."""
    kept = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(kept)


def deal(batches: Callable[[range | None], Iterator[Any]]) -> Any:
    """What a network is fitted to, on all devices.

    Args:
        batches: by the devices whose parts of each batch are wanted, one after the other; by None, whole batches.
    """
    return _own.deal(batches)


def resident(pixels: np.ndarray) -> Any:
    """Pictures where a network sees them soonest: on the GPU, if it is one and they fit there; else as they are."""
    fits = _own.count() == 1 and pixels.nbytes <= _MEMORY_SHARE * _own.free_memory()
    return _own.put(pixels) if _own.gpus() and fits else pixels


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device had too little memory."""
    return _own.is_out_of_memory(error)


def is_lost(error: Exception) -> bool:
    """Whether another machine could not be reached any more."""
    # What is lost between this machine's own devices is not a person's to mend.
    return machine()[1] > 1 and _own.is_lost(error)


def of_the_first(numbers: Sequence[float]) -> list[float]:
    """The numbers that the first machine passes here, on every machine; all of them have to ask."""
    return gathered(numbers)[0]


def gathered(numbers: Sequence[float]) -> list[list[float]]:
    """What each machine passes here, in their order, as float32; all of them have to ask."""
    machines = machine()[1]
    if machines == 1:
        return [list(numbers)]
    rows = _own.gathered(numbers)
    # As many rows a machine as it has devices.
    return [list(map(float, row)) for row in rows[:: len(rows) // machines]]


def _compiles(outcome: trial.Outcome, settings: Train) -> bool:
    """Whether steps are to be compiled after a trial; turns to the CPU where nothing could be computed."""
    name = (gpu_names() or ["CPU"])[0]
    if outcome.plain is None:
        sentence = f"{backend.NAME} cannot compute on the {name} here ({outcome.reason})"
        if settings.device == "gpu" or not gpu_names():
            raise UserError(f"train.device is {settings.device}, and {sentence}; set it to auto to train on the CPU.")
        say(f"{sentence}: training on the CPU")
        _own.use_cpu()
        return _own.compiles(settings.jit)
    if settings.jit is False:
        return False
    if outcome.compiled is None:
        sentence = f"{backend.NAME} cannot compile steps for the {name} ({outcome.reason})"
        if settings.jit is True:
            raise UserError(f"train.jit is true, and {sentence}; set it to auto.")
        say(f"{sentence}: training without")
        return False
    # Keras does not compile for several of TensorFlow's devices either.
    if settings.jit is True or _own.count() > 1:
        return settings.jit is True
    if outcome.compiled > _SLACK * outcome.plain:
        say(f"compiled steps are slower on the {name}: training without")
        return False
    return True
