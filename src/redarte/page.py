"""`redarte serve`: a page on which pictures can be tried, and the same for programs.

The page is gradio's; POST /api/predict answers programs, GET /health says whether it can, and /api/openapi.json
describes both. Nothing is fetched from outside, and an upload is deleted within two minutes. It is started
by `serving`, which settles what gradio reads on import.
"""

import html
import json
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import gradio
import uvicorn
from fastapi import FastAPI, HTTPException, Query, UploadFile
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redarte import explanations, optional, paintings, params
from redarte.console import say
from redarte.errors import UserError
from redarte.explanations import spoken
from redarte.paintings import Picture
from redarte.predict import described, ranked
from redarte.prediction import Answers, Network
from redarte.report import as_uri
from redarte.sandbox import EndedError, Sandbox
from redarte.study import TITLES

MODELS = Path("models")
TRAIN = Path("data/resized/train")
TEST = Path("data/resized/test")
LARGEST = 20 * 2**20  # bytes: the largest request
MOST_PIXELS = 64e6  # of an upload: what a large phone camera makes
_DECODING = 4  # uploads at once: a hostile one of a few kB can take half a gigabyte while it is
_LONGEST = 20.0  # seconds for an upload
_KEPT = 60  # seconds that an upload may lie on the disk
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "not a form"},
    413: {"description": "the request is too large"},
    422: {"description": "not a picture, or no such network"},
    503: {"description": "the machine is overloaded"},
}
_TOP = 5
_NEAREST = 4
_OF_SAMPLE = (
    "These networks were trained on the built-in sample of invented schools of painting. They know no real painter."
)
_OVERLOADED = "This machine is in want of memory; try again later."
_STYLE = """
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


class Likely(BaseModel):
    """An artist and how probable it is that the picture is the artist's."""

    artist: str
    probability: float = Field(ge=0, le=1, description="calibrated: of all answers this sure, this share is right")


class Answer(BaseModel):
    """What a network answers to a picture."""

    artist: str = Field(description="the likeliest")
    probability: float = Field(ge=0, le=1)
    top: list[Likely] = Field(description="the likeliest first")
    known: bool = Field(description="whether the picture is like those that the network was trained on")
    network: str


class Health(BaseModel):
    """Whether the service can answer, and with which networks."""

    status: str
    networks: list[str]


def serve(host: str, port: int) -> None:
    """Serves until Ctrl-C.

    Raises:
        UserError: there is no network, or the address is taken.
    """
    with Sandbox(_DECODING, paintings.most_memory(MOST_PIXELS), _LONGEST) as sandbox:
        app = application(load_networks(), sandbox)
        server = uvicorn.Server(uvicorn.Config(app, host, port, log_level="error", limit_concurrency=512))
        socket = bound(server, host, port)
        # Who reads the address may ask at once, and waits until the server has started.
        socket.listen()
        say(f"redarte: http://{host}:{socket.getsockname()[1]} (Ctrl-C ends it)")
        server.run(sockets=[socket])


def bound(server: uvicorn.Server, host: str, port: int) -> Any:
    """The socket to listen on."""
    try:
        return server.config.bind_socket()
    except SystemExit:
        raise UserError(f"{host}:{port} cannot be listened on; choose another with --port.") from None


def load_networks() -> dict[str, Network]:
    """The networks in models/, by their titles, that of params.yaml's `model` first.

    Raises:
        UserError: there is none, or params.yaml cannot be read.
    """
    chosen = params.load().model
    names = sorted(TITLES, key=lambda name: name != chosen)
    found = {TITLES[name]: MODELS / f"{name}.onnx" for name in names}
    networks = {title: Network(path) for title, path in found.items() if path.exists() and not optional.is_empty(path)}
    if not networks:
        raise UserError("there is no network in models/; make them with `dvc repro`, or bring them with `dvc pull`.")
    return networks


