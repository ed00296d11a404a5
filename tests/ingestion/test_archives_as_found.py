"""Archives as people and servers create them: used if that is safe, else refused with what to do."""

import datetime
import io
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from redarte.ingestion.sources import archive
from redarte.ingestion.sources.archive import download
from redarte.runtime import paths
from redarte.runtime.errors import UserError
from tests.conftest import tree_bytes
from tests.ingestion.test_archive import MakeSettings, make_tar, make_zip

FILES = {f"{artist}/{number}.jpg": f"{artist}{number}".encode() * 50 for artist in ("Ana", "Ben") for number in (1, 2)}


@pytest.fixture
def unpacked(tmp_path: Path, settings: MakeSettings) -> Callable[..., dict[str, bytes]]:
    def unpack(file: Path, **limits: object) -> dict[str, bytes]:
        folder = tmp_path / "unpacked"
        folder.mkdir()
        archive.fetch_files(settings({"fetch.archive.path": str(file)} | limits).fetch, folder)
        return tree_bytes(folder)

    return unpack


Unpack = Callable[..., dict[str, bytes]]


def tar_with(path: Path, *more: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], first: bool = False) -> Path:
    """A tar of FILES and further members, behind or before them."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as opened:
        members: list[tuple[tarfile.TarInfo, bytes]] = []
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            members.append((info, content))
        further = [one if isinstance(one, tuple) else (one, b"") for one in more]
        for info, content in further + members if first else members + further:
            opened.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path, unpacked: Unpack) -> None:
    inner = make_zip(tmp_path / "old.zip", {"Other/1.jpg": b"x"}).read_bytes()
    file = tar_with(tmp_path / "a.tar", (member("old.zip", size=len(inner)), inner))
    assert zipfile.is_zipfile(file)
    assert unpacked(file) == FILES | {"old.zip": inner}


def test_a_zip_that_begins_with_a_tar_is_a_zip(tmp_path: Path, unpacked: Unpack) -> None:
    inner = tar_with(tmp_path / "inner.tar").read_bytes()
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("inner.tar", inner)
        opened.writestr("Ana/1.jpg", b"x")
    assert unpacked(file) == {"inner.tar": inner, "Ana/1.jpg": b"x"}


def test_a_zip_behind_a_program_is_a_zip(tmp_path: Path, unpacked: Unpack) -> None:
    file = make_zip(tmp_path / "a.exe", FILES)
    file.write_bytes(b"MZ" + bytes(5000) + file.read_bytes())
    assert unpacked(file) == FILES


def test_a_hard_link_is_the_file(tmp_path: Path, unpacked: Unpack) -> None:
    file = tar_with(tmp_path / "a.tar", member("Ana/again.jpg", tarfile.LNKTYPE, "Ana/1.jpg"))
    assert unpacked(file) == FILES | {"Ana/again.jpg": FILES["Ana/1.jpg"]}


@pytest.mark.parametrize("link", ["/etc/passwd", "../secret", "Ana/none.jpg", "Ana"])
def test_a_hard_link_to_a_missing_member_is_refused(tmp_path: Path, unpacked: Unpack, link: str) -> None:
    (tmp_path / "secret").write_text("x")
    file = tar_with(tmp_path / "a.tar", member("Ana/again.jpg", tarfile.LNKTYPE, link))
    with pytest.raises(UserError, match=r"link to a file that is not in it|leads out of its folder"):
        unpacked(file)


def test_hard_links_count_as_bytes(tmp_path: Path, unpacked: Unpack) -> None:
    """A few bytes each in the archive, and a megabyte each on the disk."""
    large = (member("Ana/0.jpg", size=10**6), bytes(10**6))
    links = [member(f"Ana/link{number}.jpg", tarfile.LNKTYPE, "Ana/0.jpg") for number in range(9)]
    file = tar_with(tmp_path / "a.tar", large, *links)
    with pytest.raises(UserError, match=r"unpacks to more than fetch\.archive\.max_gigabytes"):
        unpacked(file, **{"fetch.archive.max_gigabytes": 0.005})


def test_a_volume_label_is_ignored(tmp_path: Path, unpacked: Unpack) -> None:
    assert unpacked(tar_with(tmp_path / "a.tar", member("paintings 2024", b"V"), first=True)) == FILES


def test_an_updated_member_replaces_the_one_before(tmp_path: Path, unpacked: Unpack) -> None:
    file = tar_with(tmp_path / "a.tar", (member("Ana/1.jpg", size=3), b"new"))
    assert unpacked(file) == FILES | {"Ana/1.jpg": b"new"}


@pytest.mark.parametrize("make", [make_zip, lambda path, files: make_tar(path, files, "w")])
def test_absolute_names_begin_at_the_folder(tmp_path: Path, unpacked: Unpack, make: Callable[..., Path]) -> None:
    assert unpacked(make(tmp_path / "a", {f"/home/eva/{name}": content for name, content in FILES.items()})) == {
        f"home/eva/{name}": content for name, content in FILES.items()
    }


def test_names_of_windows_begin_at_the_folder(tmp_path: Path, unpacked: Unpack) -> None:
    assert set(unpacked(make_zip(tmp_path / "a", {"C:\\Users\\Ana\\1.jpg": b"x"}))) == {"Users/Ana/1.jpg"}


@pytest.mark.parametrize("make", [make_zip, lambda path, files: make_tar(path, files, "w")])
def test_names_of_300_bytes_are_shortened(tmp_path: Path, unpacked: Unpack, make: Callable[..., Path]) -> None:
    long = {f"Ana/{'黒い絵' * 40}{number}.jpg": str(number).encode() for number in range(3)}
    read = unpacked(make(tmp_path / "a", long))
    assert sorted(read.values()) == [b"0", b"1", b"2"]
    assert all(name.startswith("Ana/黒い絵") and name.endswith(".jpg") and len(name.encode()) < 255 for name in read)


def test_a_long_name_of_a_folder_is_one_sentence(tmp_path: Path, unpacked: Unpack) -> None:
    with pytest.raises(UserError, match="has a path that is too long for this disk: unpack it elsewhere, shorten"):
        unpacked(make_zip(tmp_path / "a", {f"{'x' * 300}/1.jpg": b"x"}))


def test_folders_as_empty_members(tmp_path: Path, unpacked: Unpack) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as opened:
        for name in ("Ana", "Ben"):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0x10
            opened.writestr(info, b"")
        for name, content in FILES.items():
            opened.writestr(name, content)
    assert unpacked(file) == FILES


def inner_archives(tmp_path: Path) -> dict[str, bytes]:
    ana = {name.partition("/")[2]: content for name, content in FILES.items() if name.startswith("Ana")}
    ben = {name.partition("/")[2]: content for name, content in FILES.items() if name.startswith("Ben")}
    return {
        "Ana.zip": make_zip(tmp_path / "i", ana).read_bytes(),
        "Ben.tar.gz": make_tar(tmp_path / "i", ben).read_bytes(),
    }


def test_an_archive_for_each_artist_in_an_archive(tmp_path: Path, unpacked: Unpack) -> None:
    assert unpacked(make_zip(tmp_path / "a.zip", inner_archives(tmp_path))) == FILES


def test_limits_hold_for_archives_in_archives_together(tmp_path: Path, unpacked: Unpack) -> None:
    with pytest.raises(UserError, match=r"has more files than fetch\.archive\.max_files \(5\)"):
        unpacked(make_zip(tmp_path / "a.zip", inner_archives(tmp_path)), **{"fetch.archive.max_files": 5})


def test_archives_beside_images_stay_as_they_are(tmp_path: Path, unpacked: Unpack) -> None:
    held = FILES | inner_archives(tmp_path)
    assert unpacked(make_zip(tmp_path / "a.zip", held)) == held


def test_a_part_of_a_split_zip_says_how_to_join(tmp_path: Path, unpacked: Unpack) -> None:
    whole = make_zip(tmp_path / "a.zip", FILES).read_bytes()
    last = bytearray(whole)
    end = whole.rindex(b"PK\5\6")
    last[end + 4 : end + 8] = b"\1\0\1\0"
    parts = {"a.z01": b"PK\7\x08" + whole[:200], "a.zip.001": whole[:200], "last.zip": bytes(last)}
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is one part of a split zip: join its parts"):
            unpacked(tmp_path / name)
        (tmp_path / "unpacked").rmdir()


def test_only_a_corrupt_archive_is_to_be_downloaded_again(tmp_path: Path, unpacked: Unpack) -> None:
    whole = make_zip(tmp_path / "a.zip", FILES).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="it is corrupt or incomplete; download or copy it again"):
        unpacked(tmp_path / "a.zip")
    (tmp_path / "unpacked").rmdir()
    with pytest.raises(UserError) as caught:
        unpacked(tar_with(tmp_path / "b.tar", member("Ana/link", tarfile.SYMTYPE, "1.jpg")))
    assert "again" not in str(caught.value) and "unpack it with 7-Zip" in str(caught.value)


class Handler(BaseHTTPRequestHandler):
    """Serves a zip and a tar as odd servers do."""

    protocol_version = "HTTP/1.1"
    zip, tar = b"", b""
    sent = 0

    def do_GET(self) -> None:
        body, headers = self.zip, [("ETag", '"1"')]
        if "xgzip" in self.path:
            body, headers = self.tar, [("Content-Encoding", "x-gzip"), *headers]
        elif "twice" in self.path:
            headers = [("Content-Length", str(len(body))), *headers]
        elif "unversioned" in self.path:
            headers = []
        elif "wronglength" in self.path:
            body, headers = body + b"x", [("Content-Length", "12, 13")]
        self.send_response(200)
        for header in headers if "wronglength" in self.path else [*headers, ("Content-Length", str(len(body)))]:
            self.send_header(*header)
        self.end_headers()
        try:
            self.wfile.write(body)
            type(self).sent += 1
        except ConnectionError:
            pass
        self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    Handler.zip = make_zip(tmp_path / "served.zip", FILES).read_bytes()
    Handler.tar = make_tar(tmp_path / "served.tar.gz", FILES).read_bytes()
    Handler.sent = 0
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize(
    "path", ["twice/p.zip", "xgzip/p.tar.gz", f"{'é' * 240}.zip", "a%00b.zip", "", "..", "a%2fb.zip"]
)
def test_responses_of_unusual_servers(address: str, tmp_path: Path, settings: MakeSettings, path: str) -> None:
    (tmp_path / "unpacked").mkdir()
    archive.fetch_files(settings({"fetch.archive.path": f"{address}/{path}"}).fetch, tmp_path / "unpacked")
    assert tree_bytes(tmp_path / "unpacked") == FILES
    assert list(paths.DOWNLOADS.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    ["http://www..example.com/p.zip", "http://[2001:db8::1/p.zip", "http://", "http://host:port/p.zip", "http:///x"],
)
def test_an_invalid_address_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        download.download(bad, 20)
    assert f"fetch.archive.path is {bad}, which is not an address (" in str(caught.value)
    assert "the download resumes" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_archive_that_is_refused_is_not_downloaded_again(
    address: str, tmp_path: Path, settings: MakeSettings
) -> None:
    path = f"{address}/p.zip"
    (tmp_path / "unpacked").mkdir()
    with pytest.raises(UserError, match="max_files"):
        archive.fetch_files(
            settings({"fetch.archive.path": path, "fetch.archive.max_files": 1}).fetch, tmp_path / "unpacked"
        )
    (downloaded,) = (file for file in paths.DOWNLOADS.iterdir() if file.suffix == ".zip")
    before = downloaded.stat().st_mtime_ns
    (tmp_path / "again").mkdir()
    archive.fetch_files(settings({"fetch.archive.path": path}).fetch, tmp_path / "again")
    assert tree_bytes(tmp_path / "again") == FILES
    assert before and list(paths.DOWNLOADS.iterdir()) == []


def test_a_file_with_another_hash_is_downloaded_again(address: str, tmp_path: Path, settings: MakeSettings) -> None:
    (tmp_path / "unpacked").mkdir()
    changes = {"fetch.archive.path": f"{address}/p.zip", "fetch.archive.sha256": "0" * 64}
    with pytest.raises(UserError, match="run this again to download it again, or correct the parameter"):
        archive.fetch_files(settings(changes).fetch, tmp_path / "unpacked")
    assert list(paths.DOWNLOADS.iterdir()) == []


def certificate(root: Path, host: str, days: int) -> tuple[Path, Path]:
    """A self-signed certificate for a host, and its key; with days below 0 it has expired."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    file, key = root / "certificate.pem", root / "key.pem"
    file.write_bytes(signed.public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file, key


@pytest.mark.parametrize(
    ("host", "days", "trusted", "message"),
    [
        (
            "localhost",
            -1,
            True,
            "(TLS: certificate verify failed: certificate has expired); check the address",
        ),
        ("another.example", 30, True, "certificate is not valid for 'localhost'"),
        (
            "localhost",
            30,
            False,
            "self-signed certificate); check the address and the date of this machine; where",
        ),
    ],
)
def test_each_error_of_a_certificate_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, days: int, trusted: bool, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file, key = certificate(tmp_path, host, days)
    if trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(UserError) as caught:
            download.download(f"https://localhost:{server.server_address[1]}/p.zip", 20)
    finally:
        server.shutdown()
        server.server_close()
    assert message in str(caught.value)


def test_a_server_without_tls_is_named(address: str) -> None:
    with pytest.raises(UserError, match=r"\(TLS: wrong version number\); check the address"):
        download.download(address.replace("http://", "https://") + "/p.zip", 20)
