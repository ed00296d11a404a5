"""Predictions in Python: `redarte.load("red1.onnx").predict("a.jpg")`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redarte.images import decoding
from redarte.images.decoding import ImageArray
from redarte.inference.predictor import Predictor
from redarte.ingestion import checks
from redarte.runtime.errors import UserError, printable


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
    """A model in an .onnx file that redarte exported. Several threads may use one; pickled, it is the file's path.

    Args:
        file: the .onnx file.

    Attributes:
        artists: the classes, in the order of the model's outputs.
        side: of the square images that the model reads, in px.

    Raises:
        UserError: the file is missing, or redarte did not export it.
    """

    def __init__(self, file: str | Path):
        self._file = Path(file).absolute()
        self._predictor = Predictor(Path(file))
        self.artists = self._predictor.metadata.artists
        self.side = self._predictor.side

    def predict(self, image: str | Path | bytes | np.ndarray) -> Prediction:
        """Predicts the artist of an image.

        The image is decoded in this process. For untrusted files, use `redarte predict` or `redarte serve`, which
        decode in another process.

        Args:
            image: a file, the content of a file, or pixels (height, width, 3), uint8, RGB, 0 to 255.

        Returns:
            The prediction.

        Raises:
            UserError: the image cannot be read, in one sentence.
        """
        quality = self._predictor.metadata.jpeg_quality
        if isinstance(image, np.ndarray):
            return self._predicted(
                decoding.through_jpeg(decoding.scale(_checked(image), self.side, self.side), quality)
            )
        source = image if isinstance(image, bytes) else Path(image)
        try:
            pixels = checks.read_resized(source, self.side, checks.MAX_PIXELS, quality)
        except UserError as error:
            raise UserError(f"{'the image' if isinstance(source, bytes) else printable(source)} {error}") from None
        return self._predicted(pixels)

    def __reduce__(self) -> tuple[type["Classifier"], tuple[Path]]:
        """Pickles the path of the file, which is loaded again."""
        return type(self), (self._file,)

    def _predicted(self, pixels: ImageArray) -> Prediction:
        predictions = self._predictor.predict([pixels[np.newaxis]])
        ranking = predictions.ranking(0)
        return Prediction(*ranking[0], ranking, bool(predictions.in_distribution[0]))


def _checked(pixels: np.ndarray) -> ImageArray:
    """Pixels that are an image.

    Raises:
        UserError: they are not (height, width, 3), uint8.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise UserError(
            f"the image is an array of shape {pixels.shape} and dtype {pixels.dtype}; pass (height, width, 3), uint8, "
            "RGB."
        )
    return pixels


def load(file: str | Path) -> Classifier:
    """Returns the model in an .onnx file that redarte exported.

    Args:
        file: the .onnx file.

    Raises:
        UserError: the file is missing, or redarte did not export it.
    """
    return Classifier(file)
