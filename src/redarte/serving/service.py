"""The HTTP service of `redarte serve`: the page, and an API for programs.

POST /api/predict predicts an image, GET /health lists the models, and /api/openapi.json describes both. /label-issues
and /map are the pages of `redarte label-issues`, and POST /api/corrections saves its decisions; only this machine can
use these three. Nothing is downloaded, and no upload gets a name on the disk: a large one is an unnamed temporary file.
"""

import base64
import hashlib
import itertools
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import uvicorn
from fastapi import FastAPI, Form, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, Response
from pydantic import BaseModel, Field
from starlette.types import ASGIApp

import redarte
from redarte.images.decoding import ImageArray
from redarte.images.splitting.corrections import Correction
from redarte.inference.predictor import Predictor
from redarte.ingestion import checks
from redarte.labelling import corrections_file
from redarte.runtime import paths
from redarte.runtime.console import say, warn
from redarte.runtime.errors import UserError, printable
from redarte.runtime.sandbox import Sandbox, WorkersKilledError
from redarte.serving import serve_page
from redarte.serving.access import Access
from redarte.serving.serve_page import MAX_PIXELS, MAX_UPLOAD, TOP

# Bytes of a request without an image: it is held in memory, and a refused one until Python's next garbage collection.
_MAX_OTHER = 2**20
_DECODING = 4  # uploads at once: a malicious one of a few kB can take half a gigabyte
_TIMEOUT = 20.0  # seconds for an upload
_GRACE = 1  # seconds for running requests when the service ends: an upload may have stalled
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "not a form, or not JSON"},
    403: {"description": "from another site's page, for another host name, or a correction from another machine"},
    408: {"description": "the request did not arrive in time"},
    413: {"description": f"the request is larger than {MAX_UPLOAD // 2**20} MB"},
    422: {"description": "not an image, no such model, or a row that is not valid"},
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
    version: str = Field(description="of redarte")
    models: list[str]


def serve(models: list[Path], host: str, port: int, names: list[str], behind_proxy: bool) -> None:
    """Serves until Ctrl-C.

    Args:
        models: .onnx files and folders of them; none: those of the project.
        port: 0 for any free port.
    """
    if sys.stderr.isatty():
        warn("loading the models (some seconds)")
    with Sandbox(_DECODING, checks.max_memory(MAX_PIXELS), checks.__name__, _TIMEOUT) as sandbox:
        app = Access(application(serve_page.load_models(models), sandbox), host, names, behind_proxy)
        # Whatever the environment says, no header tells where a request comes from.
        config = uvicorn.Config(
            app, host, port, log_level="error", limit_concurrency=512, timeout_graceful_shutdown=_GRACE, ws="none",
            proxy_headers=False, server_header=False,
        )  # fmt: skip
        server = uvicorn.Server(config)
        # Otherwise it prints a traceback for each interrupted request.
        logging.getLogger("uvicorn.error").addFilter(lambda _record: not server.should_exit)
        socket = bound(server, host, port)
        # Requests may arrive as soon as the address is printed, and wait until the server has started.
        socket.listen()
        say(f"redarte: {address(host, socket.getsockname()[1])} (Ctrl-C ends it)")
        server.run(sockets=[socket])


def address(host: str, port: int) -> str:
    """Returns the URL to open in a browser of this machine."""
    if host in ("::", "0.0.0.0", ""):  # all addresses of this machine
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound(server: uvicorn.Server, host: str, port: int) -> Any:
    """Returns the socket to listen on."""
    try:
        return server.config.bind_socket()
    except SystemExit:
        raise UserError(f"{host}:{port} is in use or not available; choose another with --port.") from None


