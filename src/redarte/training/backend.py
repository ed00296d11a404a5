"""TensorFlow and Keras, imported quietly: `from redarte.training.backend import keras, tf`.

On import TensorFlow's libraries write a page about CPU instructions and absent CUDA drivers straight to the
process's error stream, before any log level is heard. `redarte doctor` tells what matters of it.
"""

import os

from redarte.runtime.console import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# What a person's other programs set (keras.json, KERAS_BACKEND, a way to silence a message of TensorFlow's) would give
# other numbers here, or none.
os.environ["KERAS_BACKEND"] = "tensorflow"
for _name in ("TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "TF_USE_LEGACY_KERAS"):
    os.environ.pop(_name, None)


with quiet():
    import keras
    import tensorflow as tf

keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")
# Its warnings about retracing are for those who write TensorFlow programs.
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "quiet", "tf"]
