"""The page of `redarte serve`: predictions, evidence map and similar training images for an uploaded image."""

import html
import random
import sys
from pathlib import Path

import gradio

from redarte import params
from redarte.commands import corrections_file
from redarte.commands.predict import reader
from redarte.evaluation.comparison import title
from redarte.images import decoding
from redarte.images.dataset import shards
from redarte.images.decoding import ImageArray, folders
from redarte.images.decoding.folders import display_name
from redarte.inference import explanations
from redarte.inference.predictor import Predictions, Predictor
from redarte.reporting.report import as_uri
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import EndedError, Sandbox

MODELS = Path("models")
TRAIN = Path("data/resized/train")
TEST = Path("data/split/test")
_SHOWN_BY_BROWSERS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
MAX_PIXELS = 64e6  # of an upload: a large phone camera's
OVERLOADED = "The server is short of memory; try again later."
_OUT_OF_DISTRIBUTION = "Probably none of the known artists: the image is not similar to the training images."
_UPLOAD_LIFETIME = 60  # seconds on the disk
TOP = 5
_NEAREST = 4
_SAMPLE_NOTE = "trained on the built-in sample of invented schools of painting. They cannot recognise a real painter."
STYLE = """
.prediction { font-size: 1rem } .prediction p { margin: .3rem 0 .8rem }
.prediction .row { display: grid; grid-template-columns: minmax(6rem, 14rem) minmax(4rem, 1fr) 4rem; gap: .6rem;
               margin: .25rem 0; align-items: center }
.prediction .track { background: var(--background-fill-secondary); border-radius: 4px; height: 1rem }
.prediction .track i { display: block; background: #0072b2; border-radius: 4px; height: 100% }
.prediction .number { text-align: right; font-variant-numeric: tabular-nums }
.prediction figure { margin: 0 } .prediction figcaption { font-size: .85rem; overflow-wrap: anywhere }
.prediction .images { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: .6rem }
.prediction img { width: 100%; border-radius: 4px } .prediction .seen { max-width: 300px }
footer { display: none !important }
"""


def load_models() -> dict[str, Predictor]:
    """Returns the models in models/, by the names of their files, params.yaml's `model` first.

    A file that cannot be used is reported and left out.

    Raises:
        UserError: there is no model, or params.yaml cannot be read.
    """
    chosen = params.load().model
    models: dict[str, Predictor] = {}
    problems = []
    for file in sorted(MODELS.glob("*.onnx"), key=lambda file: (file.stem != chosen, file.stem)):
        try:
            models[file.stem] = Predictor(file)
        except UserError as error:
            problems.append(str(error))
    if not models:
        if problems:
            raise UserError("\n".join(problems))
        raise UserError("there is no model in models/; create them with `dvc repro`, or get them with `dvc pull`.")
    for problem in problems:
        print(f"redarte: not available: {problem}", file=sys.stderr, flush=True)
    return models


def label(name: str, model: Predictor) -> str:
    """Returns a model's label on the page: its name, and the data set that it was trained on.

    Args:
        name: of its file.
        model: the model.
    """
    return f"{title(name)} ({model.metadata.data}, {len(model.metadata.artists)} artists)"


