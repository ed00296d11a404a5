"""The images of the report, each with its prediction."""

from pathlib import Path
from typing import Any

import numpy as np

from redarte.evaluation import metrics
from redarte.evaluation.predictions import PredictionTable
from redarte.images import dataset, decoding, folders, overlays
from redarte.images.decoding import ImageArray
from redarte.images.folders import display_name
from redarte.inference.predictor import Predictions, Predictor
from redarte.reporting import pages, report
from redarte.runtime import paths
from redarte.runtime.errors import UserError

SIDE = 150  # px: the displayed size of an image


class Gallery:
    """Images of the test set with evidence maps, and pairs of confused images."""

    def __init__(self, model: Predictor, table: PredictionTable):
        self.model = model
        self.table = table
        metadata = model.metadata
        self._test = dataset.load_as_trained("test", metadata.artists, model.side, metadata.jpeg_quality)
        self._index_of = {image_id: index for index, image_id in enumerate(self._test.ids)}
        self._files = folders.files_by_id(paths.SPLIT / "test")

    def predictions(self, indices: list[int]) -> list[dict[str, Any]]:
        """Returns some of the predictions, with the image and the evidence for the predicted artist."""
        return [self._prediction(index) for index in indices]

    def pairs(self, most: int) -> list[dict[str, Any]]:
        """Returns the most confused pairs: the most confident mistake, and the most similar training image."""
        p = self.table
        result = []
        pairs = metrics.confused_pairs(p.confusion, most)
        if not pairs:
            return []
        indices = [report.most_confident_confusion(p, one, other) for one, other, _ in pairs]
        images = self._test.subset(np.array([self._index_of[p.ids[index]] for index in indices]))
        predictions = self.model.predict_dataset(images, "similar images")
        for number, ((one, other, count), index) in enumerate(zip(pairs, indices, strict=True)):
            predicted = p.artists[p.predicted[index]]
            similar = _most_similar(predictions, number, predicted)
            similar_file = folders.find(paths.SPLIT / "train", similar)
            if similar_file is None:
                raise UserError(f"{paths.SPLIT / 'train'} does not have {similar}: run `dvc checkout`.")
            result.append(
                {
                    "one": display_name(p.artists[one]),
                    "other": display_name(p.artists[other]),
                    "count": count,
                    "id": p.ids[index],
                    "artist": display_name(p.artists[p.truth[index]]),
                    "predicted": display_name(predicted),
                    "image": pages.as_uri(self._original(index)),
                    "similar_id": similar,
                    "similar_image": pages.as_uri(_shown(similar_file)),
                }
            )
        return result

    def _prediction(self, index: int) -> dict[str, Any]:
        p, original = self.table, self._original(index)
        resized = self._test.read(self._index_of[p.ids[index]])
        overlay = overlays.overlay(original, self.model.evidence(resized, int(p.predicted[index])))
        return {
            "id": p.ids[index],
            "artist": display_name(p.artists[p.truth[index]]),
            "predicted": display_name(p.artists[p.predicted[index]]),
            "probability": p.probability[index],
            "true_class_probability": p.true_class_probability[index],
            "in_distribution": bool(p.in_distribution[index]),
            "image": pages.as_uri(original),
            "overlay": pages.as_uri(overlay),
        }

    def _original(self, index: int) -> ImageArray:
        return _shown(self._files[self.table.ids[index]])


def _most_similar(predictions: Predictions, index: int, artist: str) -> str:
    """The training image of an artist that is most similar to one of the predicted images."""
    ranked = predictions.nearest(index, len(predictions.metadata.training_images))
    return next(image_id for image_id, _ in ranked if image_id.startswith(f"{artist}/"))


def _shown(file: Path) -> ImageArray:
    # Twice the size in CSS px, for high-resolution screens.
    return decoding.read_within(file, 2 * SIDE)
