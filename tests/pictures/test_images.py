import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redarte.pictures import images
from redarte.runtime.errors import UserError
from tests.conftest import painting, write_painting

RGB = painting()


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def distance(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_an_ordinary_jpeg(tmp_path: Path) -> None:
    file = write_painting(tmp_path / "a.jpg")
    assert images.problem(file, 1e6) is None
    assert distance(images.read_within(file, 100), RGB) < 3


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.jpg", Image.fromarray(RGB).convert("CMYK"), quality=95)
    assert images.problem(file, 1e6) is None
    assert distance(images.read_within(file, 100), RGB) < 4


def test_a_16_bit_png_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 30 * 40).reshape(30, 40).astype(np.uint16)
    file = saved(tmp_path / "a.png", Image.fromarray(grey))
    read = images.read_within(file, 100)
    assert distance(read[..., 0], (grey / 257).round()) < 1


def test_transparency_becomes_white(tmp_path: Path) -> None:
    alpha = np.zeros((30, 40, 1), np.uint8)
    alpha[:, 20:] = 255
    read = images.read_within(saved(tmp_path / "a.png", Image.fromarray(np.dstack([RGB, alpha]))), 100)
    assert (read[:, :20] == 255).all()
    assert distance(read[:, 20:], RGB[:, 20:]) == 0


def test_a_palette_with_transparency_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((0, 0), 0)
    read = images.read_within(saved(tmp_path / "a.png", image, transparency=0), 100)
    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[1, 1].tolist() == [200, 10, 10]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_grey_has_three_equal_channels(tmp_path: Path, suffix: str) -> None:
    read = images.read_within(saved(tmp_path / f"a{suffix}", Image.fromarray(RGB).convert("L")), 100)
    assert read.shape == (30, 40, 3)
    assert (read[..., 0] == read[..., 2]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(tmp_path / f"a{suffix}", image.transpose(undo) if undo is not None else image, exif=exif)
    assert distance(images.read_within(file, 100), RGB) < 5


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_is_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if suffix == ".webp" else {}
    file = saved(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    assert images.problem(file, 1e6) is None
    assert images.read_within(file, 100)[5, 5].tolist() == [255, 0, 0]


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(file, format="PNG")
    assert images.problem(file, 1e6) is None


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_truncated_file_is_noticed(tmp_path: Path, share: float, suffix: str) -> None:
    whole = saved(tmp_path / f"whole{suffix}", Image.fromarray(painting(200, 150))).read_bytes()
    file = tmp_path / f"a{suffix}"
    file.write_bytes(whole[: int(len(whole) * share)])
    assert images.problem(file, 1e6) in ("truncated_or_corrupt", "not_a_picture")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty_file"), (b"not a picture at all", "not_a_picture"), (b"\0" * 5000, "not_a_picture")],
)
def test_what_is_no_picture(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    assert images.problem(file, 1e6) == reason


def test_a_bomb_is_not_decoded(tmp_path: Path) -> None:
    """A PNG of some bytes that declares 30,000×30,000 pixels, 2.7 GB in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))
    assert images.problem(file, 100e6) == "too_many_pixels"


def test_a_file_too_large_for_any_allowed_picture_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    with file.open("wb") as opened:
        opened.truncate(10**12)  # sparse: it takes no room on the disk
    assert images.problem(file, 100e6) == "too_large_a_file"


def test_the_longer_side_is_bounded_and_nothing_is_enlarged(tmp_path: Path) -> None:
    file = write_painting(tmp_path / "a.jpg", 400, 300)
    assert images.read_within(file, 100).shape == (75, 100, 3)
    assert images.read_within(file, 1000).shape == (300, 400, 3)


@pytest.mark.parametrize("size", [(400, 300), (1601, 903), (37, 500)])
def test_squares_are_close_to_those_of_a_whole_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    """Decoding a JPEG at a fraction of its size must not change what is seen."""
    file = write_painting(tmp_path / "a.jpg", *size)
    whole = Image.open(io.BytesIO(file.read_bytes())).resize((64, 64), Image.Resampling.BOX)
    assert distance(images.read_square(file, 64), np.asarray(whole)) < 3


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write_painting(tmp_path / "a.jpg").read_bytes() == write_painting(tmp_path / "b.jpg").read_bytes()


def test_listing_is_sorted_and_names_are_any(tmp_path: Path) -> None:
    for name in ("Zoë/ä b.jpg", "Ana/🎨.jpg", "Ana/1.jpg"):
        write_painting(tmp_path / name)
    assert images.list_images(tmp_path) == ["Ana/1.jpg", "Ana/🎨.jpg", "Zoë/ä b.jpg"]
    assert images.read_square(tmp_path / "Ana/🎨.jpg", 8).shape == (8, 8, 3)


def test_a_file_broken_after_fetch_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(write_painting(tmp_path / "b.jpg").read_bytes()[:200])
    with pytest.raises(UserError, match=r"a\.jpg cannot be decoded"):
        images.read_square(file, 8)
