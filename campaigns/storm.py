"""The service under many simultaneous clients, most of them malicious.

An attack is a minute of two hundred clients: good and malicious uploads, uploads that are too large or never end, names
of private files in every endpoint, other origins, and bytes that are not HTTP. Afterwards the service predicts as
before, holds no more memory or files, and has disclosed no traceback and no file of the machine.
"""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import requests
from tests import servers
from tests.conftest import Workspace, new_workspace, painting
from yarl import URL

from campaigns.images import malicious
from redarte.images import decoding

CLIENTS = 200
SECONDS = 60.0
_WARM = 0.3  # of an attack: after this share of it the memory of the service is stable
_MORE_MEMORY = 0.25  # of the memory then that is allowed at the end: glibc's reserves vary
_LONGEST = 60.0  # seconds for a response
HUNG_UP = "it hung up"
_EVIL = "https://evil.example"
SECRET = "nobody outside may read this"


@dataclass(frozen=True)
class Service:
    """A running `redarte serve`.

    Attributes:
        before: its prediction for the image `good` before any attack.
    """

    address: str
    process: psutil.Process
    scratch: Path
    secret: Path
    good: bytes
    before: dict[str, object]


@contextmanager
def prepared(folder: Path) -> Iterator[Service]:
    workspace = new_workspace(folder / "redarte", {})
    workspace.run("dvc", "repro", "export@red1")
    with served(workspace, folder) as service:
        yield service


@contextmanager
def served(workspace: Workspace, folder: Path) -> Iterator[Service]:
    """Serves a workspace with models and a secret file."""
    secret = folder / "secret.txt"
    secret.write_text(SECRET, encoding="utf-8")
    good = decoding.jpeg(painting(300, 200), 90)
    with servers.page(workspace, folder) as page:
        before = requests.post(f"{page.address}/api/predict", files={"image": good}, timeout=60).json()
        yield Service(page.address, psutil.Process(page.process.pid), page.scratch, secret, good, before)
    assert "Traceback" not in page.log.read_text(encoding="utf-8")


def attack(service: Service, seed: int) -> Counter[str]:
    happened, held, files = asyncio.run(storm(service, seed))
    earnest = {outcome: times for outcome, times in happened.items() if outcome.startswith(asks_in_earnest.__name__)}
    assert earnest[f"{asks_in_earnest.__name__}: 200"] > 0.8 * sum(earnest.values()), earnest
    time.sleep(3)
    assert requests.get(f"{service.address}/health", timeout=10).json()["status"] == "ok"
    after = requests.post(f"{service.address}/api/predict", files={"image": service.good}, timeout=60).json()
    assert after == service.before, "it answers otherwise than before"
    now = memory(service)
    assert now < held * (1 + _MORE_MEMORY), f"{held / 1e6:.0f} MB at the start, and {now / 1e6:.0f} MB at the end"
    assert open_files(service) <= files + 10, "it has more files open than before"
    print(f"{sum(happened.values()) / SECONDS:.0f} requests a second; {held / 1e6:.0f} MB, then {now / 1e6:.0f} MB")
    return happened


def memory(service: Service) -> int:
    """Bytes that the service and its workers hold."""
    return sum(process.memory_info().rss for process in (service.process, *service.process.children(recursive=True)))


def open_files(service: Service) -> int:
    return int(service.process.num_fds())


async def storm(service: Service, seed: int) -> tuple[Counter[str], int, int]:
    """Lets the clients loose, and gives what they met with, and the memory and the files held early on."""
    files = open_files(service)
    ends = time.monotonic() + SECONDS
    limits = aiohttp.ClientTimeout(total=_LONGEST)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(service.address, timeout=limits, connector=connector) as session:
        clients = [
            asyncio.create_task(client(session, service, random.Random(f"{seed} {number}"), ends))
            for number in range(CLIENTS)
        ]
        await asyncio.sleep(SECONDS * _WARM)
        held = memory(service)
        met = await asyncio.gather(*clients)
    return sum(met, Counter[str]()), held, files