def application(networks: dict[str, Network], sandbox: Sandbox) -> ASGIApp:
    """The page and the JSON endpoint as one ASGI application that refuses what is too large.

    Args:
        networks: by their titles.
        sandbox: where uploads are decoded.
    """
    by_name = {network.card.network: network for network in networks.values()}
    app = FastAPI(title="redarte", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")

    @app.get("/health")
    def health() -> Health:
        return Health(status="ok", networks=list(by_name))

    @app.post("/api/predict", responses=_REFUSALS)
    def predict(
        picture: UploadFile,
        network: Annotated[str, Query(description="one of /health's networks; by default the first")] = "",
        top: Annotated[int, Query(ge=1, le=100)] = _TOP,
    ) -> Answer:
        chosen = by_name.get(network or next(iter(by_name)))
        if chosen is None:
            raise HTTPException(422, f"there is no network {network}; there are {', '.join(by_name)}.")
        try:
            pixels = decoded(sandbox, picture.file.read(), chosen.side)
        except EndedError:
            raise HTTPException(503, _OVERLOADED) from None
        except UserError as error:
            raise HTTPException(422, f"The file {error}.") from None
        return Answer(**described(chosen.answers([pixels[None]]), 0, top), network=chosen.card.network)

    mounted = gradio.mount_gradio_app(
        app, blocks(networks, sandbox), "/", max_file_size=LARGEST, show_error=True, css=_STYLE,
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        allowed_paths=[str(TEST.resolve())], ssr_mode=False, enable_monitoring=False, footer_links=[],
    )  # fmt: skip
    return Bounded(mounted, LARGEST)


def blocks(networks: dict[str, Network], sandbox: Sandbox) -> gradio.Blocks:
    """The page: a picture and a network in, an answer out."""

    def answer(file: str | None, title: str) -> str:
        if file is None:
            return ""
        try:
            return answered(networks[title], decoded(sandbox, Path(file), networks[title].side))
        except EndedError:
            return sentence(_OVERLOADED)
        except UserError as error:
            return sentence(f"The file {error}.")

    page = gradio.Blocks(title="redarte", analytics_enabled=False, delete_cache=(_KEPT, _KEPT))
    with page:
        gradio.Markdown("# Who painted it?\nDrop a picture, paste one, or click an example.")
        with gradio.Row():
            with gradio.Column(scale=1):
                picture = gradio.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=320
                )
                network = gradio.Radio(list(networks), value=next(iter(networks)), label="Network")
                examples = example_pictures()
                if examples:
                    gradio.Examples(examples, picture, cache_examples=False)
            with gradio.Column(scale=2):
                result = gradio.HTML(label="Answer", elem_id="answer")
        for changed in (picture.change, network.change):
            changed(answer, [picture, network], result, api_visibility="private", concurrency_limit=4)
        if any(network.card.data == "sample" for network in networks.values()):
            gradio.Markdown(_OF_SAMPLE)
    page.queue(max_size=256)
    return page


def example_pictures() -> list[str]:
    """Three test pictures, of three artists where there are so many; the same each time."""
    if not TEST.is_dir():
        return []
    paths = paintings.listing(TEST)
    random.Random(0).shuffle(paths)
    of_each = {path.partition("/")[0]: path for path in paths}
    return [str((TEST / path).resolve()) for path in sorted(of_each.values())[:3]]


def answered(network: Network, pixels: Picture) -> str:
    """The answer to a picture as HTML: bars, where the network looked, and what it was reminded of."""
    answers = network.answers([pixels[None]])
    likeliest = ranked(answers, 0, _TOP)
    place = network.card.artists.index(likeliest[0][0])
    seen = as_uri(explanations.overlay(pixels, network.evidence(pixels, place)))
    bars = "".join(
        f'<div class="row"><span>{html.escape(spoken(artist))}</span><span class="track">'
        f'<i style="width:{probability:.1%}"></i></span><span class="number">{probability:.1%}</span></div>'
        for artist, probability in likeliest
    )
    doubt = "" if answers.known[0] else sentence("None of the painters I know: it is unlike what I was trained on.")
    return (
        f'<div class="answer">{doubt}<div class="bars">{bars}</div>'
        f'<h3>Where {html.escape(spoken(likeliest[0][0]))} is seen</h3><img class="seen" src="{seen}" '
        f'alt="the picture, bright where it speaks for the answer">{reminders(answers)}</div>'
    )


def reminders(answers: Answers) -> str:
    """The nearest training pictures, with their pictures where they are on this machine."""
    shown = []
    for path, similarity in answers.nearest(0, _NEAREST):
        artist, _, name = path.partition("/")
        image = (
            f'<img src="{as_uri(paintings.read_within(TRAIN / path, 200))}" alt="">' if (TRAIN / path).is_file() else ""
        )
        caption = f"{html.escape(spoken(artist))}<br>{html.escape(name)} ({similarity:.2f})"
        shown.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f'<h3>It reminds the network of</h3><div class="pictures">{"".join(shown)}</div>'


def decoded(sandbox: Sandbox, upload: Path | bytes, side: int) -> Picture:
    """An upload as a square of side×side px."""
    return sandbox.call(partial(paintings.read_strange, side=side, max_pixels=MOST_PIXELS), upload)


def sentence(text: str) -> str:
    return f'<div class="answer"><p><b>{html.escape(text)}</b></p></div>'


class Bounded:
    """Answers 413 to a request whose body is larger than `largest` bytes, without reading on."""

    def __init__(self, app: ASGIApp, largest: int):
        self.app = app
        self.largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.largest:
            await refuse(send)
            return
        taken, started, refused = 0, False, False

        async def count() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.largest:
                raise _TooLargeError
            return message

        async def answer(message: Message) -> None:
            # FastAPI turns an error while it reads into an answer of its own, which says less.
            nonlocal started, refused
            if taken > self.largest and not started and not refused:
                refused = True
                await refuse(send)
            elif not refused:
                started = True
                await send(message)

        try:
            await self.app(scope, count, answer)
        except _TooLargeError:
            if not started and not refused:
                await refuse(send)


class _TooLargeError(Exception):
    """More of a body came than is allowed."""


async def refuse(send: Callable[[Message], Awaitable[None]]) -> None:
    body = json.dumps({"detail": f"A request may have {LARGEST // 2**20} MB."}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
