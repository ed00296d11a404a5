"""The page of `redarte serve`: predictions, evidence map and similar training images for an uploaded image.

A person on this machine can correct the artist of one of the project's images there.
"""

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
_SIMILARITY = "Similarity is the cosine of the model's features of the two images: 1 for the same image."
_UPLOAD_LIFETIME = 60  # seconds on the disk
TOP = 5
_NEAREST = 4
_SAMPLE_NOTE = "trained on the built-in sample of invented schools of painting. They cannot recognise a real painter."
STYLE = """
.prediction { font-size: 1rem } .prediction p { margin: .3rem 0 .8rem }
.message { overflow-wrap: anywhere }
#examples .grid-wrap { min-height: 0; max-height: none } #examples .icon-button-wrapper { display: none }
#examples .thumbnail-item { aspect-ratio: auto; height: auto; background: none } #examples img { aspect-ratio: 1 }
#examples .caption-label { position: static; max-width: none; opacity: 1; border: 0; background: none;
               white-space: normal; text-align: center }
.prediction .row { display: grid; grid-template-columns: minmax(6rem, 14rem) minmax(4rem, 1fr) 4rem; gap: .6rem;
               margin: .25rem 0; align-items: center }
.prediction .track { background: var(--background-fill-secondary); border-radius: 4px; height: 1rem }
.prediction .track i { display: block; background: #0072b2; border-radius: 4px; height: 100% }
.prediction .number { text-align: right; font-variant-numeric: tabular-nums }
.prediction summary { cursor: pointer }
.prediction figure { margin: 0 } .prediction figcaption { font-size: .85rem; overflow-wrap: break-word }
.prediction .images { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: .6rem }
.prediction img { width: 100%; border-radius: 4px } .prediction .seen { max-width: 300px }
footer { display: none !important }
@media (max-width: 700px) {
  /* The prediction follows the image; the choice of a model follows the prediction. */
  #controls { display: contents } #upload { order: 1 } #result { order: 2 }
  #controls > .form { order: 3 } #examples { order: 4 }
}
"""


def load_models() -> dict[str, Predictor]:
    """Returns the models in models/, by the names of their files: the study's three first, then the others.

    A file that cannot be used is reported and left out.

    Raises:
        UserError: there is no model, or params.yaml cannot be read.
    """
    order = {name: index for index, name in enumerate(params.MODELS)}
    models: dict[str, Predictor] = {}
    problems = []
    for file in sorted(MODELS.glob("*.onnx"), key=lambda file: (order.get(file.stem, len(order)), file.stem)):
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


def first_choice(models: dict[str, Predictor]) -> str:
    """Returns the model of params.yaml, or the first where it is not available.

    Args:
        models: from `load_models`.
    """
    chosen = params.load().model
    return chosen if chosen in models else next(iter(models))


def label(name: str, model: Predictor) -> str:
    """Returns a model's label on the page: its name, its accuracy, and the data set that it was trained on.

    Args:
        name: of its file.
        model: the model.
    """
    known = model.metadata
    return f"{title(name)}: val accuracy {known.val_accuracy:.0%} ({known.data}, {len(known.artists)} artists)"


