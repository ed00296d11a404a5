"""Pixels of odd but good files, and files that decode and are damaged: each against values computed another way."""

import errno
import io
import itertools
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from redarte.images import decoding
from redarte.ingestion import checks, collection
from tests.conftest import painting
from tests.images import profiles

RNG = np.random.default_rng(0)


def pixels(data: bytes) -> np.ndarray:
    assert checks.problem(data, 1e6) is None
    return decoding.decode(data, lambda size: size).astype(int)


def scaled(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples of any depth as (height, width, 3), 0 to 255."""
    eight = samples / (2**bits - 1) * 255
    return np.repeat(eight[..., None], 3, axis=-1) if eight.ndim == 2 else eight[..., :3]


def tiff(samples: np.ndarray, planes: bool = False, **options: Any) -> bytes:
    written = io.BytesIO()
    if samples.ndim == 3:
        options["planarconfig"] = "separate" if planes else "contig"
        samples = np.moveaxis(samples, -1, 0) if planes else samples
    tifffile.imwrite(written, samples, **options)
    return written.getvalue()


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_tiffs_of_every_depth_and_layout(bits: int, byteorder: str, compression: str | None) -> None:
    dtype = np.dtype(f"uint{bits}")
    for tile, planes in itertools.product([None, (16, 16)], [False, True]):
        options: dict[str, Any] = {"compression": compression, "byteorder": byteorder, "tile": tile}
        if compression in ("lzw", "zlib"):
            options["predictor"] = True
        grey = RNG.integers(0, 2**bits, (24, 40), dtype)
        colour = RNG.integers(0, 2**bits, (24, 40, 3), dtype)
        for samples, photometric, expected in (
            (grey, "minisblack", scaled(grey, bits)),
            (grey, "miniswhite", 255 - scaled(grey, bits)),
            (colour, "rgb", scaled(colour, bits)),
        ):
            read = pixels(tiff(samples, planes, photometric=photometric, **options))
            assert np.abs(read - expected).max() <= 1, (photometric, options, planes)


def test_tiffs_of_12_bits_and_of_odd_depths() -> None:
    for bits in (10, 12, 14):
        grey = RNG.integers(0, 2**bits, (24, 40), np.uint16)
        data = tiff(grey, photometric="minisblack", bitspersample=bits)
        assert np.abs(pixels(data) - scaled(grey, bits)).max() <= 1


def test_a_tiff_of_16_bits_with_alpha_and_orientation() -> None:
    colour = np.full((24, 40, 4), 10_000, np.uint16)
    colour[:12, :, 3], colour[12:, :, 3] = 65535, 0
    turned = [(274, "H", 1, 3, True)]
    read = pixels(tiff(colour, photometric="rgb", extrasamples=["unassalpha"], extratags=turned))
    assert (read[:12] == 255).all() and np.abs(read[12:] - 39).max() <= 1
    premultiplied = colour.copy()
    premultiplied[12:, :, :3] = 0
    read = pixels(tiff(premultiplied, photometric="rgb", extrasamples=["assocalpha"]))
    assert (read[12:] == 255).all() and np.abs(read[:12] - 39).max() <= 1


def test_the_colour_profile_of_a_tiff_of_16_bits() -> None:
    """Samples of Display P3, which differ from those of sRGB."""
    colour = np.full((24, 40, 3), (200 * 257, 120 * 257, 60 * 257), np.uint16)
    profile = profiles.rgb(profiles.P3, 2.2)
    tag = (34675, "B", len(profile), profile, True)
    data = tiff(colour, photometric="rgb", extratags=[tag])
    expected = profiles.in_srgb(np.array([[200, 120, 60]]), profiles.P3, 2.2)[0]
    assert np.abs(pixels(data)[0, 0] - expected).max() <= 2 and abs(expected[0] - 200) > 5
    assert not decoding.has_broken_profile(data)
    broken = tiff(colour, photometric="rgb", extratags=[(34675, "B", 10, b"no profile", True)])
    assert np.abs(pixels(broken)[0, 0] - (200, 120, 60)).max() <= 1
    assert decoding.has_broken_profile(broken)


def test_a_cmyk_tiff_of_16_bits() -> None:
    inks = np.zeros((24, 40, 4), np.uint16)
    inks[:, :20, 0] = 65535
    read = pixels(tiff(inks, photometric="separated"))
    assert (read[:, 20:] == 255).all() and (read[:, :20, 0] == 0).all()


@pytest.mark.parametrize(
    ("samples", "options", "reason"),
    [
        (np.zeros((24, 40), np.int16), {"photometric": "minisblack"}, "unsupported_tiff"),
        (np.zeros((24, 40, 3), np.uint16), {"photometric": "cielab"}, "unsupported_tiff"),
        (np.zeros((24, 40, 3), np.float32), {"photometric": "rgb"}, "floating_point_samples"),
        (np.zeros((24, 40), np.float16), {"photometric": "minisblack"}, "floating_point_samples"),
    ],
)
def test_samples_without_an_agreed_range_are_named(samples: np.ndarray, options: dict[str, Any], reason: str) -> None:
    assert checks.problem(tiff(samples, **options), 1e6) == reason


def pages(*as_json: tuple[int, int]) -> bytes:
    """A TIFF with a page for each (side, subfile type)."""
    written = io.BytesIO()
    with tifffile.TiffWriter(written) as file:
        for side, kind in as_json:
            file.write(painting(side, side), photometric="rgb", subfiletype=kind)
    return written.getvalue()


def test_pages_behind_the_first_are_counted() -> None:
    assert checks.further_pages(pages((40, 0))) == 0
    assert checks.further_pages(pages((40, 0), (40, 2), (40, 0))) == 2
    # A thumbnail or a smaller version does not count as a page.
    assert checks.further_pages(pages((40, 0), (20, 1))) == 0
    assert checks.problem(pages((10, 1), (40, 0)), 1e6) == "thumbnail_page_first"
    assert checks.problem(pages((10, 1)), 1e6) == "raw_file_of_a_camera"
    written = io.BytesIO()
    Image.fromarray(painting()).save(written, "PNG")
    assert checks.further_pages(written.getvalue()) == 0


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples: np.ndarray, bits: int, *chunks: bytes) -> bytes:
    """A PNG of grey or RGB samples of 1 to 16 bits."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    else:
        unpacked = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
        lines = [np.packbits(line).tobytes() for line in unpacked]
    header = struct.pack(">IIBBBBB", width, height, bits, 0 if samples.ndim == 2 else 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_transparent_grey_of_a_png(bits: int) -> None:
    grey = np.tile(np.linspace(0, 2**bits - 1, 16).astype(int), (8, 1))
    transparent = int(grey[0, 8])
    read = pixels(png(grey, bits, chunk(b"tRNS", struct.pack(">H", transparent))))
    expected = scaled(grey, bits)
    expected[grey == transparent] = 255
    assert np.abs(read - expected).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_one_transparent_colour_of_a_png(bits: int) -> None:
    colour = RNG.integers(0, 2**bits, (8, 16, 3))
    colour[:, 3] = colour[0, 3]
    # With 16 bits, another colour that has the same upper eight.
    colour[:, 4] = colour[0, 3] ^ 1
    read = pixels(png(colour, bits, chunk(b"tRNS", struct.pack(">3H", *colour[0, 3]))))
    expected = scaled(colour, bits)
    expected[:, 3] = 255
    assert np.abs(read - expected).max() <= 1


def test_a_png_with_a_long_or_corrupt_text_is_used() -> None:
    grey = np.arange(128).reshape(8, 16)
    broken = bytearray(chunk(b"tEXt", b"Comment\0by a scanner"))
    broken[-1] ^= 1
    for text in (bytes(broken), chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 * 2**20)))):
        assert (pixels(png(grey, 8, text))[..., 0] == grey).all()
    whole = png(grey, 8, chunk(b"tRNS", b"\0\1"))
    for name in (b"IDAT", b"tRNS", b"IHDR"):
        damaged = bytearray(whole)
        damaged[whole.index(name) + 4] ^= 1
        assert checks.problem(bytes(damaged), 1e6) is not None, name


