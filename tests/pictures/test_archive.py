"""Archives on disk and from a real HTTP server on this machine."""

import hashlib
import io
import random
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from redarte.params import Params
from redarte.pictures.sources import archive
from redarte.runtime.errors import UserError
from tests.conftest import tree_bytes

FILES = {"set/Ana/1.jpg": b"one" * 100, "set/Ben/é 🎨.jpg": b"two" * 100, "artists.csv": b"name\n"}

MakeSettings = Callable[..., Params]


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


def unpack(settings: MakeSettings, file: Path, **limits: object) -> Path:
    folder = file.parent / "unpacked"
    folder.mkdir()
    chosen = settings({"fetch.source": "archive", "fetch.archive.path": str(file)} | limits)
    return archive.tree(chosen.fetch, folder)


@pytest.mark.parametrize(
    "make", [make_zip, make_tar, lambda p, f: make_tar(p, f, "w:xz"), lambda p, f: make_tar(p, f, "w")]
)
def test_every_file_comes_out(tmp_path: Path, settings: MakeSettings, make: Callable[..., Path]) -> None:
    assert tree_bytes(unpack(settings, make(tmp_path / "a", FILES))) == FILES


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../out.jpg", "a/../../out.jpg", "/tmp/out.jpg", "..\\out.jpg", "C:\\out.jpg"])
def test_a_path_out_of_the_folder_is_refused(
    tmp_path: Path, settings: MakeSettings, make: Callable[..., Path], name: str
) -> None:
    if make is make_tar and "\\" in name:
        pytest.skip("a backslash in a tar is a letter")
    with pytest.raises(UserError, match="leads out of its folder"):
        unpack(settings, make(tmp_path / "a", {name: b"x"}))
    assert tree_bytes(tmp_path / "unpacked") == {}
    assert not (tmp_path / "out.jpg").exists()


def test_a_tar_with_a_number_that_is_none_is_refused(tmp_path: Path, settings: MakeSettings) -> None:
    member = tarfile.TarInfo("Ana/1.jpg")
    member.pax_headers = {"GNU.sparse.size": "many"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(member)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(settings, tmp_path / "a.tar")


@pytest.mark.parametrize("packed", ["tar", "zip"])
def test_broken_lzma_is_refused(tmp_path: Path, settings: MakeSettings, packed: str) -> None:
    file = tmp_path / "a"
    content = {"Ana/1.jpg": random.Random(0).randbytes(90_000)}
    if packed == "tar":
        make_tar(file, content, "w:xz")
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as opened:
            opened.writestr("Ana/1.jpg", content["Ana/1.jpg"])
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    file.write_bytes(data)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(settings, file)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, settings: MakeSettings, kind: bytes) -> None:
    member = tarfile.TarInfo("Ana/1.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        opened.addfile(member)
    with pytest.raises(UserError, match="holds a link or device"):
        unpack(settings, tmp_path / "a.tar")


def test_a_link_in_a_zip_is_refused(tmp_path: Path, settings: MakeSettings) -> None:
    member = zipfile.ZipInfo("Ana/1.jpg")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match="holds a link or device"):
        unpack(settings, tmp_path / "a.zip")


def test_an_archive_that_declares_100_gb_is_refused(tmp_path: Path, settings: MakeSettings) -> None:
    file = make_zip(tmp_path / "a.zip", {"Ana/1.jpg": b"x" * 1000})
    data = bytearray(file.read_bytes())
    # The size that the central directory declares, at its largest without ZIP64: 4 GB, 25 times over.
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = (2**32 - 2).to_bytes(4, "little")
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"more than fetch\.archive\.max_gigabytes \(1\)"):
        unpack(settings, file, **{"fetch.archive.max_gigabytes": 1.0})
    big = tarfile.TarInfo("Ana/1.jpg")
    big.size = 100 * 10**9
    (tmp_path / "b.tar").write_bytes(big.tobuf() + b"\0" * 10240)
    (tmp_path / "unpacked").rmdir()
    with pytest.raises(UserError, match=r"more than fetch\.archive\.max_gigabytes \(20\)"):
        unpack(settings, tmp_path / "b.tar")


