"""TensorFlow's devices."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import tensorflow as tf

from redarte.devices.interface import Accelerator, Gpu


class TensorFlowAccelerator(Accelerator):
    """TensorFlow on all GPUs, or on the CPU. Batches come from the host's memory."""

    can_leave_gpu = False

    def gpus(self) -> list[Gpu]:
        details = map(tf.config.experimental.get_device_details, tf.config.get_visible_devices("GPU"))
        return [
            Gpu(detail.get("device_name", "GPU"), float("{}.{}".format(*detail.get("compute_capability", (0, 0)))))
            for detail in details
        ]

    def prepare(self, deterministic: bool) -> None:
        if deterministic:
            tf.config.experimental.enable_op_determinism()

    def use_cpu(self) -> None:
        tf.config.set_visible_devices([], "GPU")

    def count(self) -> int:
        return int(self.strategy.num_replicas_in_sync)

    def scope(self) -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = self.strategy.scope()
        return scope

    def distribute(self, batches: Callable[[bool], Iterator[Any]]) -> Any:
        if self.count() == 1:
            return batches(False)

        def feed(_context: tf.distribute.InputContext) -> tf.data.Dataset:
            parts = tuple(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in next(batches(True)))
            return tf.data.Dataset.from_generator(lambda: batches(True), output_signature=parts).prefetch(2)

        return self.strategy.distribute_datasets_from_function(feed)

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, tf.errors.ResourceExhaustedError)

    @cached_property
    def strategy(self) -> tf.distribute.Strategy:
        """All GPUs; else TensorFlow's default device."""
        return tf.distribute.MirroredStrategy() if len(self.gpus()) > 1 else tf.distribute.get_strategy()


ACCELERATOR = TensorFlowAccelerator()
