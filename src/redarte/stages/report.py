"""report: what the network of params.yaml's `model` learned, as one page for people and as a model card."""

from pathlib import Path
from typing import Any

import numpy as np

from redarte import curves, dataset, explanations, outputs, paintings, params, prediction, report
from redarte.console import run_stage, say
from redarte.dataset import Pictures
from redarte.explanations import spoken
from redarte.prediction import Answers, Network
from redarte.report import Predictions

TEST = Path("data/resized/test")
TRAIN = Path("data/resized/train")
ORIGINALS = Path("data/split/test")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")
_SHOWN = 150  # px: the side of a picture on the page


def main() -> None:
    settings = params.load()
    network = prediction.Network(MODELS / f"{settings.model}.onnx")
    artists = network.card.artists
    text = (PLOTS / "predictions.csv").read_text(encoding="utf-8")
    predictions = report.read_predictions(text, artists)
    histories = curves.of_networks(PLOTS, params.NETWORKS)
    facts = report.facts(settings.model, predictions, documents(settings.model), histories)
    gallery = Gallery(network, dataset.seen_by(network.side, TEST, ORIGINALS, artists), predictions)
    page = report.render(
        "report.html.j2",
        facts
        | {
            "coverage": network.card.coverage,
            "shown_side": _SHOWN,
            "pairs": gallery.pairs(settings.evaluate.confused_pairs),
            "mistakes": gallery.answers(report.most_confident_mistakes(predictions, settings.evaluate.gallery)),
            "hits": gallery.answers(report.least_sure_hits(predictions, settings.evaluate.gallery)),
        },
    )
    outputs.write_text(PLOTS / "report.html", page)
    outputs.write_text(
        PLOTS / "model_card.md", report.render("model_card.md.j2", facts | {"card": network.card, "side": network.side})
    )
    say(f"{PLOTS / 'report.html'}: {len(page.encode()) / 1e6:.1f} MB, no file or network needed beside it")


def documents(network: str) -> dict[str, Any]:
    """The metrics that the report shows, by the stem of their file."""
    names = ("fetch", "split", "compare", "evaluate", f"train_{network}", f"export_{network}")
    return {name: outputs.read_json(METRICS / f"{name}.json") for name in names}


class Gallery:
    """The pictures of the page, each with what is said of it."""

    def __init__(self, network: Network, test: Pictures, predictions: Predictions):
        self.network = network
        self.test = test
        self.predictions = predictions
        self.place = {f"{TEST.name}/{path}": index for index, path in enumerate(test.paths)}

    def answers(self, indices: list[int]) -> list[dict[str, Any]]:
        """Some of the predictions, with the picture and where the network looked for its answer."""
        return [self.answer(index) for index in indices]

    def answer(self, index: int) -> dict[str, Any]:
        p = self.predictions
        picture = self.picture(index)
        seen = explanations.overlay(picture, self.network.evidence(picture, int(p.predicted[index])))
        return {
            "path": p.paths[index],
            "artist": spoken(p.artists[p.truth[index]]),
            "predicted": spoken(p.artists[p.predicted[index]]),
            "calibrated": p.calibrated[index],
            "of_artist": p.of_artist[index],
            "known": bool(p.known[index]),
            "picture": shown(picture),
            "overlay": shown(seen),
        }

    def pairs(self, most: int) -> list[dict[str, Any]]:
        """The most confused pairs: the surest mistake, and the most like picture of the artist it was taken for."""
        p = self.predictions
        result = []
        for one, other, count, mistakes in report.pairs_with_pictures(p, most):
            index = max(mistakes, key=lambda mistake: p.calibrated[mistake])
            picture = self.picture(index)
            answers = self.network.answers([picture[None]])
            like = most_like(answers, p.artists[p.predicted[index]])
            result.append(
                {
                    "one": spoken(p.artists[one]),
                    "other": spoken(p.artists[other]),
                    "count": count,
                    "path": p.paths[index],
                    "by": spoken(p.artists[p.truth[index]]),
                    "taken_for": spoken(p.artists[p.predicted[index]]),
                    "picture": shown(picture),
                    "other_path": f"train/{like}",
                    "other_picture": shown(paintings.read_square(TRAIN / like, self.network.side)),
                }
            )
        return result

    def picture(self, index: int) -> paintings.Picture:
        at = self.place[self.predictions.paths[index]]
        return np.asarray(self.test.batch(np.array([at]))[0][0])


def most_like(answers: Answers, artist: str) -> str:
    """The training picture by an artist that the network finds most like the one picture it was asked about."""
    everyone = answers.nearest(0, len(answers.card.trained))
    return next(path for path, _ in everyone if path.startswith(f"{artist}/"))


def shown(picture: paintings.Picture) -> str:
    # Twice the size in CSS px, for fine screens.
    return report.as_uri(paintings.shrink(picture, 2 * _SHOWN))


if __name__ == "__main__":
    run_stage(main)
