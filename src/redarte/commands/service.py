"""`redarte serve`: the page, and the same for programs.

POST /api/predict predicts for programs, GET /health says whether it can, and /api/openapi.json describes both. Nothing
is fetched from outside, and an upload is deleted within two minutes. It is started by `serve`, which settles what
gradio reads on import.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import gradio
import uvicorn
from fastapi import FastAPI, HTTPException, Query, UploadFile
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redarte.commands import page
from redarte.commands.page import MOST_PIXELS, OVERLOADED, TOP, decoded
from redarte.commands.predict import described
from redarte.inference.predictor import Predictor
from redarte.pictures.collection import checks
from redarte.runtime.console import say
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import EndedError, Sandbox

LARGEST = 20 * 2**20  # bytes: the largest request
_DECODING = 4  # uploads at once: a hostile one of a few kB can take half a gigabyte while it is
_LONGEST = 20.0  # seconds for an upload
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "not a form"},
    413: {"description": "the request is too large"},
    422: {"description": "not a picture, or no such network"},
    503: {"description": "the machine is overloaded"},
}


class Likely(BaseModel):
    """An artist and how probable it is that the picture is the artist's."""

    artist: str
    probability: float = Field(ge=0, le=1, description="calibrated: of all predictions this sure, this share is right")


class Prediction(BaseModel):
    """What a network predicts for a picture."""

    artist: str = Field(description="the likeliest")
    probability: float = Field(ge=0, le=1)
    top: list[Likely] = Field(description="the likeliest first")
    in_distribution: bool = Field(description="whether the picture is like those that the network was trained on")
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
    with Sandbox(_DECODING, checks.most_memory(MOST_PIXELS), checks.__name__, _LONGEST) as sandbox:
        app = application(page.load_networks(), sandbox)
        server = uvicorn.Server(uvicorn.Config(app, host, port, log_level="error", limit_concurrency=512))
        socket = bound(server, host, port)
        # Who reads the address may ask at once, and waits until the server has started.
        socket.listen()
        say(f"redarte: {address(host, socket.getsockname()[1])} (Ctrl-C ends it)")
        server.run(sockets=[socket])


def address(host: str, port: int) -> str:
    """What can be opened in a browser of this machine, where the service listens on a host's address."""
    if host in ("::", "0.0.0.0", ""):  # every address of this machine
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound(server: uvicorn.Server, host: str, port: int) -> Any:
    """The socket to listen on."""
    try:
        return server.config.bind_socket()
    except SystemExit:
        raise UserError(f"{host}:{port} cannot be listened on; choose another with --port.") from None


def application(networks: dict[str, Predictor], sandbox: Sandbox) -> ASGIApp:
    """The page and the JSON endpoint as one ASGI application that refuses what is too large.

    Args:
        networks: by their titles.
        sandbox: where uploads are decoded.
    """
    by_name = {network.metadata.network: network for network in networks.values()}
    app = FastAPI(title="redarte", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")

    @app.get("/health")
    def health() -> Health:
        return Health(status="ok", networks=list(by_name))

    @app.post("/api/predict", responses=_REFUSALS)
    def predict(
        picture: UploadFile,
        network: Annotated[str, Query(description="one of /health's networks; by default the first")] = "",
        top: Annotated[int, Query(ge=1, le=100)] = TOP,
    ) -> Prediction:
        chosen = by_name.get(network or next(iter(by_name)))
        if chosen is None:
            raise HTTPException(422, f"there is no network {network}; there are {', '.join(by_name)}.")
        try:
            pixels = decoded(sandbox, picture.file.read(), chosen.side)
        except EndedError:
            raise HTTPException(503, OVERLOADED) from None
        except UserError as error:
            raise HTTPException(422, f"The file {error}.") from None
        return Prediction(**described(chosen.predict([pixels[None]]), 0, top), network=chosen.metadata.network)

    mounted = gradio.mount_gradio_app(
        app, page.build(networks, sandbox), "/", max_file_size=LARGEST, show_error=True, css=page.STYLE,
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        allowed_paths=[str(page.TEST.resolve())], ssr_mode=False, enable_monitoring=False, footer_links=[],
    )  # fmt: skip
    return Bounded(mounted, LARGEST)


class Bounded:
    """Predictions 413 to a request whose body is larger than `largest` bytes, without reading on."""

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
