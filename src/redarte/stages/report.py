"""report: what the network of params.yaml's `model` learned, as one page for people and as a model card."""

from pathlib import Path
from typing import Any

from redarte import params
from redarte.evaluation import curves, report
from redarte.evaluation.curves import Curve
from redarte.evaluation.report import PredictionTable
from redarte.inference import explanations
from redarte.inference.predictor import Predictions, Predictor
from redarte.pictures import images
from redarte.pictures.images import Picture, display_name
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say
from redarte.training import dataset

TRAIN = Path("data/split/train")
MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")
_SIDE = 150  # px: of a picture on the page


def main() -> None:
    settings = params.load()
    network = Predictor(MODELS / f"{settings.model}.onnx")
    table = report.read_predictions((PLOTS / "predictions.csv").read_text(encoding="utf-8"), network.metadata.artists)
    compared = report.read_compared((PLOTS / "compare.csv").read_text(encoding="utf-8"))
    read = documents(settings.model)
    facts = report.facts(settings.model, table, compared, read, histories(settings.model, read))
    gallery = Gallery(network, table)
    page = report.render(
        "report.html.j2",
        facts
        | {
            "metadata": network.metadata,
            "side": _SIDE,
            "pairs": gallery.pairs(settings.evaluate.confused_pairs),
            "mistakes": gallery.predictions(report.most_confident_mistakes(table, settings.evaluate.gallery)),
            "hits": gallery.predictions(report.least_sure_hits(table, settings.evaluate.gallery)),
        },
    )
    outputs.write_text(PLOTS / "report.html", page)
    card = report.render("model_card.md.j2", facts | {"metadata": network.metadata, "side": network.side})
    outputs.write_text(PLOTS / "model_card.md", card)
    say(f"{PLOTS / 'report.html'}: {len(page.encode()) / 1e6:.1f} MB, no file or network needed beside it")


def documents(network: str) -> dict[str, Any]:
    """The metrics that the report shows, by the stem of their file."""
    names = ("fetch", "split", "compare", "evaluate", f"train_{network}")
    return {name: outputs.read_json(METRICS / f"{name}.json") for name in names}


def histories(network: str, read: dict[str, Any]) -> dict[str, Curve]:
    """The curves of the study's networks, and of the one that is evaluated where it was trained in epochs."""
    curve = {network: curves.read(PLOTS / f"train_{network}.csv")} if "epochs_run" in read[f"train_{network}"] else {}
    return curves.from_csv(PLOTS / "curves.csv") | curve


class Gallery:
    """The pictures of the page, each with what is said of it."""

    def __init__(self, network: Predictor, table: PredictionTable):
        self.network = network
        self.table = table
        self.folder = dataset.folder_for(network.metadata, "test").parent

    def predictions(self, indices: list[int]) -> list[dict[str, Any]]:
        """Some of the predictions, with the picture and the evidence for the predicted artist."""
        return [self.prediction(index) for index in indices]

    def prediction(self, index: int) -> dict[str, Any]:
        p = self.table
        picture = self.picture(index)
        overlay = explanations.overlay(picture, self.network.evidence(picture, int(p.predicted[index])))
        return {
            "path": p.paths[index],
            "artist": display_name(p.artists[p.truth[index]]),
            "predicted": display_name(p.artists[p.predicted[index]]),
            "probability": p.probability[index],
            "true_class_probability": p.true_class_probability[index],
            "in_distribution": bool(p.in_distribution[index]),
            "picture": as_uri(picture),
            "overlay": as_uri(overlay),
        }

    def pairs(self, most: int) -> list[dict[str, Any]]:
        """The most confused pairs: the surest mistake, and the most similar picture of the artist it was taken for."""
        p = self.table
        result = []
        for one, other, count, mistakes in report.pairs_with_pictures(p, most):
            index = max(mistakes, key=lambda mistake: p.probability[mistake])
            picture = self.picture(index)
            similar = most_similar(self.network.predict([picture[None]]), p.artists[p.predicted[index]])
            result.append(
                {
                    "one": display_name(p.artists[one]),
                    "other": display_name(p.artists[other]),
                    "count": count,
                    "path": p.paths[index],
                    "by": display_name(p.artists[p.truth[index]]),
                    "taken_for": display_name(p.artists[p.predicted[index]]),
                    "picture": as_uri(picture),
                    "other_path": f"train/{similar}",
                    "other_picture": as_uri(images.read_square(original(similar), self.network.side)),
                }
            )
        return result

    def picture(self, index: int) -> Picture:
        return images.read_square(self.folder / self.table.paths[index], self.network.side)


def most_similar(predictions: Predictions, artist: str) -> str:
    """The training picture by an artist that the network finds most similar to the one picture it was asked about."""
    everyone = predictions.nearest(0, len(predictions.metadata.trained))
    return next(path for path, _ in everyone if path.startswith(f"{artist}/"))


def original(path: str) -> Path:
    """The file of a training picture by its "<artist>/<stem>.jpg", which may have another suffix."""
    return next(file for file in (TRAIN / path).parent.iterdir() if file.stem == Path(path).stem)


def as_uri(picture: Picture) -> str:
    # Twice the size in CSS px, for fine screens.
    return report.as_uri(images.shrink(picture, 2 * _SIDE))


if __name__ == "__main__":
    run_stage(main)
