"""corrections.csv: artists that were corrected by hand."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from redarte.images import folders
from redarte.images.splitting import corrections
from redarte.runtime.errors import UserError
from tests.conftest import write_painting

pytestmark = pytest.mark.usefixtures("one_worker")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, name in enumerate(("Ana/1.jpg", "Ana/2.jpg", "Ben_Ito/1.jpg", "Ben_Ito/3.png", "Cleo/9.jpg")):
        write_painting(tmp_path / "tree" / name, seed=seed)
    return tmp_path / "tree"


@dataclass
class Found:
    images: dict[str, Path]  # after corrections -> in the tree
    metrics: dict[str, Any]


def corrected(tree: Path, table: str | bytes, is_applied: bool = True) -> Found:
    file = tree.parent / "corrections.csv"
    file.write_bytes(table.encode() if isinstance(table, str) else table)
    originals, metrics = corrections.apply(file, corrections.read(file), tree, folders.list_images(tree), is_applied)
    return Found({one.corrected_path: tree / one.raw_path for one in originals if one.corrected_path}, metrics)


def test_actions(tree: Path) -> None:
    table = "image,artist,action,reason\nAna/2,Ben_Ito,relabel,signed\nBen_Ito/3,,exclude,\nCleo/9,,keep,sure\n"
    found = corrected(tree, table)
    assert set(found.images) == {"Ana/1.jpg", "Ben_Ito/2.jpg", "Ben_Ito/1.jpg", "Cleo/9.jpg"}
    assert found.images["Ben_Ito/2.jpg"] == tree / "Ana/2.jpg"
    assert found.metrics == {
        "applied": True, "rows": 3, "rows_without_image": 0, "relabelled": 1, "excluded": 1, "kept": 1,
        "relabelled_names": ["Ana/2 -> Ben_Ito/2"], "excluded_names": ["Ben_Ito/3"],
    }  # fmt: skip


def test_rows_of_another_source_are_counted_where_they_are_not_applied(tree: Path) -> None:
    table = "image,artist,action\nAna/2,Ben_Ito,relabel\nSchool_of_Drips/3,,exclude\n"
    assert corrected(tree, table, is_applied=False).metrics["rows_without_image"] == 1
    with pytest.raises(UserError, match="line 3: School_of_Drips/3 is no image of data/raw"):
        corrected(tree, table)


def test_an_image_gets_a_free_name(tree: Path) -> None:
    found = corrected(tree, "image,artist,action\nAna/1,Ben_Ito,relabel\n")
    assert found.images["Ben_Ito/1-2.jpg"] == tree / "Ana/1.jpg"
    assert found.images["Ben_Ito/1.jpg"] == tree / "Ben_Ito/1.jpg"


def test_a_kept_image_is_not_overwritten(tree: Path) -> None:
    found = corrected(tree, "image,artist,action\nBen_Ito/1,,keep\nAna/1,Ben_Ito,relabel\n")
    assert found.images["Ben_Ito/1.jpg"] == tree / "Ben_Ito/1.jpg"
    assert found.images["Ben_Ito/1-2.jpg"] == tree / "Ana/1.jpg"


@pytest.mark.parametrize("write", [str.lower, str.upper, "{}".format, " {} ".format])
def test_an_image_is_named_by_its_hash_even_after_it_is_renamed(tree: Path, write: Callable[[str], str]) -> None:
    digest = hashlib.blake2b((tree / "Ana/2.jpg").read_bytes(), digest_size=16).hexdigest()
    (tree / "Ana/2.jpg").rename(tree / "Ana/new name.jpg")
    found = corrected(tree, f"image,artist,action\n{write(digest)},Cleo,relabel\n")
    assert found.images["Cleo/new name.jpg"] == tree / "Ana/new name.jpg"


@pytest.mark.parametrize(
    "table",
    [
        "image;artist;action;reason\r\nAna/2;Ben_Ito;relabel;\r\n",
        "\ufeffimage,artist,action,reason\r\nAna/2,Ben_Ito,relabel,\r\n,,,\r\n",
        "image\tartist\taction\treason\nAna/2\tBen_Ito\trelabel\n\n",
        'reason,action,artist,image\n"a, b; c",relabel,Ben_Ito,Ana/2\n',
        " image , artist, action\n Ana/2 , Ben_Ito , relabel \n",
        "sep=;\nimage;artist;action;reason\nAna/2;Ben_Ito;relabel;\n",
        '"sep=,"\r\nimage,artist,action\r\nAna/2,Ben_Ito,relabel\r\n',
        "image,artist,action,reason\rAna/2,Ben_Ito,relabel,\r",
        "image,artist,action,reason,who\nAna/2,Ben_Ito,relabel,,Eva\n",
        "image,artist,action,reason,,\nAna/2,Ben_Ito,relabel,,,\n",
        "image,artist,action\nAna/2,Ben_Ito\u200b,relabel\n",
        "image,artist,action\n\u00adAna/2,\ufeffBen_Ito,relabel\n",
    ],
)
def test_a_spreadsheet_may_have_saved_it(tree: Path, table: str) -> None:
    assert "Ben_Ito/2.jpg" in corrected(tree, table).images


def test_a_table_without_rows_changes_nothing(tree: Path) -> None:
    found = corrected(tree, "image,artist,action,reason\n")
    assert len(found.images) == 5 and found.metrics["rows"] == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("Ana/7,,exclude", "line 2: Ana/7 is no image of data/raw"),
        ("Ana/1,,exclude\nAna/1,,keep", "line 3: Ana/1 is in line 2 too"),
        ("Ana/1,,delete", "line 2: action is 'delete'; use relabel, exclude, keep"),
        ("Ana/1,,relabel", "line 2: relabel needs the new artist"),
        ("Ana/1,ben ito,relabel", "line 2: the artist ben ito is written Ben_Ito elsewhere"),
        ("Ana/1,Zoe,relabel\nAna/2,zoe,relabel", "line 3: the artist zoe is written Zoe elsewhere"),
        ("Ana/1,../Zoe,relabel", "line 2: ../Zoe is no name of an artist"),
        ("Ana/1,..,relabel", "line 2: .. is no name of an artist"),
        ("Ana/1,=Zoe,relabel", "line 2: =Zoe is no name of an artist"),
        (f"Ana/1,{'画' * 100},relabel", "has more than 240 bytes"),
        ("Ana/1,a\u202eb,relabel", "has a control character"),
        ('Ana/1,"Ben ""Ito",relabel', 'line 2: Ben "Ito has a double quote; is another one missing'),
        ("Ana/1,,keep,\u202esigned", "line 2: Ana/1: image or reason has a control character"),
        ("Ana/1,Zoe,keep", "line 2: only relabel has an artist; delete Zoe"),
        ('Ana/1,Cleo,relabel,"signed\nAna/2,,exclude,', "line 2: unexpected end of data; correct the double quotes"),
        ('Ana/1,Cleo,relabel,"signed\nAna/2,,exclude,his hand"', "line 2: a text has several lines; is a double quote"),
        ('Ana/1,Cleo,relabel,"signed" below', "line 2: ',' expected after '\"'; correct the double quotes"),
        ("Ana/1,,keep,signed, lower left, 1889", "line 2: 6 cells for 4 columns; put a text with “,” in double quotes"),
        (
            'Ana/1,Cleo,relabel,"signed\n' + "Ana/2,,exclude,a photograph of a room\n" * 4000,
            "field larger than field limit",
        ),
        ("<<<<<<< HEAD\nAna/1,,keep\n=======\n>>>>>>> other", "merge conflict in"),
    ],
)
def test_a_row_that_cannot_be_applied_is_one_sentence(tree: Path, rows: str, message: str) -> None:
    with pytest.raises(UserError, match=r"corrections\.csv") as caught:
        corrected(tree, f"image,artist,action,reason\n{rows}\n")
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


def test_a_hash_without_images_is_one_sentence(tree: Path) -> None:
    rows = [corrections.Correction(2, "0" * 32, "", "keep")]
    with pytest.raises(
        UserError, match=r"^c\.csv names images by a hash, and nowhere is missing; get it with `dvc pull`"
    ):
        corrections.matched(Path("c.csv"), rows, Path("nowhere"), ["Ana/1.jpg"])


def test_names_as_people_see_them(tmp_path: Path) -> None:
    """macOS copies decomposed names, spreadsheets drop zeros, and folders may have spaces around their names."""
    tree = tmp_path / "tree"
    for seed, name in enumerate(("Joan_Miró/1.jpg", "002/1.jpg", " Eva /1.jpg", "Ben/1.jpg", "Ben/2.jpg")):
        write_painting(tree / name, seed=seed)
    miro = "Joan_Miro\u0301"
    found = corrected(tree, f"image,artist,action\n{miro}/1,Ben,relabel\n Eva /1,,exclude\nBen/1,{miro},relabel\n")
    assert (
        found.images["Ben/1.jpg"] == tree / "Joan_Miró/1.jpg" and found.images["Joan_Miró/1.jpg"] == tree / "Ben/1.jpg"
    )
    assert found.metrics["excluded_names"] == [" Eva /1"]
    found = corrected(tree, "image,artist,action\nEva/1,,exclude\nBen/1, Eva ,relabel\nBen/2,Andre\u0301,relabel\n")
    assert {" Eva /1.jpg", "André/2.jpg"} <= set(found.images), "a new artist is composed, as all others"
    with pytest.raises(UserError, match="line 2: the artist 2 is written 002 elsewhere"):
        corrected(tree, "image,artist,action\nBen/1,2,relabel\n")


def test_a_skipped_image_is_named_with_its_reason(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree.parent)
    (tree.parent / "metrics").mkdir()
    skipped = {"same_image_under_two_artists": ["001/p1.png", "002/twin.png"]}
    (tree.parent / "metrics/fetch.json").write_text(json.dumps({"skipped_names": skipped}))
    with pytest.raises(
        UserError, match=r"fetch skipped 002/twin\.png \(same_image_under_two_artists\); delete the row"
    ):
        corrected(tree, "image,artist,action\n002/twin,,exclude\n")


def test_further_columns_are_written_again(tree: Path) -> None:
    file = tree.parent / "corrections.csv"
    file.write_text('image,who,artist,action,reason\nAna/2,Eva,,keep,"a, b"\n', encoding="utf-8")
    assert corrections.to_csv(corrections.read(file)) == 'image,artist,action,reason,who\nAna/2,,keep,"a, b",Eva\n'