def jpeg(progressive: bool = False, **options: Any) -> bytes:
    written = io.BytesIO()
    noise = RNG.integers(-30, 30, (240, 320, 3))
    Image.fromarray(np.clip(painting(320, 240) + noise, 0, 255).astype(np.uint8)).save(
        written, "JPEG", quality=92, progressive=progressive, **options
    )
    return written.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 10}, {"subsampling": 0}])
def test_a_jpeg_with_missing_data_is_corrupt(options: dict[str, Any]) -> None:
    """libjpeg decodes it, to grey or to other colours, and only warns."""
    whole = jpeg(**options)
    assert checks.problem(whole, 1e6) is None
    middle = len(whole) // 2
    cut = whole[: int(0.6 * len(whole))] + b"\xff\xd9"
    zeroed = whole[:middle] + bytes(4096) + whole[middle + 4096 :]
    lost = whole[:middle] + whole[middle + 4096 :]
    for damaged in (cut, zeroed, lost):
        assert checks.problem(damaged, 1e6) == "truncated_or_corrupt"


def saved(mode: str, kind: str, **options: Any) -> bytes:
    written = io.BytesIO()
    noise = RNG.integers(-30, 30, (240, 320, 3))
    image = Image.fromarray(np.clip(painting(320, 240) + noise, 0, 255).astype(np.uint8))
    image.convert(mode).save(written, kind, **options)
    return written.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("CMYK", "JPEG", {"quality": 90}),
        ("RGB", "TIFF", {"compression": "jpeg"}),
        ("RGB", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "PNG", {}),
        ("RGB", "GIF", {}),
    ],
)
def test_files_that_pillow_decodes_with_missing_data_are_corrupt(mode: str, kind: str, options: dict[str, Any]) -> None:
    """The same libraries, whose warnings Pillow keeps to itself."""
    whole = saved(mode, kind, **options)
    assert checks.problem(whole, 1e6) is None
    for share in (0.3, 0.5, 0.7):
        start = int(share * len(whole))
        assert checks.problem(whole[:start] + bytes(4096) + whole[start + 4096 :], 1e6) == "truncated_or_corrupt"