def test_more_files_than_allowed_are_refused(tmp_path: Path, settings: MakeSettings) -> None:
    file = make_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(UserError, match=r"more than fetch\.archive\.max_files \(2\)"):
        unpack(settings, file, **{"fetch.archive.max_files": 2})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_given_twice_is_refused(tmp_path: Path, settings: MakeSettings) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("Ana/1.jpg", b"one")
        opened.writestr("Ana/1.jpg", b"two")
    with pytest.raises(UserError, match=r"Ana/1\.jpg twice"):
        unpack(settings, tmp_path / "a.zip")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_broken_archive_is_refused_in_a_sentence(
    tmp_path: Path, settings: MakeSettings, make: Callable[..., Path]
) -> None:
    file = make(tmp_path / "a", {"Ana/1.jpg": bytes(range(256)) * 400})
    data = bytearray(file.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 40] = b"\xff" * 40
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot be unpacked|neither a zip nor a tar"):
        unpack(settings, file)


def test_other_files_and_missing_ones_are_refused(tmp_path: Path, settings: MakeSettings) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match="neither a zip nor a tar"):
        unpack(settings, tmp_path / "a.zip")
    for path, told in ((str(tmp_path / "none.zip"), "not a file on this machine"), (None, "is not set")):
        with pytest.raises(UserError, match=told):
            archive.tree(settings({"fetch.archive.path": path}).fetch, tmp_path)


def test_the_hash_is_checked(tmp_path: Path, settings: MakeSettings) -> None:
    file = make_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(UserError, match=r"fetch\.archive\.sha256 says 0{64}"):
        unpack(settings, file, **{"fetch.archive.sha256": "0" * 64})
    (tmp_path / "unpacked").rmdir()
    right = hashlib.sha256(file.read_bytes()).hexdigest().upper()
    assert tree_bytes(unpack(settings, file, **{"fetch.archive.sha256": right})) == FILES


class Server(ThreadingHTTPServer):
    """Serves one file with ranges and an ETag, and breaks the connection off where it is told to."""

    content = b""
    etag = '"1"'
    cut_after: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/some%20set.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        if "missing" in self.path:
            self.send_error(404)
            return
        start = 0
        if self.headers.get("If-Range") == self.server.etag:
            match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])
            assert match
            start = int(match[1])
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(body[: self.server.cut_after])

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    running = Server()
    incompressible = random.Random(0).randbytes(500_000)
    running.content = make_zip(tmp_path / "served.zip", {"Ana/1.jpg": incompressible}).read_bytes()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def test_an_archive_is_downloaded_checked_and_unpacked(tmp_path: Path, settings: MakeSettings, server: Server) -> None:
    digest = hashlib.sha256(server.content).hexdigest()
    chosen = settings({"fetch.archive.path": server.address, "fetch.archive.sha256": digest})
    (tmp_path / "unpacked").mkdir()
    assert set(tree_bytes(archive.tree(chosen.fetch, tmp_path / "unpacked"))) == {"Ana/1.jpg"}
    assert list(archive.DOWNLOADS.iterdir()) == []


def test_a_download_goes_on_where_it_broke_off(server: Server) -> None:
    server.cut_after = 200_000
    with pytest.raises(UserError, match="goes on where it broke off"):
        archive.download(server.address)
    server.cut_after = None
    assert archive.download(server.address).read_bytes() == server.content
    assert server.asked == [None, f"bytes={3 * 65536}-"]


def test_a_file_that_changed_meanwhile_is_downloaded_whole(server: Server) -> None:
    server.cut_after = 200_000
    with pytest.raises(UserError):
        archive.download(server.address)
    server.cut_after, server.etag, server.content = None, '"2"', server.content[::-1]
    assert archive.download(server.address).read_bytes() == server.content


def test_a_wrong_address_and_no_network_are_one_sentence(server: Server) -> None:
    with pytest.raises(UserError, match="404 Not Found") as caught:
        archive.download(server.address + "/missing")
    assert "\n" not in str(caught.value)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="check the address and the network") as caught:
        archive.download(server.address)
    assert "\n" not in str(caught.value)
