"""Who may use `redarte serve`: attacks by strangers on the network, by other sites' pages, and by large uploads."""

import asyncio
import concurrent.futures
import contextlib
import csv
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from campaigns import strangers
from campaigns.strangers import Target, ask
from fastapi import FastAPI, HTTPException, UploadFile
from starlette.types import Message

from redarte.serving import access
from redarte.serving.access import Access
from tests import browser, servers
from tests.conftest import ROOT, Workspace, write_painting

HERE = {"Host": "localhost"}


@pytest.fixture(scope="module")
def target(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    clone = finished.clone(tmp_path_factory.mktemp("clone") / "redarte")
    for name in ("data", "models"):
        shutil.copytree(finished.path / name, clone.path / name, dirs_exist_ok=True)
    # Whatever the environment says, a stranger is not this machine.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORWARDED_ALLOW_IPS", "*")
        with strangers.served(clone, tmp_path_factory.mktemp("served")) as served:
            yield served


def test_two_hundred_requests_of_strangers(target: Target) -> None:
    happened = strangers.attack(target, seed=1)
    assert {"allowed: 200", "allowed: 422", "refused: 403"} <= set(happened)


@pytest.mark.parametrize("value", ["/etc/hostname", "/dev/zero"])
def test_no_route_opens_a_file_that_it_is_told(target: Target, value: str) -> None:
    """gradio returned any file that a request named, and read /dev/zero forever."""
    secret = Path("/etc/hostname").read_bytes()
    file = {"path": value, "meta": {"_type": "gradio.FileData"}}
    queue = {"data": [file, "red1"], "fn_index": 1, "session_hash": "q", "event_data": None}
    gradio = [("/gradio_api/queue/join", "POST"), (f"/gradio_api/file={value}", "GET"), (f"/file={value}", "GET")]
    for path, method in [*target.routes, *gradio]:
        for body in (queue, file, [file], [{"image": value, "action": "keep"}], value):
            sent = json.dumps(body).encode()
            status, _, content = ask(target.port, method, path, HERE, sent, "application/json")
            assert status in (200, 400, 404, 405, 422) and secret not in content, (path, status)
        for field in ("image", "model", "artist", "path"):
            form = {"model": "red1", "artist": "x", field: value}
            answer = requests.request(method, f"{target.page.address}{path}", files={"f": b"x"}, data=form, timeout=20)
            assert answer.status_code in (200, 400, 404, 405, 422) and secret not in answer.content, (path, field)
    assert requests.get(f"{target.page.address}/health", timeout=5).json()["status"] == "ok"


def test_only_the_shown_examples_are_served(target: Target) -> None:
    tests = {path.read_bytes() for path in target.workspace.path.glob("data/split/test/*/*")}
    for number in range(3):
        assert requests.get(f"{target.page.address}/examples/{number}", timeout=10).content in tests
    for other in ("3", "-1", "1e0", "x", "../params.yaml", "..%2f..%2fparams.yaml", "0/x"):
        assert ask(target.port, "GET", f"/examples/{other}", HERE, b"", "")[0] in (404, 422), other


ATTACK = """<!doctype html><title>another site</title><body><script>
async function attack(service) {
  const done = {}, none = () => null;
  const read = path => fetch(service + path).then(answer => answer.text()).catch(none);
  for (const path of ["/", "/health", "/label-issues", "/map", "/examples/0", "/api/openapi.json"])
    done[path] = await read(path);
  const headers = { "Content-Type": "application/json" };
  done.write = await fetch(service + "/api/corrections", { method: "POST", headers, body: "[]" }).catch(none);
  await fetch(service + "/api/corrections", { method: "POST", mode: "no-cors", body: "[]" }).catch(none);
  const form = new FormData(); form.append("image", new Blob(["x"]), "x");
  await fetch(service + "/page/predict", { method: "POST", mode: "no-cors", body: form }).catch(none);
  done.image = await new Promise(settle => { const image = new Image(); image.onload = () => settle(image.width);
    image.onerror = () => settle(null); image.src = service + "/examples/0"; });
  document.body.append(Object.assign(document.createElement("iframe"), { src: service + "/label-issues" }));
  document.body.append(Object.assign(document.createElement("iframe"), { src: service + "/" }));
  return done;
}
</script>"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Another site, on another port of this machine: for a browser it is the same site as the service."""
    (tmp_path / "index.html").write_text(ATTACK)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f":{running.server_port}/index.html"
        running.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_sites_page_reads_writes_and_frames_nothing(target: Target, site: str, host: str) -> None:
    """From 127.0.0.1 it is the same site (only the port differs), from localhost another one."""
    before = (target.workspace.path / "corrections.csv").read_bytes()
    with browser.chromium() as chromium, browser.watch(chromium, width=800) as watched:
        statuses: list[tuple[str, int]] = []
        watched.page.on("response", lambda answer: statuses.append((answer.url, answer.status)))
        watched.page.goto(f"http://{host}{site}")
        done = watched.page.evaluate("service => attack(service)", target.page.address)
        browser.wait_until(watched.page, "frames.length === 2")
        watched.page.wait_for_timeout(500)
        shown = [frame.url for frame in watched.page.frames[1:]]
        # A link to the service works.
        watched.page.evaluate("address => { location.href = address; }", f"{target.page.address}/")
        watched.page.wait_for_selector("h1:has-text('Who painted it?')")
    assert set(done.values()) == {None}
    assert all(address.startswith("chrome-error:") for address in shown), shown
    sent = [status for address, status in statuses if address.startswith(target.page.address)]
    assert sent == [403, 403, 200], statuses
    assert (target.workspace.path / "corrections.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("host", "names", "behind_proxy", "allowed", "local"),
    [
        ("127.0.0.1", [], False, {"localhost", "127.0.0.1", "[::1]"}, {"localhost", "127.0.0.1", "[::1]"}),
        ("192.0.2.4", [], False, {"localhost", "127.0.0.1", "[::1]", "192.0.2.4"}, {"localhost", "127.0.0.1", "[::1]"}),
        ("museum.lan", ["Other.lan."], False, {"localhost", "127.0.0.1", "[::1]", "museum.lan", "other.lan"},
         {"localhost", "127.0.0.1", "[::1]"}),
        ("0.0.0.0", [], False, {"localhost", "127.0.0.1", "[::1]", "192.0.2.4", "0.0.0.0", "[2001:db8::1]", "OWN"},
         {"localhost", "127.0.0.1", "[::1]"}),
        ("::", [], True, {"localhost", "127.0.0.1", "[::1]", "192.0.2.4", "0.0.0.0", "[2001:db8::1]", "OWN"}, set()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.9", "::ffff:192.0.2.9"])
def test_hosts_and_this_machine(
    host: str, names: list[str], behind_proxy: bool, allowed: set[str], local: set[str], client: str
) -> None:
    seen: list[bool] = []

    async def app(scope: Any, _receive: Any, send: Callable[[Message], Any]) -> None:
        seen.append(scope["state"]["is_local"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    layer = Access(app, host, names, behind_proxy)
    every = ["localhost", "127.0.0.1", "[::1]", "192.0.2.4", "museum.lan", "other.lan", "0.0.0.0", "[2001:db8::1]",
             "evil.example", "xlocalhost", "127.0.0.1.evil.example"]  # fmt: skip
    own = socket.gethostname()
    for name in [*every, own]:
        seen.clear()
        status = answer_of(layer, [(b"host", f"{name}:80".encode())], client=client)[0]
        key = "OWN" if name == own and name not in every else name
        assert (status == 200) == (key in allowed), name
        is_this_machine = key in local and not client.endswith("192.0.2.9")
        assert seen == ([is_this_machine] if key in allowed else []), name


def answer_of(
    app: Any, headers: list[tuple[bytes, bytes]], bodies: tuple[bytes, ...] = (b"",), client: str = "127.0.0.1",
    path: str = "/", wait: float = 0.0,
) -> tuple[int, bytes]:  # fmt: skip
    """Status and content of an application's response to a request whose body comes in parts."""
    waiting = list(bodies)
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(wait)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "POST" if any(bodies) else "GET", "path": path,
             "raw_path": path.encode(), "query_string": b"", "headers": headers, "client": (client, 1),
             "server": ("127.0.0.1", 80), "scheme": "http", "root_path": ""}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def uploads() -> FastAPI:
    app = FastAPI()

    @app.post("/")
    def upload(image: UploadFile) -> int:
        return len(image.file.read())

    return app


FORM = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b")]
PARTS = (b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n', b"x" * 5000, b"\r\n--b--\r\n")


def test_uploads_have_a_quota_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_HELD", 6000)
    layer = Access(uploads())
    for _ in range(3):  # the bytes of a request that has ended do not count
        assert answer_of(layer, FORM, PARTS) == (200, b"5000")
    layer.hold(3000)  # of another request
    status, content = answer_of(layer, FORM, PARTS)
    assert (status, json.loads(content)["detail"]) == (
        503, "The server receives too many files at once; try again later.",
    )  # fmt: skip
    with pytest.raises(HTTPException):
        layer.hold(3001)
    layer.hold(3000)


def test_an_upload_must_arrive_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_TIMEOUT", 0.1)
    status, content = answer_of(Access(uploads()), FORM, PARTS, wait=0.2)
    assert (status, json.loads(content)["detail"]) == (408, "The file did not arrive in time.")


def test_aborted_and_oversized_uploads_leave_no_file(target: Target) -> None:
    """A large upload is an unnamed temporary file."""
    scratch = target.page.scratch
    begin = (
        b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: %d\r\n\r\n" + PARTS[0]
    )
    for announced in (15 * 2**20, 19 * 2**20, 10**12):
        with socket.create_connection(("127.0.0.1", target.port)) as stream:
            stream.sendall(begin % announced)
            with contextlib.suppress(ConnectionError):  # the service closes the connection of the largest
                for _ in range(12):
                    stream.sendall(bytes(2**20))
            named = [path for path in scratch.rglob("*") if path.is_file()]
            assert named == []
    for _ in range(3):
        large = requests.post(f"{target.page.address}/page/predict", files={"image": bytes(21 * 2**20)}, timeout=30)
        assert large.status_code == 413
    assert not [path for path in scratch.rglob("*") if path.is_file()]


def test_a_killed_service_leaves_no_upload(finished: Workspace, tmp_path: Path) -> None:
    process = finished.start("redarte", "serve", "--port", "0", TMPDIR=str(tmp_path))
    assert process.stdout is not None
    port = int(re.findall(r":(\d+) ", process.stdout.readline())[0])
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 15000000\r\n\r\n" + PARTS[0] + bytes(10_000_000)
        )
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 0


def test_simultaneous_corrections_are_all_saved(target: Target) -> None:
    table = target.workspace.path / "corrections.csv"
    before = table.read_text(encoding="utf-8")
    rows = list(csv.DictReader((target.workspace.path / "data/images.csv").read_text(encoding="utf-8").splitlines()))
    decided = [{"image": row["source"], "action": "keep", "reason": "=1+1"} for row in rows]
    assert len(decided) == 15
    try:
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            post = functools.partial(requests.post, f"{target.page.address}/api/corrections", timeout=60)
            answers = list(pool.map(lambda row: post(json=[row]), decided * 4))
        assert {answer.status_code for answer in answers} == {200}
        saved = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
        assert sorted(row["image"] for row in saved) == sorted(row["source"] for row in rows)
        assert {row["reason"] for row in saved} == {"'=1+1"}, "a spreadsheet shows it, and does not evaluate it"
    finally:
        table.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "Nobody/1", "action": "keep"}, "Nobody/1 is no image of data/raw"),
        ({"image": "0" * 32, "action": "exclude"}, "is no image of data/raw"),
        ({"image": "IMAGE", "action": "keep", "artist": "Ana"}, "only relabel has an artist; delete Ana"),
        ({"image": "IMAGE", "action": "relabel"}, "relabel needs the new artist"),
        ({"image": "IMAGE", "action": "relabel", "artist": "=cmd()"}, "is no name of an artist"),
        ({"image": "IMAGE", "action": "relabel", "artist": "a\u202eb"}, "has a control character"),
        ({"image": "IMAGE", "action": "relabel", "artist": "../x"}, "is no name of an artist"),
        ({"image": "IMAGE", "action": "keep", "reason": "\x1b[31m"}, "has a control character"),
        ({"image": "IMAGE\n", "action": "keep"}, "has a control character"),
        ({"image": "IMAGE", "action": "delete"}, "Input should be 'relabel', 'exclude' or 'keep'"),
        ({"image": "\ud800", "action": "keep"}, "unable to parse raw data as a unicode string"),
    ],
)
def test_corrections_are_checked_before_they_are_saved(target: Target, row: dict[str, str], reason: str) -> None:
    before = (target.workspace.path / "corrections.csv").read_bytes()
    row = {name: value.replace("IMAGE", "School_of_Drips/School_of_Drips_1") for name, value in row.items()}
    answer = requests.post(f"{target.page.address}/api/corrections", json=[row], timeout=30)
    assert answer.status_code == 422 and reason in answer.json()["detail"].__str__(), answer.text
    assert (target.workspace.path / "corrections.csv").read_bytes() == before


def test_deeply_nested_json_is_refused(target: Target) -> None:
    for content in ("[" * 500_000, '{"a":' * 150_000):
        status = ask(target.port, "POST", "/api/corrections", HERE, content.encode(), "application/json")[0]
        assert status in (400, 422)


def test_the_documented_reverse_proxy(finished: Workspace, tmp_path: Path) -> None:
    """nginx with the configuration of docs/predicting.md: the page works below a path, and nobody is this machine."""
    nginx = servers.program("nginx", "nginx")
    documented = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/predicting.md").read_text(encoding="utf-8"), re.DOTALL)
    options = re.findall(r"^\$ redarte serve (--name.*)$", (ROOT / "docs/predicting.md").read_text(), re.MULTILINE)
    (tmp_path / "page").mkdir()
    with servers.page(finished, tmp_path / "page", *options[0].split()) as running:
        port = servers.free_port()
        location = documented[0].replace("http://127.0.0.1:7860", running.address)
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            f"http {{ access_log off; client_body_temp_path {tmp_path}/body;\n"
            f"server {{ listen 127.0.0.1:{port};\n{location}\n}} }}\n"
        )
        command = [nginx, "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
        with servers.serving(command, tmp_path / "log", lambda: servers.is_open(port)):
            name = options[0].split()[1]
            for host in (name, "localhost", "127.0.0.1", f"{name}:{port}"):
                answer = ask(port, "GET", "/painters/health", {"Host": host}, b"", "")
                assert (answer[0], json.loads(answer[2])["status"]) == (200, "ok"), host
                for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "127.0.0.1"}):
                    assert ask(port, "GET", "/painters/label-issues", {"Host": host, **headers}, b"", "")[0] == 403
            assert ask(port, "GET", "/painters/health", {"Host": "evil.example"}, b"", "")[0] == 403
            with browser.chromium() as chromium, browser.watch(chromium, width=800) as watched:
                watched.page.goto(f"http://localhost:{port}/painters/")
                watched.page.set_input_files("input[type=file]", write_painting(tmp_path / "a.jpg"))
                watched.page.wait_for_selector("#prediction h2")
                assert watched.page.locator("#wrong").count() == 0
                watched.page.locator("#examples button").first.click()
                assert servers.wait_until(lambda: watched.page.evaluate("shown.naturalWidth") > 100, 30)
            assert watched.complaints == []
            too_large = b"x" * (21 * 2**20)
            assert ask(port, "POST", "/painters/api/predict", {"Host": name}, too_large, "x/y")[0] == 413
    assert subprocess.run(["pgrep", "-f", str(tmp_path / "nginx.conf")], capture_output=True).stdout == b""