async def client(session: aiohttp.ClientSession, service: Service, rng: random.Random, ends: float) -> Counter[str]:
    met: Counter[str] = Counter()
    while time.monotonic() < ends:
        act = rng.choice(ACTS)
        try:
            met[f"{act.__name__}: {await act(session, service, rng)}"] += 1
        except aiohttp.ClientConnectionError:
            # The service closes connections with unwanted data, and any connection if it has too many clients.
            met[f"{act.__name__}: {HUNG_UP}"] += 1
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            assert act in HOSTILE, f"{act.__name__}: {error!r}"
            met[f"{act.__name__}: {type(error).__name__}"] += 1
    return met


async def checked(answer: aiohttp.ClientResponse, allowed: set[int]) -> int:
    """An answer's status, after a look at what it gives away."""
    body = await answer.read()
    assert answer.status in allowed, f"{answer.method} {answer.url}: {answer.status} {body[:500]!r}"
    for leak in (b"Traceback (most", b'File "/', b"site-packages", SECRET.encode(), b"root:x:0:"):
        assert leak not in body, f"{answer.method} {answer.url} tells {leak!r}: {body[:500]!r}"
    assert answer.headers.get("Access-Control-Allow-Origin") not in ("*", _EVIL), f"{answer.url} lets others read it"
    return answer.status


def form(content: bytes, name: str = "p.jpg") -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("image", content, filename=name)
    return data


