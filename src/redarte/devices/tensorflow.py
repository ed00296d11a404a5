"""TensorFlow's devices, on one machine or several."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import tensorflow as tf

from redarte.devices.accelerator import Accelerator, Gpu
from redarte.devices.machines import machine


class TensorFlowAccelerator(Accelerator):
    """TensorFlow on all GPUs of all machines, or on the CPU. Batches come from the host's memory."""

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

    def distribute(self, batches: Callable[[range | None], Iterator[Any]]) -> Any:
        if self.count() == 1:
            return batches(None)

        def feed(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = self.count() // context.num_input_pipelines
            replicas = range(context.input_pipeline_id * local, (context.input_pipeline_id + 1) * local)
            parts = tuple(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in next(batches(replicas)))
            return tf.data.Dataset.from_generator(lambda: batches(replicas), output_signature=parts).prefetch(2)

        return self.strategy.distribute_datasets_from_function(feed)

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, tf.errors.ResourceExhaustedError)

    def is_lost(self, error: Exception) -> bool:
        return isinstance(error, tf.errors.UnavailableError | tf.errors.AbortedError)

    def all_gather(self, numbers: Sequence[float]) -> Any:
        each = self.strategy.run(lambda: tf.constant([numbers], tf.float32))
        return self.strategy.gather(each, axis=0).numpy()

    @cached_property
    def strategy(self) -> tf.distribute.Strategy:
        """All GPUs of this machine and of the machines in TF_CONFIG; else TensorFlow's default device.

        It must be created before TensorFlow computes anything, or other machines cannot be reached; it waits for them.
        """
        if machine()[1] > 1:
            return _MultiWorkerStrategy()
        return tf.distribute.MirroredStrategy() if len(self.gpus()) > 1 else tf.distribute.get_strategy()


class _MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy for several machines, with the calls that Keras 3.15 makes."""

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        if isinstance(value, tuple):
            # A batch, whose shapes Keras asks for before the first step.
            return tf.nest.map_structure(lambda part: self.experimental_local_results(part)[0], value)
        # Keras reduces losses and metrics along an axis; they are scalars.
        scalar = self.experimental_local_results(value)[0].shape.rank == 0
        return super().reduce(reduce_op, value, None if scalar else axis)


ACCELERATOR = TensorFlowAccelerator()
