"""Downloads from servers that send too much, redirect elsewhere, or know secrets of the user."""

import base64
import itertools
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from redarte.ingestion.sources import archive
from redarte.ingestion.sources.archive import download
from redarte.params import Params
from redarte.runtime import paths
from redarte.runtime.errors import UserError, masked
from tests.conftest import Workspace, tree_bytes
from tests.ingestion.test_archive import FILES, make_zip

MakeSettings = Callable[..., Params]
LIMIT = 0.02  # gigabytes


class Server(ThreadingHTTPServer):
    """Serves an archive at any path, and misbehaves at some."""

    def __init__(self, content: bytes, other: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.other = content, other
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        match self.path.split("/"):
            case [_, "endless", *_]:
                self.send(200, itertools.repeat(bytes(2**20)))
            case [_, "announced", *_]:
                self.send(200, [b"PK"], {"Content-Length": str(10**12)})
            case [_, "to", code, *target]:
                self.send(int(code), [], {"Location": "/".join(target).replace("OTHER", self.server.other)})
            case [_, "416", *_]:
                self.send(416, [], {"Content-Range": "bytes */5"})
            case [_, "reason", *_]:
                self.send_response_only(404, "\x1b[31mred\x9b31m")
                self.end_headers()
            case _:
                self.send(200, [self.server.content], {"Content-Length": str(len(self.server.content))})

    def send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for chunk in body:
                self.wfile.write(chunk)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    running = Server(make_zip(tmp_path / "served.zip", FILES).read_bytes())
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def refused(address: str) -> str:
    with pytest.raises(UserError) as caught:
        download.download(address, LIMIT)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("path", ["endless/p.zip", "announced/p.zip"])
def test_a_server_that_sends_too_much(server: Server, path: str) -> None:
    """3 GB in 6 s."""
    started = time.monotonic()
    message = refused(f"{server.address}/{path}")
    assert "the download is larger than fetch.archive.max_gigabytes (0.02) and is refused" in message
    assert time.monotonic() - started < 20
    assert list(paths.DOWNLOADS.iterdir()) == [], "nothing of it stays"


@pytest.mark.parametrize("path", ["to/302//p.zip", "to/301//to/307//p.zip", "to/308/OTHER"])
def test_redirects_are_followed(server: Server, tmp_path: Path, settings: MakeSettings, path: str) -> None:
    server.other = f"//127.0.0.1:{server.server_port}/p.zip"  # of the same scheme
    (tmp_path / "unpacked").mkdir()
    archive.fetch_files(settings({"fetch.archive.path": f"{server.address}/{path}"}).fetch, tmp_path / "unpacked")
    assert tree_bytes(tmp_path / "unpacked") == FILES


def test_a_circle_of_redirects_ends(server: Server) -> None:
    assert "redirects more than 20 times" in refused(f"{server.address}/to/302//to/302//to/302/")
    assert len(server.asked) <= 20


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/p.zip", "data:,x"])
def test_a_redirect_to_something_else_is_refused(server: Server, target: str) -> None:
    assert "which is not encrypted" in refused(f"{server.address}/to/302/{target}")


def test_a_redirect_from_https_to_http_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Server(server.content, server.address) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        threading.Thread(target=secure.serve_forever, daemon=True).start()
        address = f"https://localhost:{secure.server_port}"
        message = refused(f"{address}/to/302/OTHER/p.zip")
        assert f"redirects to {server.address}/p.zip, which is not encrypted" in message
        assert server.asked == []
        assert download.download(f"{address}/to/302//p.zip", LIMIT).read_bytes() == server.content
        secure.shutdown()


def test_a_server_that_refuses_every_range(server: Server) -> None:
    address = f"{server.address}/416/p.zip"
    assert "416 R" in refused(address)
    # The same behind a part of another version.
    target = download._target(address)
    download._part(target).write_bytes(b"0123456789")
    download._version(target).write_text('"1"')
    assert "416 R" in refused(address)


def test_a_reason_phrase_does_not_reach_the_terminal(server: Server) -> None:
    assert "404 \\x1b[31mred\\x9b31m" in refused(f"{server.address}/reason/p.zip")


def test_a_password_is_read_from_netrc_and_sent_to_its_host_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ana password s3cret\n")
    with Server(server.content) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        download.download(f"{server.address}/to/302/http://localhost:{other.server_port}/p.zip", LIMIT)
        other.shutdown()
    expected = "Basic " + base64.b64encode(b"ana:s3cret").decode()
    assert [password for _, password in server.asked] == [expected]
    assert [password for _, password in other.asked] == [""]


def test_a_token_is_read_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDARTE_ARCHIVE_QUERY", "token=s3cret")
    file = download.download(f"{server.address}/p.zip", LIMIT)
    assert server.asked[0][0] == "/p.zip?token=s3cret"
    assert "s3cret" not in str(file)
    monkeypatch.setenv("REDARTE_ARCHIVE_QUERY", "?token=s3cret")
    assert "s3cret" not in refused(f"{server.address}/reason/p.zip")


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("https://ana:s3cret@host.example/p.zip", "must have no user name or password"),
        ("https://s3cret@host.example/p.zip", "must have no user name or password"),
        ("HTTPS://ana:s3cret@host.example/p.zip", "must have no user name or password"),
        ("https://ana:s3/cret@host.example/p.zip", None),  # the path is s3's: no user name
        ("https://host.example/p.zip?X-Amz-Signature=s3cret", "set the environment variable REDARTE_ARCHIVE_QUERY"),
        ("https://host.example/p.zip?download=1&token=s3cret", "set the environment variable REDARTE_ARCHIVE_QUERY"),
        ("https://host.example/p.zip?s3cret", "set the environment variable REDARTE_ARCHIVE_QUERY"),
        ("https://host.example/p.zip?dl=s3cret", "set the environment variable REDARTE_ARCHIVE_QUERY"),
        ("https://host.example/p.zip?download=1", None),
        ("https://host.example/p.zip?download", None),
        ("https://host.example/p@x.zip?raw=true&dl=1", None),
        ("/home/ana@museum/what?.zip", None),
    ],
)
def test_secrets_in_an_address_are_refused_where_they_would_be_committed(
    settings: MakeSettings, address: str, rule: str | None
) -> None:
    if rule is None:
        assert settings({"fetch.archive.path": address}).fetch.archive.path == address
        return
    with pytest.raises(UserError) as caught:
        settings({"fetch.archive.path": address})
    assert rule in str(caught.value) and "s3cret" not in str(caught.value)


def test_a_refused_address_is_in_no_file_of_dvc(workspace: Workspace) -> None:
    done = workspace.run(
        "dvc", "exp", "run", "-S", "fetch.source=archive", "-S", "fetch.archive.path=https://a:s3cret@h.example/p.zip",
        "fetch", check=False,
    )  # fmt: skip
    assert done.returncode and "~/.netrc" in done.stderr + done.stdout
    assert "s3cret" not in done.stderr.partition("fetch: ")[2] + (workspace.path / "dvc.lock").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://ana:pw@host/p.zip?token=x#y is missing.", "https://…@host/p.zip?… is missing."),
        ("(ftp://ana@host/p) and http://b:c@d?e", "(ftp://…@host/p) and http://…@d?…"),
        ("https://host/p.zip and ana@museum.example?", "https://host/p.zip and ana@museum.example?"),
    ],
)
def test_messages_mask_secrets(text: str, expected: str) -> None:
    assert masked(text) == str(UserError(text)) == expected
