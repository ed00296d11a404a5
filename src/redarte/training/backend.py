"""TensorFlow and Keras, imported quietly: `from redarte.training.backend import keras, tf`.

On import TensorFlow's libraries write a page about CPU instructions and absent CUDA drivers straight to the
process's error stream, before any log level is heard. `redarte doctor` tells what matters of it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def quiet() -> Iterator[None]:
    """Sends what native code writes to stderr nowhere; exceptions pass as always."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with quiet():
    import keras
    import tensorflow as tf

# Its warnings about retracing are for those who write TensorFlow programs.
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "quiet", "tf"]