async def asks_in_earnest(session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    async with session.post("/api/predict", data=form(service.good)) as answer:
        status = await checked(answer, {200, 503})
        assert status == 503 or await answer.json() == service.before
        return status


async def looks_at_the_page(session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    async with session.get(rng.choice(["/", "/health", "/api/openapi.json"])) as answer:
        return await checked(answer, {200, 503})


async def uploads_malicious_files(session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    data, suffix = malicious(rng)
    name = rng.choice(["p", "../../p", "é" * 200, "", "'\"<b>"]) + suffix
    async with session.post("/api/predict", data=form(data, name)) as answer:
        return await checked(answer, {200, 422, 503, 400})


async def asks_for_nonsense(session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    odd = rng.choice(["", "-1", "0", "101", "1e9", "x", "9" * 400, "../red1", "red1\0", "é", "%00", "[]"])
    query = rng.choice([{"model": odd}, {"top": odd}, {"top": odd, "model": odd}, {odd: odd}])
    async with session.post("/api/predict", params=query, data=form(service.good)) as answer:
        return await checked(answer, {200, 422, 503})


async def sends_too_much(session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(2**20)

    body = rng.choice([bytes(21 * 2**20), endless()])
    path = rng.choice(["/api/predict", "/page/predict", "/page/correct", "/api/corrections", "/nothing"])
    kind = rng.choice(["multipart/form-data; boundary=x", "application/json", "application/octet-stream"])
    async with session.post(path, data=body, headers={"Content-Type": kind}) as answer:
        return await checked(answer, {413, 503, 404, 405, 400, 422})


async def sends_slowly(_session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    """Announces a body and sends a byte of it now and then, and goes away."""
    reader, writer = await connect(service)
    try:
        writer.write(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        )
        writer.write(b"Content-Length: 1000000\r\n\r\n" if rng.random() < 0.7 else b"X")
        for _ in range(rng.randint(1, 8)):
            writer.write(b"-")
            await writer.drain()
            await asyncio.sleep(0.5)
    finally:
        writer.close()
    del reader
    return 0


async def talks_no_http(_session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    reader, writer = await connect(service)
    try:
        writer.write(
            rng.choice(
                [
                    rng.randbytes(3000),
                    b"GET / HTTP/9.9\r\n\r\n",
                    b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
                    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
                    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                    b"POST /api/predict HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                ]
            )
        )
        await writer.drain()
        body = await asyncio.wait_for(reader.read(2000), 10)
        assert b"Traceback" not in body and b" 500 " not in body[:20], body
    finally:
        writer.close()
    return int((re.findall(rb"^HTTP/1.1 (\d+)", body) or [b"0"])[0])


async def connect(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = service.address.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


ENDPOINTS = (
    "/{}",
    "/file={}",
    "/gradio_api/file={}",
    "/static/{}",
    "/assets/{}",
    "/examples/{}",
    "/page/{}",
    "/label-issues/{}",
    "/api/{}",
    "/api/predict/{}",
    "/health/{}",
)


async def wants_files(session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    """Asks every endpoint for files of the machine, in every spelling."""
    secret, project = str(service.secret), service.secret.with_name("redarte")
    wanted = rng.choice(
        [
            secret,
            "/etc/passwd",
            "../secret.txt",
            "params.yaml",
            ".git/config",
            ".dvc/config",
            "data/raw",
            "models/red1.onnx",
            f"{project}/params.yaml",
            f"{project}/data/split/test/../../../params.yaml",
            f"http://127.0.0.1/{secret}",
            f"file://{secret}",
            "\\\\host\\share",
            "con",
            "x" * 5000,
            "a%00b",
        ]
    )
    spelling = rng.choice(SPELLINGS)
    path = rng.choice(ENDPOINTS).format(spelling(wanted))
    allowed = set(range(200, 500)) | {503}
    method = rng.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
    async with session.request(method, URL(service.address + path, encoded=True), allow_redirects=False) as answer:
        return await checked(answer, allowed)


def up(path: str) -> str:
    return "../" * 9 + path.lstrip("/")


def percent(path: str) -> str:
    return "".join(f"%{byte:02x}" for byte in path.encode())


def percent_twice(path: str) -> str:
    return percent(path).replace("%", "%25")


def dotted(path: str) -> str:
    return "/./" + path.replace("/", "//")


SPELLINGS: list[Callable[[str], str]] = [lambda path: path, up, percent, percent_twice, dotted]


async def sends_paths(session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    """Sends paths to the page's own endpoints where they expect an image, a model or a decision."""
    file = rng.choice([str(service.secret), "/etc/passwd", "../secret.txt", "", "x", None, 5, [str(service.secret)]])
    path = rng.choice(["/api/predict", "/page/predict", "/page/correct", "/api/corrections"])
    if rng.random() < 0.5:
        content = json.dumps(rng.choice([[{"image": file, "action": file}], {"image": file}, file]))
        sent: dict[str, Any] = {"data": rng.choice([content, content[:-3], "[" * 500_000, ""])}
        sent["headers"] = {"Content-Type": "application/json"}
    else:
        sent = {"data": {"image": str(file), "model": rng.choice(["red1", str(file)]), "artist": str(file)}}
    async with session.post(path, **sent) as answer:
        return await checked(answer, {400, 413, 422, 503})


async def comes_from_elsewhere(session: aiohttp.ClientSession, service: Service, rng: random.Random) -> int:
    """A page of another site that makes its reader's browser ask, and would like to read the answer."""
    headers = {"Origin": rng.choice([_EVIL, "null"]), "Access-Control-Request-Method": "POST"}
    path = rng.choice(["/api/predict", "/health", "/", "/page/predict", "/api/corrections", "/label-issues", "/map"])
    if rng.random() < 0.5:
        headers["Cookie"] = "a=b"
    async with session.request(rng.choice(["OPTIONS", "GET", "POST"]), path, headers=headers) as answer:
        return await checked(answer, set(range(200, 500)) | {503})


EARNEST = [asks_in_earnest, looks_at_the_page]
HOSTILE: list[Callable[[aiohttp.ClientSession, Service, random.Random], Awaitable[int]]] = [
    uploads_malicious_files,
    asks_for_nonsense,
    sends_too_much,
    sends_slowly,
    talks_no_http,
    wants_files,
    sends_paths,
    comes_from_elsewhere,
]
ACTS = EARNEST * 2 + HOSTILE