def application(models: dict[str, Predictor], sandbox: Sandbox) -> ASGIApp:
    """Returns the page and the API, which `Access` must protect."""
    first = serve_page.first_choice(models)
    examples = serve_page.example_images()
    pages = {
        shown: serve_page.render(models, first, examples, *shown)
        for shown in itertools.product((False, True), repeat=2)
    }
    # Form fields that are not files are held in memory.
    app = FastAPI(
        title="redarte", version=redarte.__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        form_limits={"max_files": 1, "max_fields": 10, "max_part_size": 1000}, max_body_size=_MAX_OTHER,
    )  # fmt: skip

    def model_named(name: str) -> Predictor:
        if name not in models:
            raise HTTPException(422, f"there is no model {printable(name)}; the models are {', '.join(models)}.")
        try:
            # The file may be another one since the start.
            models[name] = models[name].reloaded()
        except UserError as error:
            raise HTTPException(503, str(error)) from None
        return models[name]

    def decoded(image: UploadFile, model: Predictor) -> ImageArray:
        """The upload as a model sees it: (side, side, 3), uint8."""
        try:
            return sandbox.call(model.reader(MAX_PIXELS), image.file.read())
        except WorkersKilledError:
            raise HTTPException(503, "The server is short of memory; try again later.") from None
        except UserError as error:
            raise HTTPException(422, f"The file {error}.") from None

    @app.exception_handler(RequestValidationError)
    def refuse(_request: Request, error: RequestValidationError) -> Response:
        # Without the input, which FastAPI would repeat, and as ASCII: the input may be no valid Unicode.
        problems = [{name: problem[name] for name in ("type", "loc", "msg")} for problem in error.errors()]
        return Response(json.dumps({"detail": problems}), 422, media_type="application/json")

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    def health() -> Health:
        return Health(status="ok", version=redarte.__version__, models=list(models))

    @app.post("/api/predict", responses=_REFUSALS, max_body_size=MAX_UPLOAD)
    def predict(
        image: UploadFile,
        model: Annotated[str, Query(description="one of /health's models; by default that of params.yaml")] = "",
        top: Annotated[int | None, Query(ge=1, le=100, description=f"by default {TOP}")] = None,
        model_field: Annotated[str, Form(alias="model", description="as in the query")] = "",
        top_field: Annotated[int | None, Form(alias="top", ge=1, le=100, description="as in the query")] = None,
    ) -> Prediction:
        name = one_of(model, model_field, first)
        chosen = model_named(name)
        predictions = chosen.predict([decoded(image, chosen)[None]])
        ranking = predictions.as_json(0, one_of(top, top_field, TOP))
        return Prediction(**ranking, model=name, data=chosen.metadata.data)

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    def start_page(request: Request) -> HTMLResponse:
        is_local = request.state.is_local
        return _html(pages[is_local, is_local and corrections_file.has_current_page()])

    @app.post("/page/predict", include_in_schema=False, max_body_size=MAX_UPLOAD)
    def prediction_of_page(image: UploadFile, model: Annotated[str, Form()]) -> HTMLResponse:
        chosen = model_named(model)
        return _html(serve_page.result_html(chosen, decoded(image, chosen)))

    @app.get("/examples/{number}", include_in_schema=False)
    def example(number: int) -> FileResponse:
        if not 0 <= number < len(examples) or not examples[number].path.is_file():
            raise HTTPException(404, "There is no such example.")
        return FileResponse(examples[number].path)

    if not serve_page.is_project():
        return app

    @app.post("/page/correct", include_in_schema=False, max_body_size=MAX_UPLOAD)
    def correct(request: Request, image: UploadFile, artist: Annotated[str, Form()]) -> dict[str, str]:
        _check_local(request)
        try:
            right = serve_page.artist_named(artist, models)
            return {"detail": corrections_file.save_artist(image.file.read(), right)}
        except UserError as error:
            raise HTTPException(422, f"Not saved: {error}") from None

    @app.get("/label-issues", include_in_schema=False)
    def label_issues_page(request: Request) -> HTMLResponse:
        _check_local(request)
        return _page_of_today(paths.LABEL_PAGE)

    @app.get("/map", include_in_schema=False)
    def map_page(request: Request) -> HTMLResponse:
        _check_local(request)
        return _page_of_today(paths.MAP_PAGE)

    @app.post("/api/corrections", responses=_REFUSALS)
    def save_corrections(request: Request, decisions: list[Decision]) -> Saved:
        _check_local(request)
        try:
            rows = corrections_file.save([Correction(0, **decision.model_dump()) for decision in decisions])
        except UserError as error:
            raise HTTPException(422, str(error)) from None
        return Saved(rows=rows)

    return app


def _html(content: str) -> HTMLResponse:
    """A page that runs its own script and no other."""
    # The last one, because an image's name could bring an earlier one if a template did not escape it.
    script = content.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(content, headers={"Content-Security-Policy": policy})


def _page_of_today(file: Path) -> HTMLResponse:
    """A page of `redarte label-issues`, if it shows the images of today."""
    try:
        content, images = file.read_text(encoding="utf-8"), corrections_file.images_digest()
    except FileNotFoundError:
        raise HTTPException(404, f"{file} is missing; create it with `redarte label-issues`.") from None
    except UserError as error:
        raise HTTPException(404, str(error)) from None
    if not corrections_file.is_page_of(content, images):
        raise HTTPException(409, f"{file} shows other images than today's; create it with `redarte label-issues`.")
    return _html(content)


def _check_local(request: Request) -> None:
    if not request.state.is_local:
        raise HTTPException(403, corrections_file.NOT_LOCAL)


def one_of(in_query: Value | None, in_form: Value | None, default: Value) -> Value:
    """Returns the value that a request has in the query or in the form.

    Args:
        in_query: None or "" where it is missing.
    """
    given = {value for value in (in_query, in_form) if value}
    if len(given) > 1:
        raise HTTPException(422, "the form and the query request different models or numbers of artists.")
    return next(iter(given), default)
