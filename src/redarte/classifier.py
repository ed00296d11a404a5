"""Predictions in Python: `redarte.load("red1.onnx").predict("a.jpg")`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redarte.images.collection import checks
from redarte.inference.predictor import Predictor
from redarte.runtime.errors import UserError, printable

MAX_PIXELS = 100e6  # of an untrusted image


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for an image.

    Attributes:
        artist: the predicted artist.
        probability: of this artist, calibrated, 0 to 1.
        ranking: all artists with their calibrated probabilities, which add up to 1, in descending order.
        in_distribution: whether the image is similar to the training images.
    """

    artist: str
    probability: float
    ranking: list[tuple[str, float]]
    in_distribution: bool


class Classifier:
    """A model in an .onnx file that redarte exported.

    Args:
        file: the .onnx file.

    Attributes:
        artists: the classes, in the order of the model's outputs.
        side: of the square images that the model reads, in px.

    Raises:
        UserError: the file is missing, or redarte did not export it.
    """

    def __init__(self, file: str | Path):
        self._predictor = Predictor(Path(file))
        self.artists = self._predictor.metadata.artists
        self.side = self._predictor.side

    def predict(self, image: str | Path | bytes) -> Prediction:
        """Predicts the artist of an image.

        The image is decoded in this process. For files of strangers, use `redarte predict` or `redarte serve`, which
        decode in another process.

        Args:
            image: a file, or the content of a file.

        Returns:
            The prediction.

        Raises:
            UserError: the image cannot be read, in one sentence.
        """
        source = image if isinstance(image, bytes) else Path(image)
        quality = self._predictor.metadata.jpeg_quality
        try:
            pixels = checks.read_resized(source, self.side, MAX_PIXELS, quality)
        except UserError as error:
            raise UserError(f"{'the image' if isinstance(source, bytes) else printable(source)} {error}") from None
        predictions = self._predictor.predict([pixels[np.newaxis]])
        ranking = predictions.ranking(0)
        return Prediction(*ranking[0], ranking, bool(predictions.in_distribution[0]))


def load(file: str | Path) -> Classifier:
    """Returns the model in an .onnx file that redarte exported.

    Args:
        file: the .onnx file.

    Raises:
        UserError: the file is missing, or redarte did not export it.
    """
    return Classifier(file)
