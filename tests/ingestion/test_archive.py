"""Archives on disk and from a real HTTP server on this machine."""

import bz2
import gzip
import hashlib
import io
import lzma
import random
import re
import struct
import subprocess
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from redarte.ingestion.sources import archive
from redarte.ingestion.sources.archive import download
from redarte.params import Params
from redarte.runtime import paths
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
    return archive.fetch_files(chosen.fetch, folder)


@pytest.mark.parametrize(
    "make", [make_zip, make_tar, lambda p, f: make_tar(p, f, "w:xz"), lambda p, f: make_tar(p, f, "w")]
)
def test_every_file_is_unpacked(tmp_path: Path, settings: MakeSettings, make: Callable[..., Path]) -> None:
    assert tree_bytes(unpack(settings, make(tmp_path / "a", FILES))) == FILES


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../out.jpg", "a/../../out.jpg", "/../out.jpg", "..\\out.jpg", "C:\\..\\out.jpg"])
def test_a_path_out_of_the_folder_is_refused(
    tmp_path: Path, settings: MakeSettings, make: Callable[..., Path], name: str
) -> None:
    if make is make_tar and "\\" in name:
        pytest.skip("a backslash in a tar is a letter")
    with pytest.raises(UserError, match="leads out of its folder"):
        unpack(settings, make(tmp_path / "a", {name: b"x"}))
    assert tree_bytes(tmp_path / "unpacked") == {}
    assert not (tmp_path / "out.jpg").exists()


def test_a_tar_with_an_invalid_number_is_refused(tmp_path: Path, settings: MakeSettings) -> None:
    member = tarfile.TarInfo("Ana/1.jpg")
    member.pax_headers = {"GNU.sparse.size": "many"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(member)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(settings, tmp_path / "a.tar")


@pytest.mark.parametrize("packed", ["tar", "zip"])
def test_corrupt_lzma_is_refused(tmp_path: Path, settings: MakeSettings, packed: str) -> None:
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


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, settings: MakeSettings, kind: bytes) -> None:
    member = tarfile.TarInfo("Ana/1.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        opened.addfile(member)
    with pytest.raises(UserError, match="has a link or device"):
        unpack(settings, tmp_path / "a.tar")


def test_a_link_in_a_zip_is_refused(tmp_path: Path, settings: MakeSettings) -> None:
    member = zipfile.ZipInfo("Ana/1.jpg")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match="has a link or device"):
        unpack(settings, tmp_path / "a.zip")


def test_an_archive_that_declares_100_gb_is_refused(tmp_path: Path, settings: MakeSettings) -> None:
    file = make_zip(tmp_path / "a.zip", {"Ana/1.jpg": b"x" * 1000})
    data = bytearray(file.read_bytes())
    # The size that the central directory declares, at its largest without ZIP64: 4 GB, 25 times over.
    offset = data.index(b"PK\x01\x02") + 24
    data[offset : offset + 4] = (2**32 - 2).to_bytes(4, "little")
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
    with pytest.raises(UserError, match=r"more files than fetch\.archive\.max_files \(2\)"):
        unpack(settings, file, **{"fetch.archive.max_files": 2})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_repeated_name_is_refused(tmp_path: Path, settings: MakeSettings) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("Ana/1.jpg", b"one")
        opened.writestr("Ana/1.jpg", b"two")
    with pytest.raises(UserError, match=r"Ana/1\.jpg twice"):
        unpack(settings, tmp_path / "a.zip")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_corrupt_archive_is_refused_in_one_sentence(
    tmp_path: Path, settings: MakeSettings, make: Callable[..., Path]
) -> None:
    file = make(tmp_path / "a", {"Ana/1.jpg": bytes(range(256)) * 400})
    data = bytearray(file.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 40] = b"\xff" * 40
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot be unpacked|is not a zip or tar archive"):
        unpack(settings, file)


