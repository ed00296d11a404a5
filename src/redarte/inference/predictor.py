"""Predictions by onnxruntime, which starts in under a second, where TensorFlow takes ten.

Probabilities are calibrated: the logits are divided by the model's temperature, which is fitted on val (Guo et al., "On
calibration of modern neural networks", 2017); this does not change the predicted class. An image is out of distribution
if its features are farther from those of the training images than those of nearly all val images
(`export.calibration`).
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import onnxruntime
from pydantic import Field, TypeAdapter

from redarte.images.decoding import ImageArray
from redarte.inference.sessions import compute, opened
from redarte.runtime.errors import UserError, first_line

if TYPE_CHECKING:
    from redarte.images.dataset import Dataset
    from redarte.inference.features import Graph

_PREDICTED = ["logits", "similarity", "ood_score"]


@dataclass(frozen=True)
class Metadata:
    """The metadata of an .onnx file.

    Attributes:
        model: its name, such as red1.
        description: of the model, for its model card.
        license: of the weights, for its model card.
        data: the source of the images that it was trained on (fetch.source).
        jpeg_quality: of the images of data/resized that it was trained on; None: it was trained on the originals.
        artists: its classes, in the order of its outputs.
        coverage: the share of val images with an out-of-distribution score up to the threshold.
        ood_threshold: an image with a higher score is out of distribution.
        training_images: the identities, "<artist>/<stem>", of the images it was trained on, without copies.
        trunk: a hash of its layers up to the output `moments`; None where it has no such output.
        descriptor: a hash of its layers up to the output `descriptor`; None as for the trunk.
    """

    model: str
    description: str
    license: str
    data: str
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None
    artists: Annotated[list[str], Field(min_length=1)]
    val_accuracy: float
    temperature: Annotated[float, Field(gt=0)]
    coverage: float
    ood_threshold: float
    training_images: list[str]
    trunk: str | None = None
    descriptor: str | None = None


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for n images.

    Attributes:
        logits: (n, artists), float64.
        similarity: (n, training images), float32: cosine similarities, -1 to 1.
        ood_score: (n,), float32: the distance to the training images, 0 or more.
    """

    metadata: Metadata
    logits: np.ndarray
    similarity: np.ndarray
    ood_score: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The predicted classes, those with the highest logit: (n,), int64, indices into metadata.artists."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def probabilities(self) -> np.ndarray:
        """The uncalibrated probabilities: (n, artists), rows add up to 1."""
        return softmax(self.logits)

    @property
    def calibrated(self) -> np.ndarray:
        """The calibrated probabilities: (n, artists), rows add up to 1."""
        return softmax(self.logits / self.metadata.temperature)

    @property
    def in_distribution(self) -> np.ndarray:
        """Whether each image is similar to the training images: (n,), bool."""
        return np.asarray(self.ood_score <= self.metadata.ood_threshold)

    def nearest(self, index: int, most: int) -> list[tuple[str, float]]:
        """Returns the training images most similar to one of the images, with the similarity, most similar first.

        Returns:
            Identities, "<artist>/<stem>", and cosine similarities.
        """
        order = np.argsort(-self.similarity[index], kind="stable")[:most]
        return [(self.metadata.training_images[other], float(self.similarity[index, other])) for other in order]

    def ranking(self, index: int, most: int | None = None) -> list[tuple[str, float]]:
        """Returns the most probable artists of one of the images with their calibrated probabilities, descending.

        Args:
            most: how many artists; None: all.
        """
        # By logits, as in `metrics.rank`: probabilities may underflow to the same value.
        order = np.argsort(-self.logits[index], kind="stable")[:most]
        probabilities = self.calibrated[index]
        return [(self.metadata.artists[artist], float(probabilities[artist])) for artist in order]

    def as_json(self, index: int, most: int) -> dict[str, Any]:
        """Returns one of the predictions as JSON values; probabilities are calibrated."""
        ranking = [
            {"artist": artist, "probability": round(probability, 6)}
            for artist, probability in self.ranking(index, most)
        ]
        return {**ranking[0], "top": ranking, "in_distribution": bool(self.in_distribution[index])}


