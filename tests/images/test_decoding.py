import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from redarte.images import decoding, folders
from redarte.ingestion import checks
from redarte.runtime.errors import UserError
from tests.conftest import painting, write_painting
from tests.images import profiles

RGB = painting()


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def problem(file: Path, max_pixels: float) -> str | None:
    data = checks.read_content(file, max_pixels)
    return "too_large_a_file" if data is None else checks.problem(data, max_pixels)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_an_ordinary_jpeg(tmp_path: Path) -> None:
    file = write_painting(tmp_path / "a.jpg")
    assert problem(file, 1e6) is None
    assert distance(decoding.read_within(file, 100), RGB) < 3


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.jpg", Image.fromarray(RGB).convert("CMYK"), quality=95)
    assert problem(file, 1e6) is None
    assert distance(decoding.read_within(file, 100), RGB) < 4


def test_a_16_bit_png_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 30 * 40).reshape(30, 40).astype(np.uint16)
    file = saved(tmp_path / "a.png", Image.fromarray(grey))
    read = decoding.read_within(file, 100)
    assert distance(read[..., 0], (grey / 257).round()) < 1


def test_transparency_becomes_white(tmp_path: Path) -> None:
    alpha = np.zeros((30, 40, 1), np.uint8)
    alpha[:, 20:] = 255
    read = decoding.read_within(saved(tmp_path / "a.png", Image.fromarray(np.dstack([RGB, alpha]))), 100)
    assert (read[:, :20] == 255).all()
    assert distance(read[:, 20:], RGB[:, 20:]) == 0


