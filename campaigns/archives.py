"""Archives with paths out of the folder, too much data, or corruption: refused, or unpacked inside the folder.

An attack is fifty ordinary archives with a malicious change each.
"""

import bz2
import gzip
import io
import lzma
import random
import shutil
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from campaigns.images import HARM
from redarte.ingestion.sources import archive
from redarte.params import Archive
from redarte.runtime.errors import UserError

ARCHIVES = 50
LIMITS = Archive(path=None, root=None, encoding=None, sha256=None, max_gigabytes=0.01, max_files=200)
_MOST_SECONDS = 20.0

Member = tuple[str, bytes]


@contextmanager
def prepared(directory: Path) -> Iterator[Path]:
    (directory / "canary").write_text("whole", encoding="utf-8")
    yield directory


def attack(directory: Path, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    happened: Counter[str] = Counter()
    for _ in range(ARCHIVES):
        file, folder = directory / "archive", directory / "in" / "unpacked"
        shutil.rmtree(directory / "in", ignore_errors=True)
        folder.mkdir(parents=True)
        file.write_bytes(malicious(rng))
        started = time.monotonic()
        try:
            archive.unpack(file, folder, LIMITS)
        except UserError as error:
            assert str(error).startswith(str(file)) and "\n" not in str(error) and len(str(error)) < 1000, error
            happened["refused: " + str(error).split("(")[0].replace(str(file), "").strip()[:40]] += 1
        else:
            happened["unpacked"] += 1
        assert time.monotonic() - started < _MOST_SECONDS
        keeps_inside(directory, folder)
    return happened


def keeps_inside(directory: Path, folder: Path) -> None:
    """The folder has files of no more bytes than allowed, and nothing is outside of it."""
    assert {entry.name for entry in directory.iterdir()} == {"archive", "canary", "in"}
    assert {entry.name for entry in (directory / "in").iterdir()} == {"unpacked"}
    assert (directory / "canary").read_text(encoding="utf-8") == "whole"
    entries = list(folder.rglob("*"))
    assert not [entry for entry in entries if not (entry.is_dir() or entry.is_file()) or entry.is_symlink()]
    files = [entry for entry in entries if entry.is_file()]
    assert len(files) <= LIMITS.max_files
    assert sum(file.stat().st_size for file in files) <= LIMITS.max_gigabytes * 1e9
    assert not [file for file in files if file.stat().st_mode & 0o7111], "a program, or one that runs as its owner"


def malicious(rng: random.Random) -> bytes:
    members: list[Member] = [(f"set/{artist}/{n}.jpg", rng.randbytes(300)) for artist in ("Ana", "Ben") for n in "123"]
    if rng.random() < 0.6:
        members.insert(rng.randint(0, len(members)), (rng.choice(NAMES), b"x" * rng.choice([0, 10, 1000])))
    if rng.random() < 0.2:
        members += rng.choice(TOO_MUCH)(rng)
    data = rng.choice(MADE)(rng, members)
    for _ in range(rng.choice([0, 0, 1, 2])):
        data = rng.choice(HARM)(rng, data)
    return data


NAMES = [
    "../out", "set/../../out", "/tmp/redarte-out", "//tmp/redarte-out", "..\\out", "C:\\out", "C:out",
    "set/Ana/../../../out", "..", ".", "", "/", "set", "set/Ana", "set/Ana/1.jpg", "set/ana/1.jpg",
    "SET/ANA/1.JPG", "set/Ana/1.jpg/2.jpg", "set//Ana//9.jpg", "./set/Ana/1.jpg", "set/./Ana/1.jpg", "~/out",
    "$HOME/out", "set/Ana/\n.jpg", "set/Ana/\x1b[31m.jpg", "x" * 300, "/".join("d" * 9 for _ in range(500)),
    "set/Ana/CON", "set/Ana/a:b.jpg", "set/Ana/é.jpg", "set/Ana/e\u0301.jpg", "画/家.jpg", "set/Ana/\udcff.jpg",
    ".dvc/config", ".git/hooks/post-checkout", "set/Ana/.hidden.jpg", "set/Ana/ ", "-rf", "set/Ana/1.jpg/",
]  # fmt: skip


def many_files(_rng: random.Random) -> list[Member]:
    return [(f"many/{number}.jpg", b"") for number in range(300)]


def zeros(rng: random.Random) -> list[Member]:
    """A few kilobytes that unpack to more than is allowed."""
    return [(f"zeros/{number}.jpg", bytes(rng.choice([4_000_000, 11_000_000]))) for number in range(3)]


TOO_MUCH = [many_files, zeros]


def a_zip(rng: random.Random, members: list[Member]) -> bytes:
    method = rng.choice(
        [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    )
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as opened, suppress(UnicodeEncodeError):
        for name, content in members:
            info = zipfile.ZipInfo(name or "empty")
            info.compress_type = method
            info.external_attr = rng.choice([0, 0, 0, 0o100644, 0o104755, 0o120777, 0o020666, 0o010666, 0o040755]) << 16
            info.create_system = rng.choice([0, 3])
            opened.writestr(info, content)
    return data.getvalue()


def a_zip_that_lies(rng: random.Random, members: list[Member]) -> bytes:
    """Sizes, offsets, methods and flags of the list at its end are other numbers, so that members overlap."""
    changed = bytearray(a_zip(rng, members))
    starts = [at for at in range(len(changed)) if changed[at : at + 4] == b"PK\x01\x02"]
    for start in rng.sample(starts, min(len(starts), 3)):
        directory, width = rng.choice([(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (38, 4), (42, 4)])
        number = rng.choice([0, 1, 8, 12, 14, 300, 2**16 - 1, 2**31, 2**32 - 1]) % 2 ** (8 * width)
        changed[start + directory : start + directory + width] = number.to_bytes(width, "little")
    return bytes(changed)


def a_zip_in_itself(rng: random.Random, members: list[Member]) -> bytes:
    """Zips in zips in zips, as 42.zip."""
    for depth in range(4):
        members = [(f"{depth}-{number}.zip", a_zip(rng, members)) for number in range(3)]
    return a_zip(rng, members)


def a_tar(rng: random.Random, members: list[Member]) -> bytes:
    data = io.BytesIO()
    form = rng.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(fileobj=data, mode="w", format=form) as opened:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = rng.choice([0o644, 0o4755, 0, 0o7777])
            if rng.random() < 0.05:
                member.type = rng.choice(KINDS)
                member.linkname = rng.choice(["/etc/passwd", "../canary", "set/Ana/1.jpg", "."])
            if rng.random() < 0.05:
                member.pax_headers = {rng.choice(["path", "size", "linkpath", "GNU.sparse.size"]): rng.choice(PAX)}
            with suppress(ValueError, UnicodeError):  # a name that this format cannot hold
                opened.addfile(member, io.BytesIO(content))
    return data.getvalue()


KINDS = [
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
    tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z", b"V", tarfile.LNKTYPE,
]  # fmt: skip
PAX = ["../out", "/tmp/redarte-out", "-1", "99999999999999", "1e9", "x"]


def packed(pack: Callable[..., bytes]) -> Callable[[random.Random, list[Member]], bytes]:
    def make(rng: random.Random, members: list[Member]) -> bytes:
        data = a_tar(rng, members)
        if rng.random() < 0.3:
            data = rng.choice(HARM)(rng, data)
        return pack(data)

    return make


def a_tar_of_headers(rng: random.Random, members: list[Member]) -> bytes:
    """Headers that announce long names or attributes, or are many, before ordinary members."""
    kind = rng.choice([tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
    header, content = tarfile.TarInfo("x"), rng.choice([b"17 comment=aaaaa\n", b"aaaa\0", b"9" * 511])
    header.type, header.size = kind, rng.choice([len(content), 2**20 + 1, 2**33 - 1])
    return rng.choice([1, 3, 3000]) * (header.tobuf() + content.ljust(512, b"\0")) + a_tar(rng, members)


def a_zip_of_entries(rng: random.Random, members: list[Member]) -> bytes:
    """A list of members that names each of them many times."""
    whole = a_zip(rng, members)
    start, end = whole.index(b"PK\1\2") if b"PK\1\2" in whole else 0, whole.rindex(b"PK\5\6")
    many = rng.choice([2, 50, 1000])
    listed = many * (end - start)
    return (
        whole[:start]
        + many * whole[start:end]
        + whole[end : end + 12]
        + listed.to_bytes(4, "little")
        + whole[end + 16 :]
    )


def neither(rng: random.Random, _members: list[Member]) -> bytes:
    known = [b"", b"PK", b"PK\x05\x06" + bytes(18), b"Rar!\x1a\x07\0", b"7z\xbc\xaf\x27\x1c"]
    return rng.choice([*known, rng.randbytes(2000)])


MADE = [
    a_zip,
    a_zip,
    a_zip_that_lies,
    a_zip_that_lies,
    a_zip_in_itself,
    a_zip_of_entries,
    a_tar,
    a_tar_of_headers,
    packed(gzip.compress),
    packed(bz2.compress),
    packed(lzma.compress),
    neither,
]
