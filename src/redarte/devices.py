"""The devices that TensorFlow sees: how many are used, in which precision, and whether always alike."""

from pathlib import Path

from redarte.backend import keras, tf


def precision(wish: str) -> str:
    """The Keras dtype policy to train in.

    Args:
        wish: train.precision. auto takes mixed_bfloat16 where the GPU (compute capability 8 or more) or,
            without a GPU, the CPU (avx512_bf16 or AMX) computes with it directly, mixed_float16 on older
            GPUs with tensor cores (7), and float32 elsewhere, where the others would be emulated.
    """
    if wish != "auto":
        return wish
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # With GPUs of several kinds, the least of them decides.
        major = min(tf.config.experimental.get_device_details(gpu).get("compute_capability", (0,))[0] for gpu in gpus)
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text(encoding="utf-8").split() if cpu.exists() else []
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def gpu_names() -> list[str]:
    """The models of the GPUs that TensorFlow sees; none where it sees none."""
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def prepare(seed: int, deterministic: bool) -> tf.distribute.Strategy:
    """Seeds everything that draws random numbers, and gives the strategy to build and fit under."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    for gpu in tf.config.list_physical_devices("GPU"):
        # Take memory as it is needed: the GPU may be shared.
        tf.config.experimental.set_memory_growth(gpu, True)
    return strategy()


def strategy() -> tf.distribute.Strategy:
    """All of this machine's GPUs where it has several; else the one device that TensorFlow takes by itself."""
    return tf.distribute.MirroredStrategy() if len(gpu_names()) > 1 else tf.distribute.get_strategy()
