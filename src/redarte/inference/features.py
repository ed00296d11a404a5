"""The moments of an image: what the cheap rest of a model is computed from, after its expensive trunk.

A model with a pretrained backbone spends nearly all of its time in the backbone, whose result for an image is always
the same. The moments (`models.layers.Moments`) are kept in a cache by the content of the image, so that a corrected
label, another fold or `redarte label-issues` after a training computes no image again.
"""

import platform
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime

from redarte.images import dataset
from redarte.images.dataset import Dataset
from redarte.inference.sessions import compute
from redarte.runtime import provenance, workers
from redarte.runtime.cache import Cache
from redarte.runtime.console import progress

MOMENTS = "moments"  # the name of the output, and of the layer
_GROUP = 16
_WINDOW = 8  # batches: among so many images, a batch finds one for each of its places
# What decides the moments of an image, beside the weights of the trunk.
_CODE = ("images/decoding", "models", "export", "inference")


def cache(layers: str, engine: str | None) -> Cache:
    """Returns the cache of what some layers compute.

    Args:
        layers: a hash of the layers up to the moments, or to the descriptor.
        engine: what computes them, with its version; None: arrays of any engine and machine are accepted.
    """
    kind = f"{layers}-{provenance.code_digest(*_CODE)[:16]}"
    return Cache(kind, None if engine is None else [engine, platform.machine(), _processor(), workers.count()])


def groups(
    images: Dataset, stored: Cache, compute: Callable[[np.ndarray], np.ndarray], label: str
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the moments of all images in order, in groups of 16, and how many of a group count.

    An image is always computed in a batch of the same size and at the same place: the last digits of its moments depend
    on these, and not on the other images in the batch. So they are the same whatever the cache has.

    Args:
        compute: maps images (batch, side, side, 3), uint8, to moments (batch, features), float32.

    Yields:
        Moments (16, features), float32; the last group is padded.
    """
    size = dataset.inference_batch_size(images.side)
    each = progress(_each(images, stored, compute, size), len(images), label)
    for start in range(0, len(images), _GROUP):
        group = [next(each) for _ in range(min(_GROUP, len(images) - start))]
        yield np.stack(group + group[:1] * (_GROUP - len(group))), len(group)
    next(each, None)  # the end of the progress bar


def _each(
    images: Dataset, stored: Cache, compute: Callable[[np.ndarray], np.ndarray], size: int
) -> Iterator[np.ndarray]:
    names = images.content_hashes
    pending = OrderedDict.fromkeys(index for index, name in enumerate(names) if not stored.has(name))
    ahead: dict[int, np.ndarray] = {}  # computed in the batch of an earlier image
    for index, name in enumerate(names):
        found = ahead.pop(index, None)
        if found is None:
            found = stored.read(name)
        if found is None:
            # Each image is computed at its own place, which decides the last digits as the size of the batch does.
            batch: dict[int, int] = {}
            for other in [index, *islice(pending, _WINDOW * size)]:
                batch.setdefault(int(names[other][:8], 16) % size, other)
            for other in batch.values():
                pending.pop(other, None)
            pixels = images.batch(np.array(list(batch.values())))[0]
            padded = np.repeat(pixels[:1], size, axis=0)
            padded[list(batch)] = pixels
            moments = compute(padded)
            for place, other in batch.items():
                stored.write(names[other], moments[place])
                ahead[other] = np.array(moments[place])
            found = ahead.pop(index)
        yield found


class Graph:
    """An exported model, computed for the images of the project.

    Args:
        trunk: a hash of its layers up to the output `moments`; None where it has no such output.
        descriptor: a hash of its layers up to the output `descriptor`; None as for the trunk.
    """

    def __init__(
        self, content: bytes, session: onnxruntime.InferenceSession, trunk: str | None, descriptor: str | None
    ):
        self._content, self._session, self._trunk, self._descriptor = content, session, trunk, descriptor

    def described(self, images: Dataset, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the outputs `descriptor` and `features` for all images, by any engine."""
        if self._descriptor is None:
            descriptors, embeddings = self.outputs(["descriptor", "features"], images, label)
            return descriptors, embeddings
        stored = cache(self._descriptor, None)
        rows = [stored.read(name) for name in images.content_hashes]
        missing = [index for index, row in enumerate(rows) if row is None]
        if missing:
            parts = self.outputs(["descriptor", "features"], images.subset(np.array(missing)), label, any_engine=True)
            for index, row in zip(missing, np.concatenate(parts, axis=1), strict=True):
                rows[index] = row
        width = next(output.shape[1] for output in self._session.get_outputs() if output.name == "features")
        both = np.stack([row for row in rows if row is not None])
        return both[:, :-width], both[:, -width:]

    def outputs(self, names: list[str], images: Dataset, label: str, any_engine: bool = False) -> list[np.ndarray]:
        """Returns some of the outputs for all images.

        Args:
            any_engine: whether moments that Keras has computed, or another machine, are accepted.
        """
        return [np.concatenate(arrays) for arrays in zip(*self._parts(names, images, label, any_engine), strict=True)]

    def _parts(self, names: list[str], images: Dataset, label: str, any_engine: bool) -> Iterator[list[np.ndarray]]:
        if self._trunk is None:
            for batch in progress(images.batches(), 0, label, "batches"):
                yield compute(self._session, names, batch)
            return
        stored = cache(self._trunk, None if any_engine else f"onnxruntime {onnxruntime.__version__}")
        rest = _after_moments(self._content, names)
        for moments, count in groups(images, stored, lambda batch: compute(self._session, [MOMENTS], batch)[0], label):
            yield [array[:count] for array in rest.run(names, {MOMENTS: moments})]


def _after_moments(content: bytes, names: list[str]) -> onnxruntime.InferenceSession:
    """The part of a graph that computes outputs from the moments."""
    # Not in the small install, which has no project.
    import onnx
    from onnx.utils import Extractor

    part: onnx.ModelProto = Extractor(onnx.load_from_string(content)).extract_model([MOMENTS], names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _processor() -> str:
    """The model of the processor: the last digits of a result may depend on its instructions."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor()