def test_other_files_and_missing_ones_are_refused(tmp_path: Path, settings: MakeSettings) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match="is not a zip or tar archive"):
        unpack(settings, tmp_path / "a.zip")
    for path, message in ((str(tmp_path / "none.zip"), "not a file on this machine"), (None, "is not set")):
        with pytest.raises(UserError, match=message):
            archive.fetch_files(settings({"fetch.archive.path": path}).fetch, tmp_path)


def test_the_hash_is_checked(tmp_path: Path, settings: MakeSettings) -> None:
    file = make_zip(tmp_path / "a.zip", FILES)
    with pytest.raises(UserError, match=r"fetch\.archive\.sha256 says 0{64}"):
        unpack(settings, file, **{"fetch.archive.sha256": "0" * 64})
    (tmp_path / "unpacked").rmdir()
    right = hashlib.sha256(file.read_bytes()).hexdigest().upper()
    assert tree_bytes(unpack(settings, file, **{"fetch.archive.sha256": right})) == FILES


class Server(ThreadingHTTPServer):
    """Serves one file with ranges and an ETag, and closes the connection where the test requests it."""

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
    assert set(tree_bytes(archive.fetch_files(chosen.fetch, tmp_path / "unpacked"))) == {"Ana/1.jpg"}
    assert list(paths.DOWNLOADS.iterdir()) == []


def test_an_interrupted_download_resumes(server: Server) -> None:
    server.cut_after = 200_000
    with pytest.raises(UserError, match="the download resumes"):
        download.download(server.address, 20)
    server.cut_after = None
    assert download.download(server.address, 20).read_bytes() == server.content
    assert server.asked == [None, "bytes=200000-"]


def test_a_file_that_changed_meanwhile_is_downloaded_completely(server: Server) -> None:
    server.cut_after = 200_000
    with pytest.raises(UserError):
        download.download(server.address, 20)
    server.cut_after, server.etag, server.content = None, '"2"', server.content[::-1]
    assert download.download(server.address, 20).read_bytes() == server.content


def test_a_wrong_address_and_no_network_are_one_sentence(server: Server) -> None:
    with pytest.raises(UserError, match="404 Not Found") as caught:
        download.download(server.address + "/missing", 20)
    assert "\n" not in str(caught.value)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="check the address and the network") as caught:
        download.download(server.address, 20)
    assert "\n" not in str(caught.value)


SIX = {f"{artist}/{number}.jpg": bytes([number]) * 700 for artist in "ABCDEF" for number in range(3)}


def compressed(data: bytes, how: str) -> bytes:
    compress: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    return compress[how](data) if how else data


def corrupted(whole: bytes, corruption: str) -> bytes:
    """A tar of SIX, each of whose files takes 512 bytes of header and 1,024 of content."""
    middle = 9 * 1536
    match corruption:
        case "a byte of a header":
            return whole[: middle + 5] + b"\xff" + whole[middle + 6 :]
        case "the size in a header":
            return whole[: middle + 124] + b"00000009999\0" + whole[middle + 136 :]
        case "a header of zeros":
            return whole[:middle] + bytes(512) + whole[middle + 512 :]
        case "cut before a header":
            return whole[:middle]
        case "cut within a header":
            return whole[: middle + 200]
        case "cut within a file":
            return whole[: middle + 700]
        case "without its end":
            return whole[: 18 * 1536]
        case "with half of its end":
            return whole[: 18 * 1536 + 512]
        case "two in one file":
            return whole + whole
    raise AssertionError(corruption)


CORRUPTIONS = (
    "a byte of a header", "the size in a header", "a header of zeros", "cut before a header", "cut within a header",
    "cut within a file", "without its end", "with half of its end", "two in one file",
)  # fmt: skip