def build(models: dict[str, Predictor], sandbox: Sandbox) -> gradio.Blocks:
    """Returns the page.

    Args:
        models: by the names of their files.
        sandbox: decodes uploads.
    """

    def predict(file: str | None, name: str) -> str:
        if file is None:
            return ""
        try:
            return result_html(models[name], decoded(sandbox, Path(file), models[name]))
        except EndedError:
            return message_html(OVERLOADED)
        except UserError as error:
            return message_html(f"The file {error}.")

    blocks = gradio.Blocks(title="redarte", analytics_enabled=False, delete_cache=(_UPLOAD_LIFETIME, _UPLOAD_LIFETIME))
    with blocks:
        gradio.Markdown("# Who painted it?\nDrop an image, paste one, or click an example.")
        if corrections_file.PAGE.is_file():
            gradio.Markdown("[Label issues](/label-issues): correct the artists of this project's images.")
        with gradio.Row():
            with gradio.Column(scale=1):
                image = gradio.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Image", height=320
                )
                offered = [(label(name, model), name) for name, model in models.items()]
                model = gradio.Radio(offered, value=next(iter(models)), label="Model")
                examples = example_images()
                if examples:
                    gradio.Examples(examples, image, cache_examples=False)
            with gradio.Column(scale=2):
                result = gradio.HTML(label="Prediction", elem_id="prediction")
        for changed in (image.change, model.change):
            changed(predict, [image, model], result, api_visibility="private", concurrency_limit=4)
        sample_models = [title(name) for name, model in models.items() if model.metadata.data == "sample"]
        if sample_models:
            gradio.Markdown(f"{', '.join(sample_models)}: {_SAMPLE_NOTE}")
    blocks.queue(max_size=256)
    return blocks


def example_images() -> list[str]:
    """Returns three test images, of three artists if there are so many; always the same."""
    if not TEST.is_dir():
        return []
    paths = [path for path in folders.list_images(TEST) if path.lower().endswith(_SHOWN_BY_BROWSERS)]
    random.Random(0).shuffle(paths)
    of_each = {path.partition("/")[0]: path for path in paths}
    return [str((TEST / path).resolve()) for path in sorted(of_each.values())[:3]]


def result_html(model: Predictor, pixels: ImageArray) -> str:
    """Returns the prediction for an image as HTML: bars, the evidence map, and the most similar training images.

    Args:
        model: predicts.
        pixels: (side, side, 3), uint8, RGB.
    """
    predictions = model.predict([pixels[None]])
    ranking = predictions.ranking(0, TOP)
    predicted = int(predictions.predicted[0])
    seen = as_uri(explanations.overlay(pixels, model.evidence(pixels, predicted)))
    bars = "".join(
        f'<div class="row"><span>{html.escape(display_name(artist))}</span><span class="track">'
        f'<i style="width:{probability:.1%}"></i></span><span class="number">{probability:.1%}</span></div>'
        for artist, probability in ranking
    )
    doubt = "" if predictions.in_distribution[0] else message_html(_OUT_OF_DISTRIBUTION)
    return (
        f'<div class="prediction">{doubt}<div class="bars">{bars}</div>'
        f'<h3>Evidence for {html.escape(display_name(ranking[0][0]))}</h3><img class="seen" src="{seen}" '
        f'alt="the image, bright in the regions that speak for the prediction">{similar_html(predictions)}</div>'
    )


def similar_html(predictions: Predictions) -> str:
    """Returns the most similar training images as HTML, with the images that are on this machine.

    Args:
        predictions: for one image.
    """
    shown = []
    for image_id, similarity in predictions.nearest(0, _NEAREST):
        artist, _, name = image_id.partition("/")
        tag = ""
        if shards.path_of(TRAIN, artist).is_file():
            tag = f'<img src="{as_uri(decoding.read_within(shards.find(TRAIN, image_id), 200))}" alt="">'
        caption = f"{html.escape(display_name(artist))}<br>{html.escape(name)} ({similarity:.2f})"
        shown.append(f"<figure>{tag}<figcaption>{caption}</figcaption></figure>")
    return f'<h3>The most similar training images</h3><div class="images">{"".join(shown)}</div>'


def decoded(sandbox: Sandbox, upload: Path | bytes, model: Predictor) -> ImageArray:
    """Returns an upload as a model sees it: (side, side, 3), uint8.

    Args:
        sandbox: decodes.
        upload: a file, or its content.
        model: predicts.

    Raises:
        UserError: the file cannot be used.
    """
    return sandbox.call(reader(model, MAX_PIXELS), upload)


def message_html(text: str) -> str:
    """Returns a sentence as HTML.

    Args:
        text: the sentence.
    """
    return f'<div class="prediction"><p><b>{html.escape(text)}</b></p></div>'