def test_a_palette_with_transparency_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((0, 0), 0)
    read = decoding.read_within(saved(tmp_path / "a.png", image, transparency=0), 100)
    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[1, 1].tolist() == [200, 10, 10]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_grey_has_three_equal_channels(tmp_path: Path, suffix: str) -> None:
    read = decoding.read_within(saved(tmp_path / f"a{suffix}", Image.fromarray(RGB).convert("L")), 100)
    assert read.shape == (30, 40, 3)
    assert (read[..., 0] == read[..., 2]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(tmp_path / f"a{suffix}", image.transpose(undo) if undo is not None else image, exif=exif)
    assert distance(decoding.read_within(file, 100), RGB) < 5


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_is_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if suffix == ".webp" else {}
    file = saved(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    assert problem(file, 1e6) is None
    assert decoding.read_within(file, 100)[5, 5].tolist() == [255, 0, 0]


def test_the_format_is_detected_by_content(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(file, format="PNG")
    assert problem(file, 1e6) is None


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_truncated_file_is_detected(tmp_path: Path, share: float, suffix: str) -> None:
    whole = saved(tmp_path / f"whole{suffix}", Image.fromarray(painting(200, 150))).read_bytes()
    file = tmp_path / f"a{suffix}"
    file.write_bytes(whole[: int(len(whole) * share)])
    assert problem(file, 1e6) in ("truncated_or_corrupt", "not_an_image")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty_file"), (b"not an image at all", "not_an_image"), (b"\0" * 5000, "not_an_image")],
)
def test_files_that_are_not_images(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    assert problem(file, 1e6) == reason


def test_a_bomb_is_not_decoded(tmp_path: Path) -> None:
    """A PNG of some bytes that declares 30,000×30,000 pixels, 2.7 GB in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))
    assert problem(file, 100e6) == "too_many_pixels"


def test_a_file_too_large_for_any_allowed_image_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    with file.open("wb") as opened:
        opened.truncate(10**12)  # sparse: it needs no disk space
    assert problem(file, 100e6) == "too_large_a_file"


def test_the_longer_side_is_limited_and_nothing_is_enlarged(tmp_path: Path) -> None:
    file = write_painting(tmp_path / "a.jpg", 400, 300)
    assert decoding.read_within(file, 100).shape == (75, 100, 3)
    assert decoding.read_within(file, 1000).shape == (300, 400, 3)


@pytest.mark.parametrize("size", [(400, 300), (1601, 903), (37, 500)])
def test_reduced_decoding_is_close_to_full_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    """Decoding a JPEG at a fraction of its size must hardly change the pixels."""
    file = write_painting(tmp_path / "a.jpg", *size)
    whole = Image.open(io.BytesIO(file.read_bytes())).resize((64, 64), Image.Resampling.BOX)
    assert distance(decoding.read_resized(file, 64), np.asarray(whole)) < 3


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write_painting(tmp_path / "a.jpg").read_bytes() == write_painting(tmp_path / "b.jpg").read_bytes()


def test_listing_is_sorted(tmp_path: Path) -> None:
    for name in ("Zoë/ä b.jpg", "Ana/🎨.jpg", "Ana/1.jpg"):
        write_painting(tmp_path / name)
    assert folders.list_images(tmp_path) == ["Ana/1.jpg", "Ana/🎨.jpg", "Zoë/ä b.jpg"]
    assert decoding.read_resized(tmp_path / "Ana/🎨.jpg", 8).shape == (8, 8, 3)


def test_a_file_corrupted_after_fetch_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(write_painting(tmp_path / "b.jpg").read_bytes()[:200])
    with pytest.raises(UserError, match=r"a\.jpg cannot be decoded"):
        decoding.read_resized(file, 8)


def in_quarters(*colours: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    """Four flat quarters of 32 px, row by row."""
    image = Image.new(mode, (64, 64))
    for index, colour in enumerate(colours):
        image.paste(
            colour if len(colour) > 1 else colour[0],
            (32 * (index % 2), 32 * (index // 2), 32 * (index % 2) + 32, 32 * (index // 2) + 32),
        )
    return image


def quarters(pixels: np.ndarray) -> np.ndarray:
    return pixels[[16, 16, 48, 48], [16, 48, 16, 48]].astype(int)


COLOURS = ((200, 120, 60), (60, 160, 90), (80, 60, 180), (128, 128, 128))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("gamma", [2.2, 1.8])
def test_a_colour_profile_is_applied(tmp_path: Path, suffix: str, gamma: float) -> None:
    options = (
        {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}
    )
    profile = profiles.rgb(profiles.P3, gamma)
    file = saved(tmp_path / f"a{suffix}", in_quarters(*COLOURS), icc_profile=profile, **options)
    right = profiles.in_srgb(np.array(COLOURS), profiles.P3, gamma)
    assert np.abs(right - COLOURS).max() > 10
    assert problem(file, 1e6) is None
    for read in (decoding.read_within(file, 100), checks.read_resized(file, 64, 1e6), decoding.read_resized(file, 64)):
        assert np.abs(quarters(read) - right).max() <= (4 if suffix == ".jpg" else 2)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_grey_profile_is_applied(tmp_path: Path, suffix: str) -> None:
    greys = (20, 90, 150, 230)
    image = in_quarters(*[(grey,) for grey in greys], mode="L")
    file = saved(
        tmp_path / f"a{suffix}", image, icc_profile=profiles.grey(1.0), **({"quality": 100} if suffix == ".jpg" else {})
    )
    right = profiles.encoded(np.array(greys) / 255)
    assert np.abs(quarters(decoding.read_within(file, 100)) - right[:, None]).max() <= 2


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_a_cmyk_profile_is_applied(tmp_path: Path, suffix: str) -> None:
    image = in_quarters((10, 20, 30, 0), (200, 0, 0, 0), (0, 0, 0, 255), (0, 0, 90, 0), mode="CMYK")
    file = saved(tmp_path / f"a{suffix}", image, icc_profile=profiles.cmyk(128))
    # L* of 50.2 is 18.6 % of the light (CIE 1976), which sRGB writes as 119.
    right = np.array([119, 119, 0, 119])
    assert np.abs(quarters(decoding.read_within(file, 100)) - right[:, None]).max() <= 3


def test_transparency_and_a_profile_together(tmp_path: Path) -> None:
    image = in_quarters(*COLOURS)
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:32, :32] = 0
    image.putalpha(Image.fromarray(alpha))
    file = saved(tmp_path / "a.png", image, icc_profile=profiles.rgb(profiles.P3, 2.2))
    right = profiles.in_srgb(np.array(COLOURS), profiles.P3, 2.2)
    right[0] = 255
    assert np.abs(quarters(decoding.read_within(file, 100)) - right).max() <= 2


@pytest.mark.parametrize(
    "profile",
    [b"no profile", profiles.rgb(profiles.P3, 2.2)[:300], profiles.grey(1.0), profiles.cmyk(9)],
    ids=["none", "cut", "of grey", "of inks"],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_broken_profile_is_ignored_and_reported(tmp_path: Path, suffix: str, profile: bytes) -> None:
    plain = saved(tmp_path / f"plain{suffix}", Image.fromarray(RGB))
    file = saved(tmp_path / f"a{suffix}", Image.fromarray(RGB), icc_profile=profile)
    assert problem(file, 1e6) is None
    assert (decoding.read_within(file, 100) == decoding.read_within(plain, 100)).all()
    assert decoding.has_broken_profile(file.read_bytes()) and not decoding.has_broken_profile(plain.read_bytes())


def test_an_srgb_profile_changes_no_pixel(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, file = (
        saved(tmp_path / f"{name}.jpg", Image.fromarray(RGB), icc_profile=own)
        for name, own in (("plain", None), ("a", profile))
    )
    assert (decoding.read_within(file, 100) == decoding.read_within(plain, 100)).all()
    assert not decoding.has_broken_profile(file.read_bytes())


def with_segment(jpeg: bytes, content: bytes) -> bytes:
    """A JPEG with a segment APP1 at its front."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def exif(kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    """EXIF with nothing but an orientation, of any type."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    return b"Exif\0\0" + head + struct.pack(f"{order}HHI4sI", 0x0112, kind, count, value, 0)


XMP = (
    b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
    b'rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF>'
    b"</x:xmpmeta>"
)


@pytest.mark.parametrize(
    ("segment", "turned"),
    [
        (exif(3, 1, b"\x06\0\0\0"), True),
        (exif(3, 1, b"\0\x06\0\0", ">"), True),
        (XMP, False),
        (exif(2, 2, b"6\0\0\0"), False),  # ASCII
        (exif(1, 1, b"\x06\0\0\0"), False),  # BYTE
        (exif(4, 1, b"\x06\0\0\0"), False),  # LONG
        (exif(3, 2, b"\x06\0\x06\0"), False),  # two of them
        (exif(3, 1, b"\x09\0\0\0"), False),
        (exif(12, 1, b"\x10\0\0\0"), False),  # DOUBLE, elsewhere
        (b"Exif\0\0II*\0\xff\xff\xff\xff", False),
        (b"Exif\0\0nothing of the kind", False),
        (b"Exif\0\0", False),
    ],
    ids=["short", "big-endian", "xmp", "ascii", "byte", "long", "two", "nine", "double", "astray", "nonsense", "empty"],
)
def test_invalid_orientations_are_ignored_by_both_decoders(tmp_path: Path, segment: bytes, turned: bool) -> None:
    """As browsers show it; the right colours are those of the quarters as they are stored, or turned by hand."""
    stored = in_quarters((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)).resize(
        (96, 64), Image.Resampling.NEAREST
    )
    file = saved(tmp_path / "a.jpg", stored, quality=95, subsampling=0)
    file.write_bytes(with_segment(file.read_bytes(), segment))
    right = np.asarray(stored)
    right = np.rot90(right, -1) if turned else right
    assert problem(file, 1e6) is None
    assert distance(decoding.read_within(file, 1000), right) < 3
    small = decoding.read_within(file, 48)
    assert small.shape == ((48, 32, 3) if turned else (32, 48, 3))
    with decoding.opened(file.read_bytes()) as image:
        assert distance(decoding._decode_other(image, file.read_bytes(), None), right) < 3


def test_the_xmp_of_a_tiff_is_ignored(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.tif", Image.fromarray(RGB), tiffinfo={700: XMP.partition(b"\0")[2]})
    assert (decoding.read_within(file, 100) == RGB).all()


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".jpe"])
def test_other_suffixes(tmp_path: Path, suffix: str) -> None:
    options = {"format": "AVIF" if suffix == ".avif" else "JPEG", "quality": 95}
    file = saved(tmp_path / f"a{suffix}", Image.fromarray(RGB), **options)
    assert problem(file, 1e6) is None
    assert distance(decoding.read_within(file, 100), RGB) < 4


def test_the_orientation_of_an_avif_is_applied(tmp_path: Path) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6
    image = Image.fromarray(RGB).transpose(Image.Transpose.ROTATE_90)
    file = saved(tmp_path / "a.avif", image, quality=95, exif=orientation)
    assert distance(decoding.read_within(file, 100), RGB) < 5


def test_heic_is_read_with_pillow_heif(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = tmp_path / "a.heic"
    pillow_heif.from_pillow(Image.fromarray(RGB)).save(file, quality=95)
    assert problem(file, 1e6) is None
    assert distance(decoding.read_within(file, 100), RGB) < 5


def test_heic_without_pillow_heif_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.heic"
    file.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setattr(decoding, "HEIC", False)
    assert problem(file, 1e6) == "heic_without_pillow_heif"
    with pytest.raises(UserError, match="needs another package: python -m pip install pillow-heif"):
        checks.read_resized(file, 32, 1e6)


def test_a_compressed_tiff_without_imagecodecs_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 40, 3)).astype(np.uint16)
    tifffile.imwrite(file, pixels, compression="lzw", photometric="rgb")
    assert problem(file, 1e6) is None
    program = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from pathlib import Path\nfrom redarte.ingestion import checks\nfile = Path(sys.argv[1])\n"
        "print(checks.problem(file.read_bytes(), 1e6))\nchecks.read_resized(file, 32, 1e6)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True)
    assert done.stdout == "tiff_without_imagecodecs\n"
    assert "UserError: is a TIFF that needs another package: python -m pip install imagecodecs" in done.stderr


@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_samples_are_reported(tmp_path: Path, channels: int) -> None:
    file = tmp_path / "a.tif"
    done, data = cv2.imencode(".tif", np.linspace(0, 1, 16 * 16 * channels, dtype=np.float32).reshape(16, 16, channels))
    assert done
    file.write_bytes(data.tobytes())
    assert problem(file, 1e6) == "floating_point_samples"
    with pytest.raises(UserError, match="has floating-point samples"):
        checks.read_resized(file, 32, 1e6)


def test_the_preview_of_a_raw_file_is_not_used(tmp_path: Path) -> None:
    """NEF, DNG and ARW are TIFF files whose first image is a reduced one (TIFF 6.0: NewSubfileType, 254)."""
    file = saved(tmp_path / "a.nef", Image.fromarray(RGB), format="TIFF", tiffinfo={254: 1})
    assert problem(file, 1e6) == "raw_file_of_a_camera"
    assert problem(saved(tmp_path / "b.tif", Image.fromarray(RGB), tiffinfo={254: 0}), 1e6) is None