@pytest.mark.parametrize("how", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_an_incomplete_tar_is_refused(tmp_path: Path, settings: MakeSettings, corruption: str, how: str) -> None:
    """python/cpython#120740: tarfile ends at the corruption as if the archive ended there."""
    whole = make_tar(tmp_path / "whole.tar", SIX, "w").read_bytes()
    file = tmp_path / "a.tar"
    file.write_bytes(compressed(corrupted(whole, corruption), how))
    with pytest.raises(
        UserError, match=r"cannot be unpacked \(.*\): it is corrupt or incomplete; download or|has data behind its end"
    ):
        unpack(settings, file)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_complete_tar_of_each_format_is_unpacked(tmp_path: Path, settings: MakeSettings, format: int) -> None:
    names = {f"{'long' * 30}/é{number}.jpg": b"x" for number in range(3)}
    with tarfile.open(tmp_path / "a.tar", "w", format=format, encoding="utf-8") as opened:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    assert tree_bytes(unpack(settings, tmp_path / "a.tar")) == names


def unflagged_zip(path: Path, names: dict[bytes, bytes], extra: Callable[[bytes], bytes] = lambda name: b"") -> Path:
    """A zip with these bytes as names, without an encoding."""
    with zipfile.ZipFile(path, "w") as opened:
        for number, (name, content) in enumerate(names.items()):
            member = zipfile.ZipInfo(f"{number:0{len(name)}}")
            member.extra = extra(name)
            opened.writestr(member, content)
    data = path.read_bytes()
    for number, name in enumerate(names):
        data = data.replace(f"{number:0{len(name)}}".encode(), name)
    path.write_bytes(data)
    return path


def encoded(encoding: str, *names: str) -> dict[bytes, bytes]:
    return {name.encode(encoding): bytes([number]) for number, name in enumerate(names)}


def test_names_in_utf8_without_the_flag(
    tmp_path: Path, settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("Albrecht Du\u0308rer/0123456789.jpg", "葛飾北斎/0123456789.jpg")
    out = unpack(settings, unflagged_zip(tmp_path / "a.zip", encoded("utf-8", *names)))
    assert set(tree_bytes(out)) == set(names)
    assert "does not state the encoding of its names: decoded as utf-8, such as Albrecht D" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("cp932", "ソ連の画家/0123456789.jpg"),
        ("cp932", "モネ/0123456789.jpg"),
        ("gbk", "齐白石/0123456789.jpg"),
        ("euc-kr", "김홍도/0123456789.jpg"),
        ("cp1251", "Репин/0123456789.jpg"),
        ("cp866", "МАНЕ/0123456789.jpg"),
        ("cp1252", "Diego Velázquez/0123456789.jpg"),
        ("cp1252", "Dalí/0123456789.jpg"),
    ],
)
def test_names_in_a_code_page_need_the_parameter(
    tmp_path: Path, settings: MakeSettings, encoding: str, name: str
) -> None:
    file = unflagged_zip(tmp_path / "a.zip", encoded(encoding, name, "Ana/0123456789.jpg"))
    with pytest.raises(UserError, match=r"set fetch\.archive\.encoding"):
        unpack(settings, file)
    (tmp_path / "unpacked").rmdir()
    out = unpack(settings, file, **{"fetch.archive.encoding": encoding})
    assert set(tree_bytes(out)) == {name, "Ana/0123456789.jpg"}


