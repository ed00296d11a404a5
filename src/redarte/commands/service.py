"""The HTTP service of `redarte serve`: the page, and an API for programs.

POST /api/predict predicts an image, GET /health lists the models, and /api/openapi.json describes both. /label-issues
is the page of `redarte label-issues`, and POST /api/corrections saves its decisions; only this machine can use these
two. Nothing is downloaded, and an upload is deleted within two minutes. `serve` starts the service, and configures what
gradio reads on import.
"""

import logging
from typing import Annotated, Any, Literal, TypeVar

import gradio
import uvicorn
from fastapi import FastAPI, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from redarte.commands import corrections_file, page
from redarte.commands.corrections_file import PAGE
from redarte.commands.page import MAX_PIXELS, OVERLOADED, TOP, decoded
from redarte.commands.predict import as_json
from redarte.images.collection import checks
from redarte.images.collection.corrections import Correction
from redarte.inference.predictor import Predictor
from redarte.runtime.console import say
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import EndedError, Sandbox

MAX_UPLOAD = 20 * 2**20  # bytes: the largest request with an image
_UPLOADS = ("/api/predict", "/gradio_api/upload")  # the paths for it
# Bytes of any other request: it is held in memory, and a refused one until Python's next garbage collection.
_MAX_OTHER = 2**20
_DECODING = 4  # uploads at once: a malicious one of a few kB can take half a gigabyte
_TIMEOUT = 20.0  # seconds for an upload
_GRACE = 1  # seconds for running requests when the service ends: an upload may have stalled
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "not a form"},
    413: {"description": f"the request is larger than {MAX_UPLOAD // 2**20} MB"},
    422: {"description": "not an image, or no such model"},
    503: {"description": "the machine is overloaded"},
}


Value = TypeVar("Value", str, int)


class RankedArtist(BaseModel):
    """An artist and the probability that the image is by this artist."""

    artist: str
    probability: float = Field(
        ge=0, le=1, description="calibrated: this share of all predictions with this probability is right"
    )


class Prediction(BaseModel):
    """A model's prediction for an image."""

    artist: str = Field(description="the predicted artist")
    probability: float = Field(ge=0, le=1)
    top: list[RankedArtist] = Field(description="in descending order")
    in_distribution: bool = Field(description="whether the image is similar to the training images")
    model: str
    data: str = Field(description="the source of the images that the model was trained on")


class Decision(BaseModel):
    """A row of corrections.csv."""

    image: str = Field(min_length=1, max_length=1000, description="<artist>/<stem> in the source")
    action: Literal["relabel", "exclude", "keep"]
    artist: str = Field("", max_length=100, description="the new artist, for relabel")
    reason: str = Field("", max_length=1000)


class Saved(BaseModel):
    """What corrections.csv has after saving."""

    rows: int


class Health(BaseModel):
    """The state of the service."""

    status: str
    models: list[str]


def serve(host: str, port: int) -> None:
    """Serves until Ctrl-C.

    Args:
        host: the address to listen on.
        port: 0 for any free port.

    Raises:
        UserError: there is no model, or the address is in use.
    """
    with Sandbox(_DECODING, checks.max_memory(MAX_PIXELS), checks.__name__, _TIMEOUT) as sandbox:
        app = application(page.load_models(), sandbox)
        config = uvicorn.Config(
            app, host, port, log_level="error", limit_concurrency=512, timeout_graceful_shutdown=_GRACE
        )
        server = uvicorn.Server(config)
        # Otherwise it prints a traceback for each interrupted request.
        logging.getLogger("uvicorn.error").addFilter(lambda _record: not server.should_exit)
        socket = bound(server, host, port)
        # Requests may arrive as soon as the address is printed, and wait until the server has started.
        socket.listen()
        say(f"redarte: {address(host, socket.getsockname()[1])} (Ctrl-C ends it)")
        server.run(sockets=[socket])


