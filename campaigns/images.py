"""Files that are not images, incomplete or mislabelled: none stops a run, and each is counted.

An attack is a folder of 200 such files and a few good images, for fetch, split, augment and resize, and for the reader
of `redarte predict` and the service.
"""

import io
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tifffile
from PIL import Image
from tests.conftest import Workspace, environment_for, new_workspace, painting, write_painting

from redarte.ingestion import checks
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import Sandbox, TaskFailedError

FILES = 200
MAX_PIXELS = 4e6
_LONGEST = 600  # seconds for a stage
_GOOD = 8  # images of each of two artists
_REAL = 90  # px: of the images before the malicious change
HOLE = "hole"  # how files are named that decode and are damaged


@contextmanager
def prepared(root: Path) -> Iterator[Workspace]:
    workspace = new_workspace(
        root / "redarte",
        {
            "fetch.source": "folder",
            "fetch.folder.path": str(root / "source"),
            "fetch.max_megapixels": MAX_PIXELS / 1e6,
        },
    )
    for artist in ("Ana", "Ben"):
        for number in range(_GOOD):
            write_painting(
                root / "good" / artist / f"good {number}.jpg", _REAL, _REAL, seed=number * 2 + (artist == "Ben")
            )
    yield workspace


def attack(workspace: Workspace, seed: int) -> Counter[str]:
    """Makes the folder number `seed`, and takes it through everything that reads images."""
    rng = random.Random(seed)
    source = workspace.path.parent / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(workspace.path.parent / "good", source)
    made = {place_one(source, rng, number) for number in range(FILES)}
    everything = [path for path in source.rglob("*") if path.is_symlink() or not path.is_dir()]
    assert len(everything) == len(made) + 2 * _GOOD
    happened: Counter[str] = Counter()
    for stage in ("fetch", "split", "augment", "resize"):
        happened.update(bounded(workspace, stage))
    fetched = workspace.metrics("fetch")
    assert fetched["images"] + fetched["skipped"]["files"] == len(everything), fetched
    kept = {path.name for path in (workspace.path / "data/raw").glob("*/*")}
    assert {f"good {number}.jpg" for number in range(_GOOD)} <= kept, "a good image was set aside"
    assert not any(name.startswith(HOLE) for name in kept), "a JPEG with a hole was kept"
    assert not list(source.parent.glob("out*")), "something was written beside the source"
    happened.update({f"fetch: {reason}": n for reason, n in fetched["skipped"].items() if reason != "files"})
    happened["fetch: kept"] += fetched["images"] - 2 * _GOOD
    happened.update(read_as_uploads(made))
    return happened