def test_names_in_cp437_are_decoded_and_reported(
    tmp_path: Path, settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("Joan Miró/0123456789.jpg", "Dürer/0123456789.jpg")
    out = unpack(settings, unflagged_zip(tmp_path / "a.zip", encoded("cp437", *names)))
    assert set(tree_bytes(out)) == set(names)
    assert "decoded as cp437, such as Joan Miró" in capsys.readouterr().out


def test_a_wrong_encoding_is_reported(tmp_path: Path, settings: MakeSettings) -> None:
    file = unflagged_zip(tmp_path / "a.zip", {b"\x81\xff name 0123456789": b"x"})
    with pytest.raises(UserError, match=r"names that are not in fetch\.archive\.encoding \(cp932\)"):
        unpack(settings, file, **{"fetch.archive.encoding": "cp932"})


@pytest.mark.parametrize("right", [True, False])
def test_a_unicode_name_in_an_extra_field_is_used_if_it_matches(
    tmp_path: Path, settings: MakeSettings, right: bool
) -> None:
    """Info-ZIP's Unicode Path (APPNOTE.TXT, 4.6.9): version 1, the CRC-32 of the name beside it, the name."""

    def extra(raw: bytes) -> bytes:
        field = b"\1" + struct.pack("<I", zlib.crc32(raw) ^ (not right)) + "北斎/1.jpg".encode()
        return struct.pack("<HH", 0x5455, 1) + b"\0" + struct.pack("<HH", 0x7075, len(field)) + field

    out = unpack(settings, unflagged_zip(tmp_path / "a.zip", {b"Hokusai/0123456789.jpg": b"x"}, extra))
    assert set(tree_bytes(out)) == {"北斎/1.jpg" if right else "Hokusai/0123456789.jpg"}


def test_names_of_a_tar_in_a_code_page(tmp_path: Path, settings: MakeSettings) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="cp932") as opened:
        opened.addfile(tarfile.TarInfo("葛飾北斎/1.jpg"))
    out = unpack(settings, tmp_path / "a.tar", **{"fetch.archive.encoding": "cp932"})
    assert set(tree_bytes(out)) == {"葛飾北斎/1.jpg"}


def long_header(kind: bytes, size: int) -> bytes:
    """A header that announces a name or attribute of that size, and a sparse file of this size."""
    member = tarfile.TarInfo("Ana/1.jpg")
    member.type, member.size = kind, size
    return member.tobuf()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("begin", [b"", tarfile.TarInfo("Ana/0.jpg").tobuf()])