class Predictor:
    """A model in an .onnx file that redarte exported.

    Attributes:
        side: of the square images that it takes, in px.
    """

    def __init__(self, path: Path):
        self._path, self._file = path, _identity(path)
        self._session = opened(path)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map["redarte"]
            self.metadata = TypeAdapter(Metadata).validate_json(metadata, strict=True)
            self.side = int(self._session.get_inputs()[0].shape[1])
        except (KeyError, TypeError, ValueError, IndexError):
            if _is_older(self._session):
                raise UserError(
                    f"{path} was exported by an older version of redarte; export it again with `dvc repro`."
                ) from None
            raise UserError(f"{path} is not a model that redarte exported; create it with `dvc repro`.") from None
        self._weights: np.ndarray | None = None

    def reloaded(self) -> "Predictor":
        """Returns this model, or a new one if its file has been replaced."""
        return self if _identity(self._path) == self._file else Predictor(self._path)

    def predict(self, batches: Iterable[np.ndarray]) -> Predictions:
        """Predicts batches of images, which are released one after the other.

        Args:
            batches: (b, side, side, 3), uint8, RGB, each.

        Returns:
            The predictions for all images, in order.
        """
        # Without batches the arrays are empty: not every model accepts an empty batch.
        empty = [
            np.empty((0, len(names)), np.float32) for names in (self.metadata.artists, self.metadata.training_images)
        ]
        parts = [[*empty, np.empty(0, np.float32)]]
        parts += [self.run(_PREDICTED, batch) for batch in batches]
        try:
            return self._predictions([np.concatenate(arrays) for arrays in zip(*parts, strict=True)])
        except ValueError:
            raise UserError(
                f"{self._path} has outputs for other artists than its metadata; create it again with `dvc repro`."
            ) from None

    def predict_dataset(self, images: "Dataset", label: str) -> Predictions:
        """Predicts images of the project, as `predict`; those of a model with a trunk are computed once."""
        return self._predictions(self._checked(lambda: self._graph().outputs(_PREDICTED, images, label)))

    def described(self, images: "Dataset", label: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the outputs `descriptor` and `features` for images of the project: (n, m) and (n, features)."""
        descriptors, embeddings = self._checked(lambda: [*self._graph().described(images, label)])
        return descriptors, embeddings

    def reader(self, max_pixels: float) -> Callable[[Path | bytes], ImageArray]:
        """Returns the function that reads an unchecked file as the model sees it; see `checks.read_resized`."""
        # The stages read checked files.
        from redarte.ingestion import checks

        quality = self.metadata.jpeg_quality
        return partial(checks.read_resized, side=self.side, max_pixels=max_pixels, jpeg_quality=quality)

    def _graph(self) -> "Graph":
        # Not in the small install.
        from redarte.inference.features import Graph

        return Graph(self._path.read_bytes(), self._session, self.metadata.trunk, self.metadata.descriptor)

    def _predictions(self, outputs: list[np.ndarray]) -> Predictions:
        logits, similarity, ood_score = outputs
        if not (np.isfinite(logits).all() and np.isfinite(ood_score).all()):
            raise UserError(f"{self._path} predicts NaN or infinite values; train and export it again.")
        return Predictions(self.metadata, logits.astype(np.float64), similarity, ood_score)

    def evidence(self, image: ImageArray, artist: int) -> np.ndarray:
        """Returns the evidence map: which regions of an image speak for an artist, and which against.

        The sum of the map is the artist's logit minus a bias: HiResCAM (Draelos and Carin, "Use HiResCAM instead of
        Grad-CAM", 2020), which is Grad-CAM without averaging the gradient over positions. For a model that ends in
        Flatten and one dense layer, that average highlights positions that the model does not use. The contribution of
        standard deviations is split exactly among the positions, where a gradient would only be a local approximation.

        Args:
            image: (side, side, 3), uint8, RGB.

        Returns:
            (rows, columns), float32.
        """
        feature_maps = self.run(["feature_maps"], image[None])[0][0]
        if self._weights is None:
            self._weights = self.run(["weights"], image[None])[0]
        return np.asarray((feature_maps * self._weights[..., artist]).sum(axis=-1))

    def run(self, outputs: list[str], images: np.ndarray) -> list[np.ndarray]:
        """Computes some of the outputs (see `export.onnx`), and nothing else.

        Args:
            images: (n, side, side, 3), uint8, RGB.
        """
        return self._checked(lambda: compute(self._session, outputs, images))

    def _checked(self, compute: Callable[[], list[np.ndarray]]) -> list[np.ndarray]:
        try:
            return compute()
        except UserError:
            raise
        except Exception as error:
            # onnxruntime has its own exceptions, as in `sessions.opened`.
            raise UserError(f"{self._path} is not a model that redarte exported ({first_line(error)}).") from None


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities, each row adding up to 1.

    Args:
        logits: (n, artists), float.
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _is_older(session: onnxruntime.InferenceSession) -> bool:
    """Whether a file has metadata of an older version of redarte."""
    with suppress(KeyError, ValueError, RecursionError):
        found = json.loads(session.get_modelmeta().custom_metadata_map["redarte"])
        names = {field.name for field in fields(Metadata)}
        return isinstance(found, dict) and "artists" in found and not names <= found.keys()
    return False


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes if a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
