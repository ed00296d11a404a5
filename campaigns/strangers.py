"""Strangers on the network, and pages of other sites in a browser of this machine, at every route of the service.

An attack is two hundred requests: a route, a method, a host, an origin, fetch metadata, headers of proxies and a body
with paths of files in place of each value. What is expected of each follows from the tables here, in which every
entry says whether it is allowed. No response has the content of a file of the machine, each has the headers that keep
other sites out, and corrections.csv changes by the requests of this machine alone.
"""

import contextlib
import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import servers
from tests.conftest import Workspace, new_workspace

from campaigns.storm import SECRET
from redarte.runtime.sandbox import Sandbox
from redarte.serving import serve_page, service

REQUESTS = 200
NAME = "paintings.example.org"
LOCAL_ONLY = ("/label-issues", "/map", "/api/corrections", "/page/correct")
PROTECTED = {
    "x-frame-options": "DENY", "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin", "cache-control": "no-store",
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A running service.

    Attributes:
        routes: the path and the method of each of its routes.
        values: what stands where a value is expected: names of files of this machine, in many forms.
    """

    workspace: Workspace
    page: servers.Page
    routes: list[tuple[str, str]]
    values: list[Any]

    @property
    def port(self) -> int:
        return int(self.page.address.rpartition(":")[2])


@contextmanager
def prepared(folder: Path) -> Iterator[Target]:
    workspace = new_workspace(folder / "redarte", {})
    workspace.run("dvc", "repro", "export@red1")
    with served(workspace, folder) as target:
        yield target


@contextmanager
def served(workspace: Workspace, folder: Path) -> Iterator[Target]:
    """Serves a workspace with models, by one more name."""
    secret = folder / "secret.txt"
    secret.write_text(SECRET, encoding="utf-8")
    paths = [
        str(secret),
        "/etc/hostname",
        "/etc/passwd",
        "/dev/zero",
        f"file://{secret}",
        "../../secret.txt",
        "params.yaml",
    ]
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    with servers.page(workspace, folder, "--name", NAME) as running:
        yield Target(workspace, running, routes(workspace), [*paths, *files, [paths], {"data": files, "fn_index": 1}])
    assert "Traceback" not in running.log.read_text(encoding="utf-8")


def routes(workspace: Workspace) -> list[tuple[str, str]]:
    """Every route of the service, by the application itself."""
    with contextlib.chdir(workspace.path), Sandbox(1, 2**31) as sandbox:
        app: Any = service.application(serve_page.load_models([]), sandbox)
    return [(route.path, method) for route in app.routes for method in sorted(route.methods)]


# Host, whether it is allowed, and whether it is this machine's.
HOSTS = [
    ("127.0.0.1:{port}", True, True), ("localhost:{port}", True, True), ("LocalHost:{port}", True, True),
    ("localhost.", True, True), ("[::1]:{port}", True, True), ("127.0.0.1:1", True, True),
    (f"{NAME}:{{port}}", True, False), (NAME, True, False),
    ("evil.example", False, False), ("evil.example:{port}", False, False), ("localhost.evil.example", False, False),
    ("127.0.0.1.evil.example:{port}", False, False), ("0.0.0.0:{port}", False, False),
    ("192.0.2.1:{port}", False, False),
    ("127.0.0.2:{port}", False, False), ("[::]:{port}", False, False), ("", False, False),
    ("localhost@evil.example", False, False), ("localhost:{port}, evil.example", False, False),
    ("localhost:{port}/x", False, False), (f"{NAME}.evil.example", False, False), ("2130706433:{port}", False, False),
]  # fmt: skip
# Origin, and whether it is allowed; None: the header is missing.
ORIGINS = [
    (None, True), (None, True), ("http://{host}", True), ("https://{host}", True),
    ("null", False), ("http://evil.example", False), ("http://{host}.evil.example", False), ("", False),
    ("ftp://{host}", False), ("{host}", False), ("http://{host}/", False), ("file://", False),
    ("http://127.0.0.1:2", False), ("http://{host} http://evil.example", False),
]  # fmt: skip
# Sec-Fetch-Site, -Mode and -Dest, and whether they are allowed for GET and HEAD, and for other methods.
FETCHES: list[tuple[dict[str, str], bool, bool]] = [
    ({}, True, True), ({}, True, True), ({"Site": "same-origin", "Mode": "cors"}, True, True),
    ({"Site": "none"}, True, True),
    ({"Site": "cross-site", "Mode": "navigate", "Dest": "document"}, True, False),
    ({"Site": "same-site", "Mode": "navigate", "Dest": "document"}, True, False),
    ({"Site": "cross-site", "Mode": "navigate", "Dest": "iframe"}, False, False),
    ({"Site": "same-site", "Mode": "navigate", "Dest": "frame"}, False, False),
    ({"Site": "cross-site", "Mode": "no-cors", "Dest": "image"}, False, False),
    ({"Site": "cross-site", "Mode": "no-cors", "Dest": "script"}, False, False),
    ({"Site": "same-site", "Mode": "cors", "Dest": "empty"}, False, False),
    ({"Site": "cross-site"}, False, False),
]  # fmt: skip
# Headers of a proxy: with one of them a request is not this machine's.
PROXIES = [
    {}, {}, {}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-For": "192.0.2.7"}, {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"}, {"X-Forwarded-Host": "localhost"}, {"Via": "1.1 proxy"},
]  # fmt: skip


def attack(target: Target, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    happened: Counter[str] = Counter()
    table = target.workspace.path / "corrections.csv"
    for _ in range(REQUESTS):
        path, method = rng.choice(target.routes)
        host, is_host, is_here = rng.choice(HOSTS if rng.random() < 0.5 else HOSTS[:6])
        origin, is_origin = rng.choice(ORIGINS if rng.random() < 0.5 else ORIGINS[:4])
        fetch, may_read, may_write = rng.choice(FETCHES if rng.random() < 0.5 else FETCHES[:4])
        proxy = rng.choice(PROXIES)
        host = host.format(port=target.port)
        headers = {"Host": host, **proxy} | {f"Sec-Fetch-{name}": value for name, value in fetch.items()}
        if origin is not None:
            headers["Origin"] = origin.format(host=host)
        body, kind = body_for(path, rng, target)
        before = table.read_bytes()
        status, received, content = ask(target.port, method, path.replace("{number}", "0"), headers, body, kind)
        case = f"{method} {path} {headers}: {status} {content[:300]!r}"
        allowed = is_host and is_origin and (may_read if method in ("GET", "HEAD") else may_write)
        is_local = allowed and is_here and not proxy
        if not allowed or (path in LOCAL_ONLY and not is_local):
            # A body that is not valid is refused before the place of the sender matters.
            assert status == 403 or (allowed and status in (400, 413, 422)), case
        else:
            assert status in (200, 400, 404, 405, 413, 422), case
        assert is_local or table.read_bytes() == before, case
        for name, value in PROTECTED.items():
            assert received.get(name) == value, f"{case}: {name}"
        assert "frame-ancestors 'none'" in received.get("content-security-policy", ""), case
        assert not received.get("access-control-allow-origin"), case
        for leak in (
            SECRET,
            "root:x:0:",
            "Traceback",
            "site-packages",
            Path("/etc/hostname").read_text().strip() + "\n",
        ):
            assert leak.encode() not in content, case
        happened[f"{'allowed' if allowed else 'refused'}: {status}"] += 1
    status, _, _ = ask(target.port, "GET", "/health", {"Host": "localhost"}, b"", "")
    assert status == 200
    return happened


def body_for(path: str, rng: random.Random, target: Target) -> tuple[bytes, str]:
    """A body as the route expects it, with names of files as its values."""
    value = rng.choice(target.values)
    if path == "/api/corrections" or rng.random() < 0.3:
        row = {"image": value, "action": rng.choice(["relabel", "keep", value]), "artist": value, "reason": value}
        row = {name: value for name, value in row.items() if rng.random() < 0.8}
        return json.dumps(rng.choice([[row], row, value, [value]])).encode(), "application/json"
    fields = {name: value for name in ("model", "top", "artist", "image", "path") if rng.random() < 0.7}
    fields["model"] = rng.choice(["red1", value])
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"'
        + (f'; filename="{value}"' if name == "image" and rng.random() < 0.5 else "")
        + f"\r\n\r\n{field if isinstance(field, str) else json.dumps(field)}\r\n"
        for name, field in fields.items()
    ]
    return ("".join(parts) + "--b--\r\n").encode(), "multipart/form-data; boundary=b"


def ask(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes, kind: str
) -> tuple[int, dict[str, str], bytes]:
    """Sends a request with these headers and no others: status, headers and content of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()