def test_padding_in_a_jpeg_is_accepted() -> None:
    whole = jpeg()
    assert checks.problem(whole[:-2] + bytes(8) + whole[-2:], 1e6) is None
    assert checks.problem(whole + bytes(4096), 1e6) is None


def test_warnings_are_not_attributed_to_the_next_file() -> None:
    whole = jpeg()
    assert checks.problem(whole[: len(whole) // 2] + b"\xff\xd9", 1e6) == "truncated_or_corrupt"
    assert checks.problem(whole, 1e6) is None


def lossless(data: bytes) -> bytes:
    """The same JPEG, with a frame header that declares it lossless."""
    return data.replace(b"\xff\xc0", b"\xff\xc3", 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (imagecodecs.jpeg2k_encode(painting(40, 30), codecformat="jp2"), "jpeg_2000"),
        (imagecodecs.jpeg2k_encode(painting(40, 30), codecformat="j2k"), "jpeg_2000"),
        (imagecodecs.jpeg8_encode(np.zeros((30, 40), np.uint16), bitspersample=12), "unsupported_jpeg"),
        (lossless(jpeg()), "unsupported_jpeg"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "jpeg_xl"),
        (b"8BPS" + bytes(100), "photoshop_document"),
    ],
    ids=["jp2", "j2k", "12 bits", "lossless", "jxl", "psd"],
)
def test_unsupported_formats_are_named(data: bytes, reason: str, tmp_path: Path) -> None:
    assert checks.problem(data, 1e6) == reason
    (tmp_path / "a").write_bytes(data)
    assert checks.begins_as_image(tmp_path / "a")
    assert checks._MESSAGES[reason]


@pytest.mark.parametrize(("width", "height"), [(2000, 200), (200, 2000), (1000, 20), (20, 1000)])
def test_a_narrow_image_is_enlarged_without_stripes(width: int, height: int) -> None:
    """Threads of one pixel, black and white by turns, are an even grey when they are shrunk."""
    threads = np.zeros((height, width, 3), np.uint8)
    if width > height:
        threads[:, ::2] = 255
    else:
        threads[::2] = 255
    done, data = cv2.imencode(".png", threads)
    assert done
    square = decoding.decode(data.tobytes(), lambda _size: (224, 224)).astype(int)
    assert abs(square.mean() - 127.5) < 3
    assert square.std() < 40  # a pixel covers a fractional number of threads: 113 with aliasing


def test_a_failing_disk_skips_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_path: Path, _max_pixels: float) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(checks, "read_content", fails)
    assert collection._inspect(tmp_path, 1e6, "a.jpg").reason == "unreadable"


