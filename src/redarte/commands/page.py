"""The page of `redarte serve`: a picture in, and who painted it, where that is seen and what it is similar to."""

import html
import random
import sys
from pathlib import Path

import gradio

from redarte import params
from redarte.commands.predict import ranked, reader
from redarte.evaluation.published import title
from redarte.evaluation.report import as_uri
from redarte.inference import explanations
from redarte.inference.predictor import Predictions, Predictor
from redarte.pictures import images
from redarte.pictures.images import Picture, display_name
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import EndedError, Sandbox

MODELS = Path("models")
TRAIN = Path("data/resized/train")
TEST = Path("data/resized/test")
MOST_PIXELS = 64e6  # of an upload: what a large phone camera makes
OVERLOADED = "This machine is short of memory; try again later."
_UNLIKE = "None of the painters I know: it is unlike what I was trained on."
_KEPT = 60  # seconds that an upload may lie on the disk
TOP = 5
_NEAREST = 4
_OF_SAMPLE = "trained on the built-in sample of invented schools of painting. They cannot recognise a real painter."
STYLE = """
.answer { font-size: 1rem } .answer p { margin: .3rem 0 .8rem }
.answer .row { display: grid; grid-template-columns: minmax(6rem, 14rem) minmax(4rem, 1fr) 4rem; gap: .6rem;
               margin: .25rem 0; align-items: center }
.answer .track { background: var(--background-fill-secondary); border-radius: 4px; height: 1rem }
.answer .track i { display: block; background: #0072b2; border-radius: 4px; height: 100% }
.answer .number { text-align: right; font-variant-numeric: tabular-nums }
.answer figure { margin: 0 } .answer figcaption { font-size: .85rem; overflow-wrap: anywhere }
.answer .pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: .6rem }
.answer img { width: 100%; border-radius: 4px } .answer .seen { max-width: 300px }
footer { display: none !important }
"""


def load_networks() -> dict[str, Predictor]:
    """The networks in models/, by the names of their files, that of params.yaml's `model` first.

    A file that cannot be used is reported and left out.

    Raises:
        UserError: there is none, or params.yaml cannot be read.
    """
    chosen = params.load().model
    networks: dict[str, Predictor] = {}
    problems = []
    for file in sorted(MODELS.glob("*.onnx"), key=lambda file: (file.stem != chosen, file.stem)):
        try:
            networks[file.stem] = Predictor(file)
        except UserError as error:
            problems.append(str(error))
    if not networks:
        if problems:
            raise UserError("\n".join(problems))
        raise UserError("there is no network in models/; make them with `dvc repro`, or bring them with `dvc pull`.")
    for problem in problems:
        print(f"redarte: not offered: {problem}", file=sys.stderr, flush=True)
    return networks


def label(name: str, network: Predictor) -> str:
    """A network as the page offers it: its name, and the data set that it was trained on."""
    return f"{title(name)} ({network.metadata.data}, {len(network.metadata.artists)} artists)"


def build(networks: dict[str, Predictor], sandbox: Sandbox) -> gradio.Blocks:
    """The page: a picture and a network in, an answer out."""

    def answer(file: str | None, name: str) -> str:
        if file is None:
            return ""
        try:
            return answered(networks[name], decoded(sandbox, Path(file), networks[name]))
        except EndedError:
            return sentence(OVERLOADED)
        except UserError as error:
            return sentence(f"The file {error}.")

    blocks = gradio.Blocks(title="redarte", analytics_enabled=False, delete_cache=(_KEPT, _KEPT))
    with blocks:
        gradio.Markdown("# Who painted it?\nDrop a picture, paste one, or click an example.")
        with gradio.Row():
            with gradio.Column(scale=1):
                picture = gradio.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=320
                )
                offered = [(label(name, network), name) for name, network in networks.items()]
                network = gradio.Radio(offered, value=next(iter(networks)), label="Network")
                examples = example_pictures()
                if examples:
                    gradio.Examples(examples, picture, cache_examples=False)
            with gradio.Column(scale=2):
                result = gradio.HTML(label="Answer", elem_id="answer")
        for changed in (picture.change, network.change):
            changed(answer, [picture, network], result, api_visibility="private", concurrency_limit=4)
        of_sample = [title(name) for name, network in networks.items() if network.metadata.data == "sample"]
        if of_sample:
            gradio.Markdown(f"{', '.join(of_sample)}: {_OF_SAMPLE}")
    blocks.queue(max_size=256)
    return blocks


def example_pictures() -> list[str]:
    """Three test pictures, of three artists where there are so many; the same each time."""
    if not TEST.is_dir():
        return []
    paths = images.list_images(TEST)
    random.Random(0).shuffle(paths)
    of_each = {path.partition("/")[0]: path for path in paths}
    return [str((TEST / path).resolve()) for path in sorted(of_each.values())[:3]]


def answered(network: Predictor, pixels: Picture) -> str:
    """The prediction for a picture as HTML: bars, the evidence map, and the most similar training pictures."""
    predictions = network.predict([pixels[None]])
    likeliest = ranked(predictions, 0, TOP)
    place = network.metadata.artists.index(likeliest[0][0])
    seen = as_uri(explanations.overlay(pixels, network.evidence(pixels, place)))
    bars = "".join(
        f'<div class="row"><span>{html.escape(display_name(artist))}</span><span class="track">'
        f'<i style="width:{probability:.1%}"></i></span><span class="number">{probability:.1%}</span></div>'
        for artist, probability in likeliest
    )
    doubt = "" if predictions.in_distribution[0] else sentence(_UNLIKE)
    return (
        f'<div class="answer">{doubt}<div class="bars">{bars}</div>'
        f'<h3>Where {html.escape(display_name(likeliest[0][0]))} is seen</h3><img class="seen" src="{seen}" '
        f'alt="the picture, bright where it speaks for the answer">{similar(predictions)}</div>'
    )


def similar(predictions: Predictions) -> str:
    """The nearest training pictures, with their pictures where they are on this machine."""
    shown = []
    for path, similarity in predictions.nearest(0, _NEAREST):
        artist, _, name = path.partition("/")
        image = (
            f'<img src="{as_uri(images.read_within(TRAIN / path, 200))}" alt="">' if (TRAIN / path).is_file() else ""
        )
        caption = f"{html.escape(display_name(artist))}<br>{html.escape(name)} ({similarity:.2f})"
        shown.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f'<h3>The most similar training pictures</h3><div class="pictures">{"".join(shown)}</div>'


def decoded(sandbox: Sandbox, upload: Path | bytes, network: Predictor) -> Picture:
    """An upload as a network sees it: (side, side, 3), uint8."""
    return sandbox.call(reader(network, MOST_PIXELS), upload)


def sentence(text: str) -> str:
    return f'<div class="answer"><p><b>{html.escape(text)}</b></p></div>'