def address(host: str, port: int) -> str:
    """Returns the URL to open in a browser of this machine.

    Args:
        host: the address that the service listens on.
        port: its port.
    """
    if host in ("::", "0.0.0.0", ""):  # all addresses of this machine
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound(server: uvicorn.Server, host: str, port: int) -> Any:
    """Returns the socket to listen on.

    Args:
        server: the server.
        host: its address.
        port: its port.

    Raises:
        UserError: the address is in use.
    """
    try:
        return server.config.bind_socket()
    except SystemExit:
        raise UserError(f"{host}:{port} is in use or not available; choose another with --port.") from None


def application(models: dict[str, Predictor], sandbox: Sandbox) -> ASGIApp:
    """Returns the page and the API as one ASGI application that refuses large requests.

    Args:
        models: by the names of their files.
        sandbox: decodes uploads.
    """
    first = page.first_choice(models)
    # Form fields that are not files are held in memory.
    app = FastAPI(
        title="redarte", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        form_limits={"max_files": 1, "max_fields": 10, "max_part_size": 1000},
    )  # fmt: skip

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    def health() -> Health:
        return Health(status="ok", models=list(models))

    @app.post("/api/predict", responses=_REFUSALS)
    def predict(
        image: UploadFile,
        model: Annotated[str, Query(description="one of /health's models; by default that of params.yaml")] = "",
        top: Annotated[int | None, Query(ge=1, le=100, description=f"by default {TOP}")] = None,
        model_field: Annotated[str, Form(alias="model", description="as in the query")] = "",
        top_field: Annotated[int | None, Form(alias="top", ge=1, le=100, description="as in the query")] = None,
    ) -> Prediction:
        name = one_of(model, model_field, first)
        chosen = models.get(name)
        if chosen is None:
            raise HTTPException(422, f"there is no model {name}; the models are {', '.join(models)}.")
        try:
            pixels = decoded(sandbox, image.file.read(), chosen)
        except EndedError:
            raise HTTPException(503, OVERLOADED) from None
        except UserError as error:
            raise HTTPException(422, f"The file {error}.") from None
        return Prediction(
            **as_json(chosen.predict([pixels[None]]), 0, one_of(top, top_field, TOP)),
            model=name,
            data=chosen.metadata.data,
        )

    @app.get("/label-issues", include_in_schema=False)
    def label_issues_page(request: Request) -> HTMLResponse:
        _check_local(request)
        try:
            return HTMLResponse(PAGE.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise HTTPException(404, f"{PAGE} is missing; create it with `redarte label-issues`.") from None

    @app.post("/api/corrections", responses={403: {"description": "not from this machine"}})
    def save_corrections(request: Request, decisions: list[Decision]) -> Saved:
        _check_local(request)
        try:
            rows = corrections_file.save([Correction(0, **decision.model_dump()) for decision in decisions])
        except UserError as error:
            raise HTTPException(422, str(error)) from None
        return Saved(rows=rows)

    mounted = gradio.mount_gradio_app(
        app, page.build(models, first, sandbox), "/", max_file_size=MAX_UPLOAD, show_error=True, css=page.STYLE,
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        allowed_paths=[str(page.TEST.resolve())], ssr_mode=False, enable_monitoring=False, footer_links=[],
    )  # fmt: skip
    return BodyLimit(mounted)


def _check_local(request: Request) -> None:
    if not corrections_file.is_local(request):
        raise HTTPException(403, corrections_file.NOT_LOCAL)


def one_of(in_query: Value | None, in_form: Value | None, default: Value) -> Value:
    """Returns the value that a request has in the query or in the form.

    Args:
        in_query: None or "" where it is missing.
        in_form: the same.
        default: where both are missing.

    Raises:
        HTTPException: 422, the two values differ.
    """
    given = {value for value in (in_query, in_form) if value}
    if len(given) > 1:
        raise HTTPException(422, "the form and the query request different models or numbers of artists.")
    return next(iter(given), default)


class BodyLimit:
    """Responds with 413 to a request with a larger body than its path needs, without reading the rest.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp):
        self._upload = RequestBodyLimitMiddleware(app, MAX_UPLOAD)
        self._other = RequestBodyLimitMiddleware(app, _MAX_OTHER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        bounded = self._upload if scope.get("path") in _UPLOADS else self._other
        await bounded(scope, receive, send)