def test_signed_samples_of_8_bits_are_reported() -> None:
    assert checks.problem(tiff(RNG.integers(-128, 127, (20, 30)).astype(np.int8)), 1e6) == "unsupported_tiff"


def test_a_palette_of_8_bits_is_read_as_libtiff_reads_it() -> None:
    """Its largest value is below 256: all colours were black."""
    indices, palette = RNG.integers(0, 256, (20, 30)).astype(np.uint8), RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    for table, expected in ((palette, palette), (palette * 257, palette)):
        found = pixels(tiff(indices, photometric="palette", colormap=table))
        np.testing.assert_allclose(found, np.moveaxis(expected[:, indices], 0, -1), atol=1)


def alpha_of(height: int, width: int) -> np.ndarray:
    return np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))


@pytest.mark.parametrize("photometric", ["minisblack", "rgb", "separated"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extras", [[2], [0, 2], [2, 0]])
def test_transparency_of_a_tiff_is_any_of_its_extra_samples(photometric: str, bits: int, extras: list[int]) -> None:
    """0 is unspecified data, 2 is alpha: 8-bit TIFFs were called corrupt, and a second extra sample was ignored."""
    base = {"minisblack": 1, "rgb": 3, "separated": 4}[photometric]
    colours = np.stack([painting(30, 20, seed=seed)[..., 0] for seed in range(base)], axis=-1)
    alpha = alpha_of(20, 30)
    others = [alpha if extra == 2 else np.full_like(alpha, 99) for extra in extras]
    samples = np.concatenate([colours, *(other[..., None] for other in others)], axis=-1).astype(f"uint{bits}")
    data = tiff(samples * (257 if bits == 16 else 1), photometric=photometric, extrasamples=extras)
    if base == 4:
        opaque = np.asarray(Image.frombytes("CMYK", (30, 20), colours.tobytes()).convert("RGB")).astype(float)
    else:
        opaque = np.broadcast_to(colours, (20, 30, 3)).astype(float)
    share = alpha[..., None] / 255
    np.testing.assert_allclose(pixels(data), opaque * share + 255 * (1 - share), atol=2)


@pytest.mark.parametrize("compression", ["lerc", "jpeg2000", "webp", "jpegxl"])
def test_compressions_that_pillow_does_not_know(compression: str) -> None:
    image = painting(60, 40)
    arguments: dict[str, Any] = {"compressionargs": {"lossless": True}} if compression == "webp" else {}
    data = tiff(image, photometric="rgb", compression=compression, **arguments)
    np.testing.assert_allclose(pixels(data), image, atol=0 if compression in ("lerc", "webp") else 3)


def test_a_big_tiff_in_big_endian() -> None:
    image = painting(60, 40)
    np.testing.assert_array_equal(pixels(tiff(image, photometric="rgb", bigtiff=True, byteorder=">")), image)


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks before its pixels."""
    written = io.BytesIO()
    Image.fromarray(painting()).save(written, "PNG")
    data = written.getvalue()
    added = [struct.pack(">I", len(c)) + name + c + zlib.crc32(name + c).to_bytes(4, "big") for name, c in chunks]
    return data[:33] + b"".join(added) + data[33:]


SRGB_POINTS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3_POINTS = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_CHUNK, GAMMA = (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455))


@pytest.mark.parametrize(
    ("chunks", "is_used"),
    [
        ([], True), ([GAMMA], True), ([(b"cHRM", struct.pack(">8I", *SRGB_POINTS)), GAMMA], True),
        ([SRGB_CHUNK], True), ([(b"cICP", bytes([1, 13, 0, 1]))], True), ([(b"gAMA", struct.pack(">I", 45000))], True),
        ([(b"gAMA", struct.pack(">I", 100000))], False), ([(b"gAMA", struct.pack(">I", 55556))], False),
        ([GAMMA, (b"cHRM", struct.pack(">8I", *P3_POINTS))], False), ([(b"cICP", bytes([12, 13, 0, 1]))], False),
        ([(b"cICP", bytes([9, 16, 0, 1]))], False), ([SRGB_CHUNK, (b"gAMA", struct.pack(">I", 100000))], True),
        ([SRGB_CHUNK, (b"cICP", bytes([9, 16, 0, 1]))], False),
    ],
)  # fmt: skip
def test_a_colour_space_without_a_profile_is_never_used_as_srgb(
    chunks: list[tuple[bytes, bytes]], is_used: bool
) -> None:
    problem = checks.problem(png_with(*chunks), 1e6)
    assert problem == (None if is_used else "unsupported_colour_space")


@pytest.mark.parametrize(
    ("primaries", "transfer", "is_used"), [(1, 13, True), (12, 13, False), (9, 16, False), (2, 2, True)]
)
def test_the_colour_space_of_an_avif(primaries: int, transfer: int, is_used: bool) -> None:
    written = io.BytesIO()
    Image.fromarray(painting(64, 48)).save(written, "AVIF", quality=90)
    data = written.getvalue()
    at = data.index(b"colrnclx") + 8
    changed = data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]
    assert checks.problem(changed, 1e6) == (None if is_used else "unsupported_colour_space")


def test_a_long_colour_profile_of_a_png_is_used() -> None:
    """Pillow refuses a profile of more than a megabyte as if the file were corrupt."""
    profile = profiles.rgb(profiles.P3, 2.2)
    long = struct.pack(">I", len(profile) + 1_500_000) + profile[4:] + bytes(1_500_000)
    images = [png_with((b"iCCP", b"x\0\0" + zlib.compress(found))) for found in (profile, long)]
    np.testing.assert_array_equal(pixels(images[1]), pixels(images[0]))
    assert (pixels(images[1]) != painting()).any()


def test_a_first_frame_that_covers_a_part_of_the_screen_is_on_white() -> None:
    """As browsers show it: Pillow fills the rest with the background colour."""
    table = bytes([200, 0, 0, 0, 200, 0]) + bytes(3 * 254)
    codes, bits, count, packed = [256, *[1] * 120, 257], 0, 0, bytearray()
    for code in codes:
        bits, count = bits | code << count, count + 9
        while count >= 8:
            packed.append(bits & 255)
            bits, count = bits >> 8, count - 8
    packed.append(bits & 255)
    data = (
        b"GIF89a" + struct.pack("<HHBBB", 48, 32, 0xF7, 0, 0) + table + b"," + struct.pack("<HHHHB", 6, 5, 12, 10, 0)
        + b"\x08" + bytes([len(packed)]) + bytes(packed) + b"\0;"
    )  # fmt: skip
    expected = np.full((32, 48, 3), 255)
    expected[5:15, 6:18] = (0, 200, 0)
    np.testing.assert_array_equal(pixels(data), expected)
