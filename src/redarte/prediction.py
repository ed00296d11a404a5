"""Pictures -> answers, by onnxruntime: TensorFlow takes ten seconds to start, and answers take none of it.

Probabilities are calibrated: the logits are divided by the network's temperature, fitted on val pictures (Guo et al.,
"On calibration of modern neural networks", 2017), which changes how sure an answer is and not which answer it is.
A picture is unlike what a network was trained on where its features are farther from those of the nearest training
pictures than nearly all val pictures' are (Sun et al., "Out-of-distribution detection with deep nearest neighbors",
2022).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from redarte.errors import UserError
from redarte.paintings import Picture

BATCH = 32  # pictures at a time; larger gains nothing on a CPU
_NEIGHBOURS = 5
_LARGEST = 2 * 2**30  # bytes: what one ONNX file can hold


@dataclass(frozen=True)
class Card:
    """What a network's .onnx file says of itself.

    Attributes:
        network: its name, such as red1.
        data: the source of the pictures that it was trained on (fetch.source).
        artists: its classes, in the order of its outputs.
        temperature: divides its logits.
        coverage: the share of val pictures that are as familiar as `least_familiarity`.
        least_familiarity: a picture that is less familiar is by none of its artists; -1 to 1.
        trained: "<artist>/<file>" of the pictures that it was trained on, without copies.
    """

    network: str
    data: str
    artists: list[str]
    temperature: float
    coverage: float
    least_familiarity: float
    trained: list[str]


@dataclass(frozen=True)
class Answers:
    """What a network answers to n pictures.

    Attributes:
        logits: (n, artists), float64.
        similarity: (n, trained), float32: the likeness of each to each training picture, -1 to 1.
    """

    card: Card
    logits: np.ndarray
    similarity: np.ndarray

    @property
    def raw(self) -> np.ndarray:
        """The probabilities as the network was trained to give them: (n, artists), rows adding up to 1."""
        return softmax(self.logits)

    @property
    def probabilities(self) -> np.ndarray:
        """Calibrated probabilities: (n, artists), rows adding up to 1."""
        return softmax(self.logits / self.card.temperature)

    @property
    def familiarity(self) -> np.ndarray:
        """How like the training pictures each is: (n,), the mean similarity to the nearest few."""
        return familiarity(self.similarity)

    @property
    def known(self) -> np.ndarray:
        """Whether each is like what the network was trained on: (n,), bool."""
        return np.asarray(self.familiarity >= self.card.least_familiarity)

    def nearest(self, index: int, most: int) -> list[tuple[str, float]]:
        """The training pictures most like one of the pictures, and how like: most like first."""
        order = np.argsort(-self.similarity[index], kind="stable")[:most]
        return [(self.card.trained[place], float(self.similarity[index, place])) for place in order]


class Network:
    """A network in an .onnx file that `export` wrote.

    Raises:
        UserError: the file is missing, or is none that redarte wrote.
    """

    def __init__(self, path: Path):
        self._session = _session(path)
        try:
            self.card = Card(**json.loads(self._session.get_modelmeta().custom_metadata_map["redarte"]))
            self.side = int(self._session.get_inputs()[0].shape[1])
        except (KeyError, TypeError, ValueError, IndexError):
            raise UserError(f"{path} is not a network that redarte exported; make it with `dvc repro`.") from None
        self._weights: np.ndarray | None = None

    def answers(self, batches: Iterable[np.ndarray]) -> Answers:
        """Answers to batches of (b, side, side, 3) uint8 pictures, RGB, which are let go one after the other."""
        logits, similarity = (
            [np.empty((0, len(self.card.artists)))],
            [np.empty((0, len(self.card.trained)), np.float32)],
        )
        for batch in batches:
            of_batch = self.run(["logits", "similarity"], batch)
            logits.append(of_batch[0].astype(np.float64))
            similarity.append(of_batch[1])
        return Answers(self.card, np.concatenate(logits), np.concatenate(similarity))

    def evidence(self, picture: Picture, artist: int) -> np.ndarray:
        """Where a picture speaks for an artist and where against: (rows, columns), float32.

        Its sum is the artist's logit, less a bias: HiResCAM (Draelos and Carin, "Use HiResCAM instead of Grad-CAM",
        2020), which is Grad-CAM without averaging the gradient over places. In a network that ends in Flatten and one
        dense layer, that average lights up places that the network does not look at.
        """
        spatial = self.run(["spatial"], picture[None])[0][0]
        if self._weights is None:
            self._weights = self.run(["weights"], picture[None])[0]
        return np.asarray((spatial * self._weights[..., artist]).sum(axis=-1))

    def run(self, outputs: list[str], pictures: np.ndarray) -> list[np.ndarray]:
        """The named outputs of exporting.py for a few pictures, computing nothing else."""
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        return list(self._session.run(outputs, {"picture": pictures}, options))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (n, artists) -> probabilities, each row adding up to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def familiarity(similarity: np.ndarray) -> np.ndarray:
    """(n, trained) similarities -> (n,), the mean of each row's largest few."""
    few = min(_NEIGHBOURS, similarity.shape[1])
    return np.asarray(np.sort(similarity, axis=1)[:, -few:].mean(axis=1))


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
        raise UserError(f"{path} is not a network that redarte exported ({str(error).splitlines()[0]}).") from None
