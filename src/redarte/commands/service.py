"""`redarte serve`: the page, and the same for programs.

POST /api/predict predicts for programs, GET /health says whether it can, and /api/openapi.json describes both. Nothing
is fetched from outside, and an upload is deleted within two minutes. It is started by `serve`, which settles what
gradio reads on import.
"""

import logging
from typing import Annotated, Any, TypeVar

import gradio
import uvicorn
from fastapi import FastAPI, Form, HTTPException, Query, UploadFile
from pydantic import BaseModel, Field
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from redarte.commands import page
from redarte.commands.page import MOST_PIXELS, OVERLOADED, TOP, decoded
from redarte.commands.predict import described
from redarte.inference.predictor import Predictor
from redarte.pictures.collection import checks
from redarte.runtime.console import say
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import EndedError, Sandbox

LARGEST = 20 * 2**20  # bytes: the largest request with a picture
_UPLOADS = ("/api/predict", "/gradio_api/upload")  # what takes one
# Bytes of any other: it is held in memory, and Python keeps one that was refused until it next looks for cycles.
_LARGEST_OTHER = 2**20
_DECODING = 4  # uploads at once: a hostile one of a few kB can take half a gigabyte while it is
_LONGEST = 20.0  # seconds for an upload
_GRACE = 1  # seconds for what is under way when the service ends: an upload may have stalled
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "not a form"},
    413: {"description": f"the request is larger than {LARGEST // 2**20} MB"},
    422: {"description": "not a picture, or no such network"},
    503: {"description": "the machine is overloaded"},
}


Value = TypeVar("Value", str, int)


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
    data: str = Field(description="the source of the images that the network was trained on")


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
        config = uvicorn.Config(
            app, host, port, log_level="error", limit_concurrency=512, timeout_graceful_shutdown=_GRACE
        )
        server = uvicorn.Server(config)
        # What it ends in the middle, it would report with a traceback each.
        logging.getLogger("uvicorn.error").addFilter(lambda _record: not server.should_exit)
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
        networks: by the names of their files.
        sandbox: where uploads are decoded.
    """
    # What is no file of a form is held in memory.
    app = FastAPI(
        title="redarte", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        form_limits={"max_files": 1, "max_fields": 10, "max_part_size": 1000},
    )  # fmt: skip

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    def health() -> Health:
        return Health(status="ok", networks=list(networks))

    @app.post("/api/predict", responses=_REFUSALS)
    def predict(
        picture: UploadFile,
        network: Annotated[str, Query(description="one of /health's networks; by default the first")] = "",
        top: Annotated[int | None, Query(ge=1, le=100, description=f"by default {TOP}")] = None,
        network_field: Annotated[str, Form(alias="network", description="as in the query")] = "",
        top_field: Annotated[int | None, Form(alias="top", ge=1, le=100, description="as in the query")] = None,
    ) -> Prediction:
        name = one_of(network, network_field, next(iter(networks)))
        chosen = networks.get(name)
        if chosen is None:
            raise HTTPException(422, f"there is no network {name}; there are {', '.join(networks)}.")
        try:
            pixels = decoded(sandbox, picture.file.read(), chosen)
        except EndedError:
            raise HTTPException(503, OVERLOADED) from None
        except UserError as error:
            raise HTTPException(422, f"The file {error}.") from None
        return Prediction(
            **described(chosen.predict([pixels[None]]), 0, one_of(top, top_field, TOP)),
            network=name,
            data=chosen.metadata.data,
        )

    mounted = gradio.mount_gradio_app(
        app, page.build(networks, sandbox), "/", max_file_size=LARGEST, show_error=True, css=page.STYLE,
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        allowed_paths=[str(page.TEST.resolve())], ssr_mode=False, enable_monitoring=False, footer_links=[],
    )  # fmt: skip
    return Bounded(mounted)


def one_of(in_query: Value | None, in_form: Value | None, otherwise: Value) -> Value:
    """The value that a request gives, in the query or in the form; 422 where these differ."""
    given = {value for value in (in_query, in_form) if value}
    if len(given) > 1:
        raise HTTPException(422, "the form and the query ask for different networks or numbers of artists.")
    return next(iter(given), otherwise)


class Bounded:
    """Answers 413 to a request whose body is larger than its kind needs, without reading on."""

    def __init__(self, app: ASGIApp):
        self._upload = RequestBodyLimitMiddleware(app, LARGEST)
        self._other = RequestBodyLimitMiddleware(app, _LARGEST_OTHER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        bounded = self._upload if scope.get("path") in _UPLOADS else self._other
        await bounded(scope, receive, send)
