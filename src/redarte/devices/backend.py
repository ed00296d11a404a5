"""Keras on the backend that KERAS_BACKEND names, else TensorFlow: `from redarte.devices.backend import keras`.

The only module that imports Keras. The stages set KERAS_BACKEND from params.yaml (`Params.keras_backend`) before they
import this module. The imports are quiet: the libraries write a page about CPU instructions and missing CUDA drivers to
stderr before any log level applies. `redarte doctor` reports the relevant part.
"""

import importlib
import importlib.util
import logging
import os
import sys
from typing import Any

from redarte.params import BACKENDS
from redarte.runtime.console import quiet

NAME = os.environ.get("KERAS_BACKEND") or "tensorflow"
if NAME not in BACKENDS:
    sys.exit(
        f"redarte: KERAS_BACKEND is {NAME!r}; set it to {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, or unset it."
    )
if importlib.util.find_spec(NAME) is None:
    sys.exit(
        f"redarte: the Keras backend {NAME} (train.backend or KERAS_BACKEND) is not installed; type "
        f"`make install BACKEND={NAME}`, or choose another."
    )

# Settings of the user's other programs (keras.json, TensorFlow's environment variables) would change the results.
os.environ["KERAS_BACKEND"] = NAME
for _name in ("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "TF_USE_LEGACY_KERAS"):
    os.environ.pop(_name, None)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The GPU may be shared: its memory is allocated as needed, and not all of it at the start.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

with quiet():
    import keras

    native: Any = importlib.import_module(NAME)

VERSION: str = native.__version__
# JAX has no 64-bit numbers by default, nor has PyTorch on Apple GPUs; TensorFlow computes what is exported.
WIDEST = "float64" if NAME == "tensorflow" else "float32"

keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")
# Warnings for developers of the backend, about retracing, and about GPUs, which `redarte doctor` reports.
for _name in BACKENDS:
    logging.getLogger(_name).setLevel(logging.ERROR)


def set_seed(seed: int) -> None:
    """Seeds every random number generator.

    Args:
        seed: 0 to 2**32 - 1.
    """
    if NAME != "tensorflow":
        # Keras would import TensorFlow, if it is installed, to seed it too: that takes seconds.
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        keras.utils.set_random_seed(seed)
    finally:
        if NAME != "tensorflow":
            del sys.modules["tensorflow"]


__all__ = ["NAME", "VERSION", "WIDEST", "keras", "native", "quiet", "set_seed"]
