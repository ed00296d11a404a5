"""corrections.csv: artists that were corrected by hand."""

import hashlib
from pathlib import Path

import pytest

from redarte.images import collection
from redarte.images.collection import Collection
from redarte.runtime.errors import UserError
from tests.conftest import write_painting

pytestmark = pytest.mark.usefixtures("one_worker")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, name in enumerate(("Ana/1.jpg", "Ana/2.jpg", "Ben_Ito/1.jpg", "Ben_Ito/3.png", "Cleo/9.jpg")):
        write_painting(tmp_path / "tree" / name, seed=seed)
    return tmp_path / "tree"


def corrected(tree: Path, table: str | bytes) -> Collection:
    file = tree.parent / "corrections.csv"
    file.write_bytes(table.encode() if isinstance(table, str) else table)
    return collection.find_images(tree, 1e6, corrections_file=file)


def test_actions(tree: Path) -> None:
    table = "image,artist,action,reason\nAna/2,Ben_Ito,relabel,signed\nBen_Ito/3,,exclude,\nCleo/9,,keep,sure\n"
    found = corrected(tree, table)
    assert set(found.images) == {"Ana/1.jpg", "Ben_Ito/2.jpg", "Ben_Ito/1.jpg", "Cleo/9.jpg"}
    assert found.images["Ben_Ito/2.jpg"] == tree / "Ana/2.jpg"
    assert found.metrics()["corrections"] == {
        "applied": True, "relabelled": 1, "excluded": 1, "kept": 1,
        "relabelled_names": ["Ana/2 -> Ben_Ito/2"], "excluded_names": ["Ben_Ito/3"],
    }  # fmt: skip


def test_an_image_gets_a_free_name(tree: Path) -> None:
    found = corrected(tree, "image,artist,action\nAna/1,Ben_Ito,relabel\n")
    assert found.images["Ben_Ito/1-2.jpg"] == tree / "Ana/1.jpg"
    assert found.images["Ben_Ito/1.jpg"] == tree / "Ben_Ito/1.jpg"


def test_a_kept_image_is_not_overwritten(tree: Path) -> None:
    found = corrected(tree, "image,artist,action\nBen_Ito/1,,keep\nAna/1,Ben_Ito,relabel\n")
    assert found.images["Ben_Ito/1.jpg"] == tree / "Ben_Ito/1.jpg"
    assert found.images["Ben_Ito/1-2.jpg"] == tree / "Ana/1.jpg"


def test_an_image_is_named_by_its_hash_even_after_it_is_renamed(tree: Path) -> None:
    digest = hashlib.blake2b((tree / "Ana/2.jpg").read_bytes(), digest_size=16).hexdigest()
    (tree / "Ana/2.jpg").rename(tree / "Ana/new name.jpg")
    found = corrected(tree, f"image,artist,action\n{digest},Cleo,relabel\n")
    assert found.images["Cleo/new name.jpg"] == tree / "Ana/new name.jpg"


@pytest.mark.parametrize(
    "table",
    [
        "image;artist;action;reason\r\nAna/2;Ben_Ito;relabel;\r\n",
        "\ufeffimage,artist,action,reason\r\nAna/2,Ben_Ito,relabel,\r\n,,,\r\n",
        "image\tartist\taction\treason\nAna/2\tBen_Ito\trelabel\n\n",
        'reason,action,artist,image\n"a, b; c",relabel,Ben_Ito,Ana/2\n',
        " image , artist, action\n Ana/2 , Ben_Ito , relabel \n",
    ],
)
def test_a_spreadsheet_may_have_saved_it(tree: Path, table: str) -> None:
    assert "Ben_Ito/2.jpg" in corrected(tree, table).images


def test_a_table_without_rows_changes_nothing(tree: Path) -> None:
    found = corrected(tree, "image,artist,action,reason\n")
    assert len(found.images) == 5
    assert "corrections" not in found.metrics()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("Ana/7,,exclude", "line 2: Ana/7 is no image of the source"),
        ("Ana/1,,exclude\nAna/1,,keep", "line 3: Ana/1 is in line 2 too"),
        ("Ana/1,,delete", "line 2: action is 'delete'; use relabel, exclude, keep"),
        ("Ana/1,,relabel", "line 2: relabel needs the new artist"),
        ("Ana/1,ben ito,relabel", "line 2: the artist ben ito is written Ben_Ito elsewhere"),
        ("Ana/1,Zoe,relabel\nAna/2,zoe,relabel", "line 3: the artist zoe is written Zoe elsewhere"),
        ("Ana/1,../Zoe,relabel", "line 2: ../Zoe is no name of an artist"),
    ],
)
def test_a_row_that_cannot_be_applied_is_one_sentence(tree: Path, rows: str, message: str) -> None:
    with pytest.raises(UserError, match=r"corrections\.csv, ") as caught:
        corrected(tree, f"image,artist,action\n{rows}\n")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has the columns none"),
        (b"name,artist\n", "has the columns name, artist; use image, artist, action, reason"),
        ("image,artist,action\nAna/é,,keep\n".encode("latin-1"), "is not in UTF-8"),
        ("image,artist,action\n".encode("utf-16"), "is not in UTF-8"),
    ],
)
def test_another_file_is_one_sentence(tree: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=r"corrections\.csv") as caught:
        corrected(tree, content)
    assert message in str(caught.value)


def test_two_rows_for_one_image_by_name_and_hash(tree: Path) -> None:
    digest = hashlib.blake2b((tree / "Ana/2.jpg").read_bytes(), digest_size=16).hexdigest()
    with pytest.raises(UserError, match=r"line 3: .* is the image of line 2"):
        corrected(tree, f"image,artist,action\nAna/2,,exclude\n{digest},,keep\n")
