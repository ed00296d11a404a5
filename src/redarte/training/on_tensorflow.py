"""TensorFlow's devices, on one machine or several."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import tensorflow as tf

from redarte.training.accelerator import Accelerator, Gpu
from redarte.training.machines import machine


class Own(Accelerator):
    """TensorFlow's. Batches come from the host's memory, a few ahead."""

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

    def tries(self, wish: bool | str, on_gpu: bool) -> bool:
        # XLA's compiler ends the process that it fails in; and a GPU that was used once cannot be left alone any more.
        return on_gpu

    def count(self) -> int:
        return int(self.strategy.num_replicas_in_sync)

    def scope(self) -> AbstractContextManager[Any]:
        scoped: AbstractContextManager[Any] = self.strategy.scope()
        return scoped

    def deal(self, batches: Callable[[range | None], Iterator[Any]]) -> Any:
        if self.count() == 1:
            return batches(None)

        def feed(context: tf.distribute.InputContext) -> tf.data.Dataset:
            here = self.count() // context.num_input_pipelines
            mine = range(context.input_pipeline_id * here, (context.input_pipeline_id + 1) * here)
            parts = tuple(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in next(batches(mine)))
            return tf.data.Dataset.from_generator(lambda: batches(mine), output_signature=parts).prefetch(2)

        return self.strategy.distribute_datasets_from_function(feed)

    def is_out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, tf.errors.ResourceExhaustedError)

    def is_lost(self, error: Exception) -> bool:
        return isinstance(error, tf.errors.UnavailableError | tf.errors.AbortedError)

    def gathered(self, numbers: Sequence[float]) -> Any:
        each = self.strategy.run(lambda: tf.constant([numbers], tf.float32))
        return self.strategy.gather(each, axis=0).numpy()

    @cached_property
    def strategy(self) -> tf.distribute.Strategy:
        """All GPUs of this machine and of those in TF_CONFIG; else the one device that TensorFlow takes by itself.

        To be made before TensorFlow computes anything, or it cannot reach other machines, which are waited for.
        """
        if machine()[1] > 1:
            return _Machines()
        return tf.distribute.MirroredStrategy() if len(self.gpus()) > 1 else tf.distribute.get_strategy()


class _Machines(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy for several machines, as Keras 3.15 calls it."""

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        if isinstance(value, tuple):
            # A batch, of which Keras wants to know the shapes before the first step.
            return tf.nest.map_structure(lambda part: self.experimental_local_results(part)[0], value)
        # Keras asks for the mean of losses and metrics along an axis, and they have none.
        scalar = self.experimental_local_results(value)[0].shape.rank == 0
        return super().reduce(reduce_op, value, None if scalar else axis)
