"""Pictures -> predictions, by onnxruntime: TensorFlow takes ten seconds to start, and predictions take none of it.

Probabilities are calibrated: the logits are divided by the network's temperature, fitted on val pictures (Guo et al.,
"On calibration of modern neural networks", 2017), which changes how sure a prediction is and not which artist it names.
A picture is out of distribution where its features lie farther from those of the training pictures than those of
nearly all val pictures (`calibration.whitening`).
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
from pydantic import Field, TypeAdapter

from redarte.pictures.images import Picture
from redarte.runtime.errors import UserError, first_line

_LARGEST = 2 * 2**30  # bytes: what one ONNX file can hold


@dataclass(frozen=True)
class Metadata:
    """What a network's .onnx file says of itself.

    Attributes:
        network: its name, such as red1.
        description, license: of the network, for its model card.
        data: the source of the pictures that it was trained on (fetch.source).
        jpeg_quality: of the images of data/resized that it was trained on; None: it was trained on the originals.
        artists: its classes, in the order of its outputs.
        val_accuracy: the share of val pictures that it recognises.
        temperature: divides its logits.
        coverage: the share of val pictures whose out-of-distribution score does not pass the threshold.
        ood_threshold: a picture with a higher score is out of distribution.
        trained: "<artist>/<file>" of the pictures that it was trained on, without copies.
    """

    network: str
    description: str
    license: str
    data: str
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None
    artists: Annotated[list[str], Field(min_length=1)]
    val_accuracy: float
    temperature: Annotated[float, Field(gt=0)]
    coverage: float
    ood_threshold: float
    trained: list[str]


@dataclass(frozen=True)
class Predictions:
    """What a network predicts for n pictures.

    Attributes:
        logits: (n, artists), float64.
        similarity: (n, trained), float32: of each to each training picture, -1 to 1.
        ood_score: (n,), float32: how far each is from the training pictures, 0 or more.
    """

    metadata: Metadata
    logits: np.ndarray
    similarity: np.ndarray
    ood_score: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The predicted artists, those with the highest logit: (n,), int64, as indices into metadata.artists."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def probabilities(self) -> np.ndarray:
        """The probabilities as the network was trained to give them: (n, artists), rows adding up to 1."""
        return softmax(self.logits)

    @property
    def calibrated(self) -> np.ndarray:
        """Calibrated probabilities: (n, artists), rows adding up to 1."""
        return softmax(self.logits / self.metadata.temperature)

    @property
    def in_distribution(self) -> np.ndarray:
        """Whether each is like what the network was trained on: (n,), bool."""
        return np.asarray(self.ood_score <= self.metadata.ood_threshold)

    def nearest(self, index: int, most: int) -> list[tuple[str, float]]:
        """The training pictures most similar to one of the pictures, most similar first, with the similarity."""
        order = np.argsort(-self.similarity[index], kind="stable")[:most]
        return [(self.metadata.trained[place], float(self.similarity[index, place])) for place in order]


class Predictor:
    """A network in an .onnx file that `export` wrote.

    Raises:
        UserError: the file is missing, or is none that redarte wrote.
    """

    def __init__(self, path: Path):
        self._path = path
        self._session = _session(path)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map["redarte"]
            self.metadata = TypeAdapter(Metadata).validate_json(metadata, strict=True)
            self.side = int(self._session.get_inputs()[0].shape[1])
        except (KeyError, TypeError, ValueError, IndexError):
            if _is_older(self._session):
                raise UserError(
                    f"{path} was exported by an older version of redarte; export it again with `dvc repro`."
                ) from None
            raise UserError(f"{path} is not a network that redarte exported; make it with `dvc repro`.") from None
        self._weights: np.ndarray | None = None

    def predict(self, batches: Iterable[np.ndarray]) -> Predictions:
        """Predictions for batches of (b, side, side, 3) uint8 pictures, RGB, which are let go one after the other.

        Raises:
            UserError: the file is not as redarte exports them, which shows only now.
        """
        # Of no pictures: not every network can be asked about none.
        none = [np.empty((0, len(names)), np.float32) for names in (self.metadata.artists, self.metadata.trained)]
        parts = [[*none, np.empty(0, np.float32)]]
        parts += [self.run(["logits", "similarity", "ood_score"], batch) for batch in batches]
        try:
            logits, similarity, ood_score = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        except ValueError:
            raise UserError(
                f"{self._path} answers for other artists than it names; make it with `dvc repro`."
            ) from None
        if not (np.isfinite(logits).all() and np.isfinite(ood_score).all()):
            raise UserError(f"{self._path} predicts NaN or infinite values; train and export it again.")
        return Predictions(self.metadata, logits.astype(np.float64), similarity, ood_score)

    def evidence(self, picture: Picture, artist: int) -> np.ndarray:
        """The evidence map: where a picture speaks for an artist and where against, (rows, columns) float32.

        Its sum is the artist's logit, less a bias: HiResCAM (Draelos and Carin, "Use HiResCAM instead of Grad-CAM",
        2020), which is Grad-CAM without averaging the gradient over places. In a network that ends in Flatten and one
        dense layer, that average lights up places that the network does not look at. What deviations over places give
        to a logit is split up among the places exactly, where a gradient would only say what a small change does.
        """
        feature_maps = self.run(["feature_maps"], picture[None])[0][0]
        if self._weights is None:
            self._weights = self.run(["weights"], picture[None])[0]
        return np.asarray((feature_maps * self._weights[..., artist]).sum(axis=-1))

    def run(self, outputs: list[str], pictures: np.ndarray) -> list[np.ndarray]:
        """The named outputs of inference/export.py for a few pictures, computing nothing else."""
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        try:
            return list(self._session.run(outputs, {"picture": pictures}, options))
        except Exception as error:
            # Of kinds of onnxruntime's own, as in `_session`.
            raise UserError(f"{self._path} is not a network that redarte exported ({first_line(error)}).") from None


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (n, artists) -> probabilities, each row adding up to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _is_older(session: onnxruntime.InferenceSession) -> bool:
    """Whether a file has metadata of redarte's that lacks what this version writes."""
    with suppress(KeyError, ValueError, RecursionError):
        found = json.loads(session.get_modelmeta().custom_metadata_map["redarte"])
        names = {field.name for field in fields(Metadata)}
        return isinstance(found, dict) and {"network", "artists"} <= found.keys() and not names <= found.keys()
    return False


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path} is larger than any network that redarte exports.")
        # From memory: a file that names other files as its weights finds none.
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except FileNotFoundError:
        raise UserError(f"{path} is missing; make it with `dvc repro`, or bring it with `dvc pull`.") from None
    except UserError:
        raise
    except Exception as error:
        # onnxruntime raises kinds of its own, one for each way in which a file can be broken.
        raise UserError(f"{path} is not a network that redarte exported ({first_line(error)}).") from None