def test_a_name_that_would_fill_the_memory_is_refused(
    tmp_path: Path, settings: MakeSettings, kind: bytes, begin: bytes
) -> None:
    """300 MB of a name took 948 MB. The file is sparse: nothing of it is read."""
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(begin + long_header(kind, 300_000_000))
        file.truncate(301_000_000 // 512 * 512)
    with pytest.raises(UserError, match=r"cannot be unpacked here \(a name or attribute has 300000000 bytes\)"):
        unpack(settings, tmp_path / "a.tar")


@pytest.mark.parametrize("kind", [tarfile.XGLTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_without_end_are_refused(tmp_path: Path, settings: MakeSettings, kind: bytes) -> None:
    content = b"17 comment=aaaaa\n" if kind != tarfile.GNUTYPE_LONGNAME else b"aaaa\0"
    header = long_header(kind, len(content)) + content.ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(5000 * header + bytes(1024))
    with pytest.raises(UserError, match="cannot be unpacked here"):
        unpack(settings, tmp_path / "a.tar")


@pytest.mark.parametrize("version", ["gnu", "posix"])
def test_a_sparse_file_in_a_tar_is_refused(tmp_path: Path, settings: MakeSettings, version: str) -> None:
    """The list of its holes has no limit."""
    with (tmp_path / "1.jpg").open("wb") as file:
        file.truncate(10_000_000)
    subprocess.run(["tar", "-S", f"--format={version}", "-cf", "a.tar", "1.jpg"], cwd=tmp_path, check=True)
    with pytest.raises(UserError, match=r"cannot be unpacked here \(a sparse file\): unpack it with 7-Zip"):
        unpack(settings, tmp_path / "a.tar")


def test_members_are_counted_before_zipfile_lists_them(tmp_path: Path, settings: MakeSettings) -> None:
    """Two million members of 47 bytes need a gigabyte; the end of the zip says one."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    start = b"PK\3\4" + bytes(26) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 20_000 * len(entry), len(start), 0)
    (tmp_path / "a.zip").write_bytes(start + 20_000 * entry + end)
    with pytest.raises(UserError, match=r"more files than fetch\.archive\.max_files \(10000\)"):
        unpack(settings, tmp_path / "a.zip", **{"fetch.archive.max_files": 10_000})


def test_long_names_and_comments_are_no_members(tmp_path: Path, settings: MakeSettings) -> None:
    """As many bytes as ten times the allowed members would need, for fewer members."""
    names = {f"Ana/{'x' * 200}{number}.jpg": b"x" for number in range(50)}
    file = make_zip(tmp_path / "a.zip", names)
    assert len(list(unpack(settings, file, **{"fetch.archive.max_files": 50}).rglob("*.jpg"))) == 50


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_colon_in_a_name_stays_inside_the_folder(
    tmp_path: Path, settings: MakeSettings, make: Callable[..., Path]
) -> None:
    files = {"Turner: Sea/1.jpg": b"x", "a/B: c/2.jpg": b"y"}
    assert tree_bytes(unpack(settings, make(tmp_path / "a", files))) == files


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"Rar!\x1a\x07\x01\x00", "is a RAR archive, which is not supported: unpack it with 7-Zip"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive"),
        (b"\x28\xb5\x2f\xfd\x24\0", "is packed with Zstandard"),
        (gzip.compress(b"no tar", mtime=0), "is gzip, but no tar in it"),
        (b"<!DOCTYPE html><title>Log in</title>", "is a web page and not an archive"),
        (b"nothing", "is not a zip or tar archive"),
    ],
    ids=["rar", "7z", "zstd", "gzip", "page", "nothing"],
)
def test_other_formats_are_reported(tmp_path: Path, settings: MakeSettings, content: bytes, what: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=what):
        unpack(settings, tmp_path / "a")


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [
        (6, 1, "is encrypted"),
        (8, 9, "is packed with Deflate64"),
        (8, 93, "is packed with Zstandard"),
        (8, 98, "PPMd"),
        (8, 77, "is packed with method 77"),
    ],
)
def test_unsupported_zips_are_reported(
    tmp_path: Path, settings: MakeSettings, offset: int, value: int, what: str
) -> None:
    """By the flags and the method in its headers (APPNOTE.TXT, 4.3.7 and 4.3.12)."""
    data = bytearray(make_zip(tmp_path / "a.zip", {"Ana/1.jpg": b"x"}).read_bytes())
    central = data.index(b"PK\1\2")
    data[offset] = data[central + offset + 2] = value
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match=rf"{what}.*unpack it with 7-Zip, and set fetch\.source to folder"):
        unpack(settings, tmp_path / "a.zip")


def test_a_relative_path_is_reported_with_the_working_directory(tmp_path: Path, settings: MakeSettings) -> None:
    with pytest.raises(UserError, match="experiments with --temp or --queue run elsewhere: set an absolute path"):
        archive.fetch_files(settings({"fetch.archive.path": "../a.zip"}).fetch, tmp_path)
    with pytest.raises(UserError, match=r"which is not a file on this machine\."):
        archive.fetch_files(settings({"fetch.archive.path": "/a.zip"}).fetch, tmp_path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_zip_of_zips_as_a_mac_writes_it(tmp_path: Path, settings: MakeSettings, wrapped: bool) -> None:
    """With files of the system, and with a folder in each zip that is named like the zip."""
    outer = {"__MACOSX/._Ana.zip": b"x", ".DS_Store": b"x"}
    for artist in ("Ana", "Ben"):
        inner = {f"{artist}/{n}.jpg" if wrapped else f"{n}.jpg": artist.encode() * n for n in (1, 2)}
        outer[f"{artist}.zip"] = make_zip(tmp_path / "inner.zip", inner | {"__MACOSX/x": b"x"}).read_bytes()
    found = tree_bytes(unpack(settings, make_zip(tmp_path / "a.zip", outer)))
    images = {name: content for name, content in found.items() if name.endswith(".jpg")}
    assert images == {f"{artist}/{n}.jpg": artist.encode() * n for artist in ("Ana", "Ben") for n in (1, 2)}
