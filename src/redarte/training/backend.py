"""Keras on the backend that KERAS_BACKEND names, imported quietly: `from redarte.training.backend import keras`.

TensorFlow where it names none. On import its libraries write a page about CPU instructions and absent CUDA drivers
straight to the process's error stream, before any log level is heard. `redarte doctor` tells what matters of it.
"""

import importlib
import importlib.util
import logging
import os
import sys
from typing import Any

from redarte.runtime.console import quiet

NAMES = ("tensorflow", "jax", "torch")
# An environment variable and no parameter: what is learned is the same, but for what is rounded otherwise.
NAME = os.environ.get("KERAS_BACKEND") or "tensorflow"
if NAME not in NAMES:
    sys.exit(f"redarte: KERAS_BACKEND is {NAME!r}; set it to {', '.join(NAMES[:-1])} or {NAMES[-1]}, or unset it.")
if importlib.util.find_spec(NAME) is None:
    sys.exit(
        f"redarte: KERAS_BACKEND is {NAME}, which is not installed; type `make install BACKEND={NAME}`, or unset it."
    )

# What a person's other programs set (keras.json, a way to silence a message of TensorFlow's) would give other numbers
# here, or none.
os.environ["KERAS_BACKEND"] = NAME
for _name in ("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "TF_USE_LEGACY_KERAS"):
    os.environ.pop(_name, None)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The GPU may be shared: its memory is taken as it is needed, and not all of it, or three quarters, at once.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

with quiet():
    import keras

    native: Any = importlib.import_module(NAME)

VERSION: str = native.__version__
# JAX has no 64 bits by default, nor has PyTorch on a Mac's GPU; what is exported is computed by TensorFlow.
WIDEST = "float64" if NAME == "tensorflow" else "float32"

keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")
# Warnings for those who write programs for the backend: about retracing, and about GPUs that `redarte doctor` tells of.
for _name in NAMES:
    logging.getLogger(_name).setLevel(logging.ERROR)


def set_seed(seed: int) -> None:
    """Seeds everything that draws random numbers."""
    if NAME != "tensorflow":
        # Keras would import TensorFlow, where it is installed, to seed that too: seconds, and a page of remarks.
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        keras.utils.set_random_seed(seed)
    finally:
        if NAME != "tensorflow":
            del sys.modules["tensorflow"]


__all__ = ["NAME", "VERSION", "WIDEST", "keras", "native", "quiet", "set_seed"]
