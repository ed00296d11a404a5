"""Stage report: the results of the model of params.yaml's `model`, as an HTML page and as a model card."""

from pathlib import Path

from redarte import params
from redarte.evaluation import comparison, predictions
from redarte.inference.predictor import Predictor
from redarte.reporting import pages, report
from redarte.reporting.report import gallery
from redarte.runtime import outputs, paths, tables
from redarte.runtime.console import run_stage, say

TEMPLATES = Path(report.__file__).parent


def main() -> None:
    settings = params.load()
    name = settings.model
    model = Predictor(paths.MODELS / f"{name}.onnx")
    table = predictions.from_csv(tables.read_text(paths.PLOTS / "predictions.csv"), artists=model.metadata.artists)
    documents = {stem: outputs.read_json(paths.METRICS / f"{stem}.json") for stem in ("fetch", "split", "evaluate")}
    documents["train"] = outputs.read_json(paths.METRICS / f"train_{name}.json")
    curve = comparison.read_curve(paths.PLOTS / f"train_{name}.csv") if "epochs_run" in documents["train"] else None
    facts = report.facts(name, table, documents, curve) | {"metadata": model.metadata}
    images, most = gallery.Gallery(model, table), settings.evaluate.gallery
    page = pages.render(
        TEMPLATES / "report.html.j2",
        facts
        | {
            "side": model.side,
            "pairs": images.pairs(settings.evaluate.confused_pairs),
            "mistakes": images.predictions(report.most_confident_mistakes(table, most)),
            "hits": images.predictions(report.least_confident_hits(table, most)),
        },
    )
    outputs.write_text(paths.PLOTS / "report.html", page)
    card = pages.render(TEMPLATES / "model_card.md.j2", facts | {"side": model.side})
    outputs.write_text(paths.PLOTS / "model_card.md", card)
    say(f"{paths.PLOTS / 'report.html'}: {len(page.encode()) / 1e6:.1f} MB; it needs no other file and no internet")


if __name__ == "__main__":
    run_stage(main)