def bounded(workspace: Workspace, stage: str) -> Counter[str]:
    """Runs a stage, which must succeed in time and within its memory."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, "-m", f"redarte.stages.{stage}"],
        cwd=workspace.path, env=environment_for({}), capture_output=True, timeout=_LONGEST,
    )  # fmt: skip
    message = done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{stage}: {message}"
    assert "Traceback" not in message, message
    most = int(done.stdout.split()[-1]) * 1024
    assert most <= checks.max_memory(MAX_PIXELS), f"{stage}: a process held {most / 1e6:.0f} MB"
    return Counter({f"{stage}: seconds": round(time.monotonic() - started)})


# A process counts the memory of its parent: this one is small, and prints the memory of its children.
MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def read_as_uploads(made: set[Path]) -> Counter[str]:
    """The result of `redarte predict` and of the service for each file."""
    printed: Counter[str] = Counter()
    read = partial(checks.read_resized, side=32, max_pixels=MAX_PIXELS)
    with Sandbox(2, checks.max_memory(MAX_PIXELS)) as sandbox:
        for path, answer in zip(sorted(made), sandbox.map(read, sorted(made)), strict=True):
            if isinstance(answer, UserError):
                assert "\n" not in str(answer) and len(str(answer)) < 200, f"{path}: {answer}"
                printed[f"predict: {'LOST: ' if isinstance(answer, TaskFailedError) else ''}{answer}"] += 1
            else:
                assert answer.shape == (32, 32, 3) and answer.dtype == np.uint8, path
                printed["predict: read"] += 1
    return printed


def place_one(source: Path, rng: random.Random, number: int) -> Path:
    """Writes one malicious file for one of the two artists, under an unused name."""
    folder = source / rng.choice(["Ana", "Ben"])
    if rng.random() < 0.1:
        return rng.choice(SPECIAL)(folder, rng, number)
    data, suffix = malicious(rng)
    path = folder / named(rng, number, suffix)
    path.write_bytes(data)
    return path


def malicious(rng: random.Random) -> tuple[bytes, str]:
    """The bytes of a malicious file, and a suffix, usually that of its format."""
    if rng.random() < 0.1:
        return rng.choice(MADE_UP)(rng), rng.choice(sorted(checks.SUFFIXES))
    make, suffix = rng.choice(WHOLE)
    data = make(rng)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        data = rng.choice(HARM)(rng, data)
    if rng.random() < 0.1 or suffix not in checks.SUFFIXES:
        suffix = rng.choice(sorted(checks.SUFFIXES))
    return data, suffix


def random_image(rng: random.Random) -> Image.Image:
    side = rng.choice([1, 2, 7, 16, 33, _REAL])
    return Image.fromarray(painting(side, rng.choice([1, 8, side]), seed=rng.randrange(1000)))


def by_pillow(kind: str, modes: str, **options: object) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        mode = rng.choice(modes.split())
        image = random_image(rng)
        image = image.convert("L").convert(mode) if mode.startswith(("I", "F")) else image.convert(mode)
        more = (
            {"append_images": [random_image(rng).resize(image.size).convert(mode)] * 3} if "save_all" in options else {}
        )
        chosen = {key: rng.choice(value) if isinstance(value, list) else value for key, value in options.items()}
        file = io.BytesIO()
        image.save(file, kind, **chosen, **more)
        return file.getvalue()

    return make


def by_opencv(suffix: str, kind: str = "uint8") -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        values = painting(_REAL, _REAL, seed=rng.randrange(1000)).astype(kind)
        if kind == "float32":
            values /= 255
        _, data = cv2.imencode(suffix, values[..., 0] if suffix in (".pgm", ".pfm") else values)
        return bytes(data)

    return make


def turned(rng: random.Random) -> bytes:
    """A JPEG with EXIF of all sorts."""
    exif = Image.Exif()
    exif[0x0112] = rng.choice([0, 1, 2, 3, 5, 6, 8, 9, 65535])
    exif[0x010E] = "x" * rng.choice([0, 1, 60_000])
    file = io.BytesIO()
    random_image(rng).save(file, "JPEG", exif=exif, dpi=(0, 0))
    return file.getvalue()


BYTE_ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")


def deep_tiff(rng: random.Random) -> bytes:
    """A TIFF of any depth, layout and number of pages."""
    bits, photometric = rng.choice([8, 12, 16, 32]), rng.choice(["minisblack", "miniswhite", "rgb", "separated"])
    channels = {"rgb": 3, "separated": 4}.get(photometric, 0)
    planes = channels and rng.random() < 0.5
    shape = ((channels, 17, 33) if planes else (17, 33, channels)) if channels else (17, 33)
    dtype = np.uint8 if bits == 8 else np.uint16 if bits < 32 else rng.choice([np.uint32, np.int32, np.float32])
    samples = np.random.default_rng(rng.randrange(1000)).integers(0, 2 ** min(bits, 30), shape).astype(dtype)
    written = io.BytesIO()
    with tifffile.TiffWriter(written, byteorder=rng.choice(BYTE_ORDERS), bigtiff=rng.random() < 0.1) as file:
        for page in range(rng.choice([1, 1, 2, 4])):
            file.write(
                samples, photometric=photometric, planarconfig="separate" if planes else "contig" if channels else None,
                bitspersample=bits, compression=None if bits == 12 else rng.choice([None, "lzw", "zlib", "packbits"]),
                subfiletype=rng.choice([0, 1, 2]) if page else rng.choice([0, 0, 1]),
            )  # fmt: skip
    return written.getvalue()


def keyed_png(rng: random.Random) -> bytes:
    """A PNG of any depth with one transparent grey or colour, and texts."""
    depth, colour = rng.choice([(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
    row = rng.randbytes((16 * depth * (3 if colour else 1) + 7) // 8)
    key = struct.pack(">3H", *[rng.randrange(2**depth)] * 3)[: 6 if colour else 2]
    text = chunk(rng.choice([b"tEXt", b"zTXt", b"iTXt"]), rng.randbytes(rng.choice([0, 9, 99999])))
    header = struct.pack(">IIBBBBB", 16, 16, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), text, chunk(b"tRNS", key), chunk(b"IDAT", zlib.compress((b"\0" + row) * 16))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


# How a complete file of each format is written, and its suffix.
WHOLE: list[tuple[Callable[[random.Random], bytes], str]] = [
    (by_pillow("JPEG", "RGB L CMYK", quality=[1, 50, 95], progressive=[False, True], subsampling=[0, 2]), ".jpg"),
    (turned, ".jpeg"),
    (by_pillow("PNG", "1 L LA P RGB RGBA I;16", optimize=[False, True]), ".png"),
    (by_opencv(".png", "uint16"), ".png"),
    (by_pillow("PNG", "RGB RGBA", save_all=True), ".png"),
    (by_pillow("WEBP", "RGB RGBA", lossless=[False, True], quality=[1, 80]), ".webp"),
    (by_pillow("WEBP", "RGB", save_all=True), ".webp"),
    (by_pillow("GIF", "P L", save_all=True), ".gif"),
    (by_pillow("BMP", "1 L P RGB RGBA"), ".bmp"),
    (
        by_pillow(
            "TIFF", "1 L RGB RGBA CMYK I;16 F", compression=["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]
        ),
        ".tif",
    ),
    (by_pillow("TIFF", "RGB L", compression=["jpeg"]), ".tiff"),
    (by_pillow("TIFF", "RGB", save_all=True), ".tiff"),
    (deep_tiff, ".tif"),
    (deep_tiff, ".tif"),
    (keyed_png, ".png"),
    (by_opencv(".jp2"), ".jp2"),
    (by_opencv(".ppm"), ".ppm"),
    (by_opencv(".pgm"), ".pgm"),
    (by_opencv(".sr"), ".sr"),
    (by_opencv(".hdr", "float32"), ".hdr"),
    (by_opencv(".pfm", "float32"), ".pfm"),
    (by_opencv(".avif"), ".avif"),
    (by_pillow("ICO", "RGBA"), ".ico"),
    (by_pillow("TGA", "RGB", compression=[None, "tga_rle"]), ".tga"),
    (by_pillow("PCX", "RGB L"), ".pcx"),
]


def truncated(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def truncated_in_its_header(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randint(0, 64)]


def bits_flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 8, 64]) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def header_lies(rng: random.Random, data: bytes) -> bytes:
    """A number in the first bytes is another, most often a large one."""
    changed = bytearray(data)
    width = rng.choice([1, 2, 4])
    if len(changed) > width:
        root = rng.randrange(min(len(changed) - width, 64))
        number = rng.choice([0, 1, 2**7, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1]) % 2 ** (8 * width)
        changed[root : root + width] = number.to_bytes(width, rng.choice(["little", "big"]))
    return bytes(changed)


def piece_lost(rng: random.Random, data: bytes) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + data[start + rng.randint(1, 64) :]


def piece_twice(rng: random.Random, data: bytes) -> bytes:
    start = rng.randint(0, len(data))
    return data[:start] + data[max(0, start - rng.randint(1, 400)) :]


def overwritten(rng: random.Random, data: bytes) -> bytes:
    start, length = rng.randint(0, len(data)), rng.randint(1, 400)
    return data[:start] + rng.choice([b"\0", b"\xff", b"A"]) * length + data[start + length :]


def polyglot(rng: random.Random, data: bytes) -> bytes:
    other = rng.choice([b"PK\x03\x04", b"%PDF-1.7\n", b"<html><script>alert(1)</script>", b"#!/bin/sh\nrm -rf /\n"])
    return data + other if rng.random() < 0.7 else other + data


HARM = [
    truncated,
    truncated,
    truncated_in_its_header,
    bits_flipped,
    bits_flipped,
    bits_flipped,
    header_lies,
    piece_lost,
    piece_twice,
    overwritten,
    polyglot,
]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def bomb(rng: random.Random) -> bytes:
    """A small PNG that is large when it is decoded."""
    side = rng.choice([1900, 1999, 2000, 2001, 4000])
    return png(side, side, chunk(b"IDAT", zlib.compress(bytes(side * (side * 3 + 1)), 9)))


def declares_too_much(rng: random.Random) -> bytes:
    return png(rng.choice([1, 2**16, 2**31 - 1]), 2**31 - 1, chunk(b"IDAT", zlib.compress(bytes(100))))


def text_bomb(rng: random.Random) -> bytes:
    """A PNG of one pixel whose remark unpacks to 50 MB."""
    remark = b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9)
    return png(1, 1, chunk(rng.choice([b"zTXt", b"iCCP"]), remark), chunk(b"IDAT", zlib.compress(bytes(4))))


def gif_of_frames(rng: random.Random) -> bytes:
    """Thousands of frames on a large canvas, in a few kilobytes."""
    side = rng.choice([1, 1999])
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    palette = bytes(6)
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + palette + frame * 5000 + b"\x3b"


def tiff_of_lies(rng: random.Random) -> bytes:
    """A TIFF with random tags, including offsets."""
    tags = [256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 339, 347, 34665]
    chosen = sorted(rng.sample(tags, rng.randint(1, len(tags))))
    values = [0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 100, 2000, 32946, 34712, 2**31, 2**32 - 1]
    entries = b"".join(
        struct.pack("<HHII", tag, rng.choice([1, 2, 3, 4, 5, 12, 13, 16]), rng.choice(values), rng.choice(values))
        for tag in chosen
    )
    return b"II*\0" + struct.pack("<IH", 8, len(chosen)) + entries + struct.pack("<I", rng.choice([0, 8])) + bytes(400)


def noise(rng: random.Random) -> bytes:
    start = rng.choice(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\xff\xff\xffWEBP", b"GIF89a", b"BM", b"MM\0*"]
    )
    return start + rng.randbytes(rng.choice([0, 1, 100, 5000]))


MADE_UP = [bomb, declares_too_much, text_bomb, gif_of_frames, tiff_of_lies, tiff_of_lies, noise, noise]

NAMES = [
    "plain", "كلب", "ἀρχή", "画家", "художник", "चित्रकार", "e\u0301", "\u202egpj", "👩\u200d🎨", " ",
    "-rf", "--help", "a\nb", "a\tb", "a\\b", "CON", "nul.", "a..b", "%s%n", "{0}", "[a]*?",
    "'\"`$(id)", "a__b", "__", "\x01", "é" * 110, "x" * 230, "．．", "\ufeff", "~", "#", "&amp;<b>",
    "\udcff\udcfe",
]  # fmt: skip


def named(rng: random.Random, number: int, suffix: str) -> str:
    name = f"{rng.choice(NAMES)}{number}"
    return name + (suffix.upper() if rng.random() < 0.1 else suffix)


def link_out(folder: Path, rng: random.Random, number: int) -> Path:
    path = folder / f"link{number}.jpg"
    path.symlink_to(rng.choice(["/etc/passwd", "../..", "nowhere", path.name, "good 0.jpg", "/dev/zero", "/dev/stdin"]))
    return path


def pipe(folder: Path, _rng: random.Random, number: int) -> Path:
    path = folder / f"pipe{number}.jpg"
    os.mkfifo(path)
    return path


def bound_socket(folder: Path, _rng: random.Random, number: int) -> Path:
    path = folder / f"socket{number}.jpg"
    with socket.socket(socket.AF_UNIX) as opened:
        # A socket's whole path is at most 107 bytes.
        here = Path.cwd()
        os.chdir(folder)
        try:
            opened.bind(path.name)
        finally:
            os.chdir(here)
    return path


def sparse(folder: Path, rng: random.Random, number: int) -> Path:
    """Gigabytes on paper, nothing on the disk."""
    path = folder / f"sparse{number}.png"
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(rng.choice([10**6, 10**8, 10**11]))
    return path


def empty(folder: Path, _rng: random.Random, number: int) -> Path:
    path = folder / f"empty{number}.jpg"
    path.touch()
    return path


def no_image(folder: Path, rng: random.Random, number: int) -> Path:
    path = folder / f"other{number}{rng.choice(['', '.txt', '.jpg.exe', '.jpgx', '.svg'])}"
    path.write_bytes(b"<svg onload='alert(1)'/>")
    return path


def a_copy(folder: Path, _rng: random.Random, number: int) -> Path:
    """A good image again, with something after its end."""
    path = folder / f"copy{number}.jpg"
    path.write_bytes((folder / "good 0.jpg").read_bytes() + bytes([number % 256]))
    return path


def hole(folder: Path, rng: random.Random, number: int) -> Path:
    """A JPEG with 4 kB lost or zeroed: it decodes to wrong colours."""
    values = np.random.default_rng(number).integers(-30, 30, (240, 320, 3)) + painting(320, 240, seed=number)
    written = io.BytesIO()
    image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    image.save(written, "JPEG", quality=rng.choice([80, 95]), progressive=rng.random() < 0.5)
    data = written.getvalue()
    start = rng.randrange(len(data) // 4, len(data) // 2)
    path = folder / f"{HOLE}{number}.jpg"
    path.write_bytes(data[:start] + rng.choice([b"", bytes(4096)]) + data[start + 4096 :])
    return path


SPECIAL = [link_out, link_out, pipe, bound_socket, sparse, empty, no_image, a_copy, hole]