def build(models: dict[str, Predictor], first: str, sandbox: Sandbox) -> gradio.Blocks:
    """Returns the page.

    Args:
        models: by the names of their files.
        first: the model that is selected at first.
        sandbox: decodes uploads.
    """
    artists = sorted({artist for known in models.values() for artist in known.metadata.artists})

    def predict(file: str | None, name: str) -> str:
        if file is None:
            return ""
        try:
            return result_html(models[name], decoded(sandbox, Path(file), models[name]))
        except EndedError:
            return message_html(OVERLOADED)
        except UserError as error:
            return message_html(f"The file {error}.")

    def correct(file: str | None, artist: str | None, request: gradio.Request) -> str:
        try:
            if not corrections_file.is_local(request):
                raise UserError(corrections_file.NOT_LOCAL)
            if file is None or not artist:
                raise UserError("Choose an image and its artist first.")
            typed = artist.strip()
            known = {display_name(name): name for name in artists}
            right = known.get(display_name(typed), typed.replace(" ", "_"))
            return message_html(corrections_file.save_artist(Path(file).read_bytes(), right))
        except UserError as error:
            return message_html(f"Not saved: {error}")
        except FileNotFoundError:
            return message_html("Not saved: the upload was deleted after two minutes; upload it again.")

    blocks = gradio.Blocks(title="redarte", analytics_enabled=False, delete_cache=(_UPLOAD_LIFETIME, _UPLOAD_LIFETIME))
    with blocks:
        gradio.Markdown("# Who painted it?\nDrop an image, paste one, or click an example.")
        if corrections_file.PAGE.is_file():
            gradio.Markdown("[Label issues](/label-issues): correct the artists of this project's images.")
        with gradio.Row():
            with gradio.Column(scale=1, elem_id="controls"):
                image = gradio.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Image", height=320,
                    elem_id="upload",
                )  # fmt: skip
                offered = [(label(name, model), name) for name, model in models.items()]
                model = gradio.Radio(offered, value=first, label="Model")
                examples = example_images()
                if examples:
                    shown = gradio.Gallery(
                        [(path, display_name(artist)) for path, artist in examples], label="Examples and their artists",
                        columns=3, height="auto", allow_preview=False, interactive=False, elem_id="examples",
                    )  # fmt: skip
                    shown.select(_selected, None, image, api_visibility="private")
            with gradio.Column(scale=2, elem_id="result"):
                result = gradio.HTML(label="Prediction", elem_id="prediction")
                with gradio.Accordion("Wrong?", open=False):
                    gradio.Markdown("If this is one of the project's images, save its artist to corrections.csv.")
                    artist = gradio.Dropdown(
                        [(display_name(name), name) for name in artists], value=None, label="The right artist",
                        allow_custom_value=True,
                    )  # fmt: skip
                    save, saved = gradio.Button("Save"), gradio.HTML(elem_id="saved")
        for changed in (image.change, model.change):
            changed(predict, [image, model], result, api_visibility="private", concurrency_limit=4)
        image.change(lambda: "", None, saved, api_visibility="private")
        save.click(correct, [image, artist], saved, api_visibility="private")
        sample_models = [title(name) for name, model in models.items() if model.metadata.data == "sample"]
        if sample_models:
            gradio.Markdown(f"{', '.join(sample_models)}: {_SAMPLE_NOTE}")
    blocks.queue(max_size=256)
    return blocks


def example_images() -> list[tuple[str, str]]:
    """Returns three test images and their artists, of three artists if there are so many; always the same."""
    if not TEST.is_dir():
        return []
    paths = [path for path in folders.list_images(TEST) if path.lower().endswith(_SHOWN_BY_BROWSERS)]
    random.Random(0).shuffle(paths)
    of_each = {path.partition("/")[0]: path for path in paths}
    return [(str((TEST / path).resolve()), path.partition("/")[0]) for path in sorted(of_each.values())[:3]]


def result_html(model: Predictor, pixels: ImageArray) -> str:
    """Returns the prediction for an image as HTML, and the most similar training images.

    An image that is in distribution has bars and an evidence map. Of another image the ranking is folded, because its
    probabilities are those of the least unlikely of the known artists.

    Args:
        model: predicts.
        pixels: (side, side, 3), uint8, RGB.
    """
    predictions = model.predict([pixels[None]])
    ranking = predictions.ranking(0, TOP)
    if not predictions.in_distribution[0]:
        rows = "".join(f"<li>{html.escape(display_name(artist))}: {value:.1%}</li>" for artist, value in ranking)
        folded = f"<details><summary>If it were by one of the known artists</summary><ol>{rows}</ol></details>"
        return f'<div class="prediction">{message_html(_OUT_OF_DISTRIBUTION)}{folded}{similar_html(predictions)}</div>'
    seen = as_uri(explanations.overlay(pixels, model.evidence(pixels, int(predictions.predicted[0]))))
    bars = "".join(
        f'<div class="row"><span>{html.escape(display_name(artist))}</span><span class="track">'
        f'<i style="width:{probability:.1%}"></i></span><span class="number">{probability:.1%}</span></div>'
        for artist, probability in ranking
    )
    return (
        f'<div class="prediction"><div class="bars">{bars}</div>'
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
        # A line may end after an underscore, but not before the number of the image.
        head, separator, number = html.escape(name).rpartition("_")
        breakable = head.replace("_", "_<wbr>") + separator + number
        caption = f"{html.escape(display_name(artist))}<br>{breakable}<br>similarity {similarity:.2f}"
        shown.append(f"<figure>{tag}<figcaption>{caption}</figcaption></figure>")
    return (
        f'<h3>The most similar training images</h3><div class="images">{"".join(shown)}</div>'
        f"<p><small>{_SIMILARITY}</small></p>"
    )


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
    return f'<div class="prediction message"><p><b>{html.escape(text)}</b></p></div>'


def _selected(event: gradio.SelectData) -> str:
    """The file of an example that was clicked."""
    return str(event.value["image"]["path"])
