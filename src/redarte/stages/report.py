"""Stage report: the results of the model of params.yaml's `model`, as an HTML page and as a model card."""

from pathlib import Path

from redarte import params
from redarte.evaluation import comparison, curves, predictions
from redarte.inference.predictor import Predictor
from redarte.reporting import gallery, report
from redarte.runtime import outputs
from redarte.runtime.console import run_stage, say

MODELS = Path("models")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    settings = params.load()
    name = settings.model
    model = Predictor(MODELS / f"{name}.onnx")
    table = predictions.from_csv((PLOTS / "predictions.csv").read_text(encoding="utf-8"), model.metadata.artists)
    right_of = comparison.read_right((PLOTS / "compare.csv").read_text(encoding="utf-8"))
    documents = {
        stem: outputs.read_json(METRICS / f"{stem}.json")
        for stem in ("fetch", "split", "compare", "evaluate", f"train_{name}")
    }
    histories = curves.from_csv(PLOTS / "curves.csv")
    if "epochs_run" in documents[f"train_{name}"]:
        histories[name] = curves.read(PLOTS / f"train_{name}.csv")
    facts = report.facts(name, table, right_of, documents, histories) | {"metadata": model.metadata}
    images, most = gallery.Gallery(model, table), settings.evaluate.gallery
    page = report.render(
        "report.html.j2",
        facts
        | {
            "side": gallery.SIDE,
            "pairs": images.pairs(settings.evaluate.confused_pairs),
            "mistakes": images.predictions(report.most_confident_mistakes(table, most)),
            "hits": images.predictions(report.least_confident_hits(table, most)),
        },
    )
    outputs.write_text(PLOTS / "report.html", page)
    outputs.write_text(PLOTS / "model_card.md", report.render("model_card.md.j2", facts | {"side": model.side}))
    say(f"{PLOTS / 'report.html'}: {len(page.encode()) / 1e6:.1f} MB; it needs no other file and no internet")


if __name__ == "__main__":
    run_stage(main)
