"""data/resized: uncompressed tar files, one for each artist."""

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from redarte.images import dataset, folders
from redarte.images.dataset import Dataset, shards
from redarte.runtime.errors import UserError
from redarte.stages.resize import write_shard
from tests.conftest import write_painting

NAMES = ["Ana/1.jpg", "Ana/1__zoom.jpg", f"Ana/{'long ' * 30}é.jpg", "Ana/ü.png.jpg"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / "tree/Ana").mkdir(parents=True, exist_ok=True)
        write_painting(tmp_path / "tree" / name, 32, 32, seed=number)
    # The folder "A b" is before "A" if the suffix is compared: a space is before a dot.
    for artist in ("A", "A b"):
        (tmp_path / "tree" / artist).mkdir()
        write_painting(tmp_path / "tree" / artist / "1.jpg", 32, 32, seed=9)
    return tmp_path / "tree"


@pytest.fixture
def packed(tree: Path) -> Path:
    folder = tree.parent / "packed"
    folder.mkdir()
    for artist in tree.iterdir():
        files = sorted(artist.iterdir())
        write_shard(
            shards.path_of(folder, artist.name), ((f"{artist.name}/{file.name}", file.read_bytes()) for file in files)
        )
    return folder


def test_tools_read_the_files(tree: Path, packed: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in packed.iterdir()) == ["A b.tar", "A.tar", "Ana.tar"]
    listed = subprocess.run(
        ["tar", "--quoting-style=literal", "-tf", packed / "Ana.tar"], check=True, capture_output=True, text=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert listed.stdout.splitlines() == sorted(NAMES)
    for shard in packed.iterdir():
        subprocess.run(["tar", "-xf", shard, "-C", tmp_path], check=True)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (tree / name).read_bytes()


def test_equal_images_give_equal_bytes_without_times_and_owners(packed: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    write_shard(again, [(member.name, member.read_bytes()) for member in shards.members(packed / "Ana.tar")])
    assert again.read_bytes() == (packed / "Ana.tar").read_bytes()
    with tarfile.open(again) as tar:
        assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in tar} == {(0, 0, 0, "", "")}


def same(one: Dataset, other: Dataset) -> None:
    assert (one.ids, one.artists, one.side) == (other.ids, other.artists, other.side)
    assert (one.labels == other.labels).all()
    assert one.digest() == other.digest()
    for pixels, same_pixels in zip(one.batches(2), other.batches(2), strict=True):
        assert (pixels == same_pixels).all()


def test_a_dataset_of_tar_files_equals_that_of_the_files(
    tree: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same(dataset.load(packed), dataset.load(tree))
    in_memory = dataset.load(packed)
    assert in_memory.in_memory
    assert in_memory.artists == ["A", "A b", "Ana"]
    monkeypatch.setenv("REDARTE_MEMORY", "0")
    assert not dataset.load(packed).in_memory
    same(dataset.load(packed), in_memory)


def test_copies_can_be_left_out(packed: Path) -> None:
    ids = dataset.load(packed, with_copies=False).ids
    assert "Ana/1" in ids
    assert "Ana/1__zoom" not in ids
    assert len(ids) == len(NAMES) + 1


def cut_at_a_member(content: bytes) -> bytes:
    return content[: content.index(b"Ana/1__zoom.jpg")]


def with_a_corrupt_header(content: bytes) -> bytes:
    return content.replace(b"Ana/1__zoom.jpg", b"Ana/1__zoom.jpx")


@pytest.mark.parametrize(
    "corrupt",
    [cut_at_a_member, with_a_corrupt_header, lambda content: content[:1300], lambda _: b"", lambda _: b"no tar " * 200],
)
def test_a_corrupt_file_is_one_sentence(packed: Path, corrupt: Callable[[bytes], bytes]) -> None:
    """tarfile stops at a corrupt header as if the archive ended there."""
    file = packed / "Ana.tar"
    file.write_bytes(corrupt(file.read_bytes()))
    with pytest.raises(UserError, match=r"Ana\.tar cannot be read \(.*\): run `dvc checkout`") as caught:
        dataset.load(packed)
    assert "\n" not in str(caught.value)


def test_an_image_that_cannot_be_decoded_is_named(packed: Path) -> None:
    write_shard(packed / "Ana.tar", [("Ana/1.jpg", b"no image")])
    with pytest.raises(UserError, match=r"packed/Ana\.tar:Ana/1\.jpg cannot be decoded"):
        dataset.load(packed, side=32)


def test_writing_streams(tmp_path: Path) -> None:
    """The images of an artist need not fit in memory."""
    asked: list[int] = []

    def images() -> "list[tuple[str, bytes]]":
        return [(f"Ana/{number}.jpg", np.full(100, number, np.uint8).tobytes()) for number in asked]

    asked += range(3)
    write_shard(tmp_path / "Ana.tar", iter(images()))
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "Ana.tar").read_bytes())) as tar:
        assert [tar.extractfile(one).read()[0] for one in tar] == [0, 1, 2]  # type: ignore[union-attr]


def test_an_image_of_a_tree_is_found_by_its_identity(tmp_path: Path) -> None:
    write_painting(tmp_path / "Ana/1.5 [a].png", 8, 8)
    assert folders.find(tmp_path, "Ana/1.5 [a]") == tmp_path / "Ana/1.5 [a].png"
    assert folders.find(tmp_path, "Ana/1") is None
    assert folders.find(tmp_path, "Bente/1") is None
