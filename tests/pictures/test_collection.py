import os
import shutil
from pathlib import Path

import pytest

from redarte.pictures import collection
from redarte.pictures.collection import Collection
from redarte.runtime.errors import UserError
from tests.conftest import write_painting

pytestmark = pytest.mark.usefixtures("one_worker")


def paint(tree: Path, *names: str) -> None:
    """Different pictures under the given names."""
    for seed, name in enumerate(names):
        write_painting(tree / name, seed=seed)


def collect(tree: Path) -> Collection:
    return collection.collect(tree, 1e6)


def test_a_folder_for_each_artist(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ana/2.jpg", "Ben/1.jpg")
    found = collect(tmp_path)
    assert found.artists() == {"Ana": 2, "Ben": 1}
    assert not found.set_aside


def test_folders_that_only_wrap_are_passed_through(tmp_path: Path) -> None:
    paint(tmp_path, "data/paintings/Ana/1.jpg", "data/paintings/Ben/1.jpg")
    assert set(collect(tmp_path).pictures) == {"Ana/1.jpg", "Ben/1.jpg"}


def test_folders_inside_an_artists_folder_are_the_artists(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/early/1.jpg", "Ana/late/1.jpg", "Ana/2.jpg", "Ben/1.jpg")
    found = collect(tmp_path)
    assert set(found.pictures) == {"Ana/1.jpg", "Ana/1-2.jpg", "Ana/2.jpg", "Ben/1.jpg"}


def test_the_studys_layout_and_its_second_durer_folder(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_text("id,name\n0,Albrecht Dürer\n1,Vincent van Gogh\n", encoding="utf-8")
    paint(
        tmp_path,
        "images/images/Albrecht_Dürer/Albrecht_Dürer_1.jpg",
        "images/images/Albrecht_DuΓòá├¬rer/Albrecht_DuΓòá├¬rer_1.jpg",
        "images/images/Albrecht_DuΓòá├¬rer/Albrecht_DuΓòá├¬rer_2.jpg",
        "images/images/Vincent_van_Gogh/Vincent_van_Gogh_1.jpg",
        "resized/resized/Vincent_van_Gogh_1.jpg",
    )
    found = collect(tmp_path)
    assert set(found.artists()) == {"Albrecht_Dürer", "Vincent_van_Gogh"}
    metrics = found.metrics()
    assert metrics["set_aside"] == {"files": 3, "not_in_artists_csv": 3}
    assert metrics["set_aside_names"] == {
        "not_in_artists_csv": ["images/images/Albrecht_DuΓòá├¬rer (2)", "resized/resized (1)"]
    }


def test_the_same_name_in_two_unicode_forms_is_one_artist(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_text("name\nAlbrecht Dürer\nBen\n", encoding="utf-8")
    paint(tmp_path, "images/Albrecht_Du\u0308rer/1.jpg", "images/Ben/1.jpg")
    assert set(collect(tmp_path).artists()) == {"Albrecht_D\u00fcrer", "Ben"}


def test_an_artist_of_the_list_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_text("name\nAna\nBen\nCleo\n", encoding="utf-8")
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    assert collect(tmp_path).without_pictures == ["Cleo"]


def test_an_empty_artists_folder_is_named(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    (tmp_path / "Cleo").mkdir()
    assert collect(tmp_path).without_pictures == ["Cleo"]


def test_an_artist_whose_every_file_is_broken_is_named(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    (tmp_path / "Cleo").mkdir()
    (tmp_path / "Cleo" / "1.jpg").write_bytes(b"")
    found = collect(tmp_path)
    assert found.without_pictures == ["Cleo"]
    assert found.set_aside == {"empty_file": ["Cleo/1.jpg"]}


def test_a_file_larger_than_any_memory_is_set_aside_unread(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    with (tmp_path / "Ana/2.jpg").open("wb") as file:
        file.truncate(10**12)
    assert collect(tmp_path).set_aside == {"too_large_a_file": ["Ana/2.jpg"]}


def test_a_list_without_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_text("painter\nAna\n", encoding="utf-8")
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    with pytest.raises(UserError, match=r"artists\.csv must be a UTF-8 table with a column `name`"):
        collect(tmp_path)


def test_artists_that_some_disks_take_for_one_are_refused(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "ana/2.jpg", "Ben/1.jpg")
    with pytest.raises(UserError, match=r"nothing but capitals \(Ana, ana\)"):
        collect(tmp_path)


def test_the_same_picture_twice_of_one_artist_is_kept_once(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    shutil.copy(tmp_path / "Ana/1.jpg", tmp_path / "Ana/9.jpg")
    found = collect(tmp_path)
    assert set(found.pictures) == {"Ana/1.jpg", "Ben/1.jpg"}
    assert found.set_aside == {"duplicate": ["Ana/9.jpg"]}


def test_the_same_picture_of_two_artists_is_nobodys(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ana/2.jpg", "Ben/1.jpg")
    shutil.copy(tmp_path / "Ana/1.jpg", tmp_path / "Ben/9.jpg")
    found = collect(tmp_path)
    assert set(found.pictures) == {"Ana/2.jpg", "Ben/1.jpg"}
    assert found.set_aside == {"same_picture_under_two_artists": ["Ana/1.jpg", "Ben/9.jpg"]}


def test_every_other_file_is_counted_and_litter_is_not(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg", "loose.jpg")
    for name in ("Ana/notes.txt", ".DS_Store", "__MACOSX/Ana/._1.jpg", "Ana/Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "Ana/link.jpg").symlink_to(tmp_path / "loose.jpg")
    os.mkfifo(tmp_path / "Ana/pipe.jpg")
    assert collect(tmp_path).set_aside == {
        "not_a_picture_file": ["Ana/notes.txt"],
        "not_a_regular_file": ["Ana/pipe.jpg"],
        "outside_any_artist": ["loose.jpg"],
        "symbolic_link": ["Ana/link.jpg"],
    }


def test_a_name_that_is_not_utf8_is_set_aside(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    shutil.copy(os.fsencode(tmp_path / "Ana/1.jpg"), os.fsencode(tmp_path) + b"/Ana/\xff.jpg")
    assert collect(tmp_path).set_aside == {"name_not_utf8": ["Ana/\\udcff.jpg"]}


def test_names_stay_what_they_are_but_for_what_would_collide_later(tmp_path: Path) -> None:
    names = ["Ana/a b.JPG", "Ana/é🎨.jpeg", "Ana/x.jpg", "Ana/x.png", "Ana/X.jpg", "Ana/y__zoom.jpg", "Ben/1.jpg"]
    paint(tmp_path, *names)
    found = set(collect(tmp_path).pictures)
    assert {"Ana/a b.jpg", "Ana/é🎨.jpeg", "Ana/y_zoom.jpg", "Ben/1.jpg"} < found
    stems = [name.rpartition(".")[0].casefold() for name in found]
    assert len(set(stems)) == len(names)


def test_a_name_of_255_bytes_leaves_room_for_its_copies(tmp_path: Path) -> None:
    paint(tmp_path, f"Ana/{'é' * 125}.jpg", f"Ana/{'é' * 124}.jpg", "Ben/1.jpg")
    found = collect(tmp_path)
    assert len(found.pictures) == 3
    assert all(len(name.encode()) < 200 for name in found.pictures)


def test_a_tree_that_is_already_split_is_refused(tmp_path: Path) -> None:
    paint(tmp_path, "set/train/Ana/1.jpg", "set/train/Ben/1.jpg", "set/test/Ana/2.jpg")
    with pytest.raises(UserError, match="already split"):
        collect(tmp_path)


@pytest.mark.parametrize("names", [[], ["Ana/1.jpg"], ["1.jpg", "2.jpg"]])
def test_fewer_than_two_artists_are_refused(tmp_path: Path, names: list[str]) -> None:
    paint(tmp_path, *names)
    with pytest.raises(UserError, match="needs at least two"):
        collect(tmp_path)


def test_place_copies_or_moves_the_bytes(tmp_path: Path) -> None:
    tree, raw = tmp_path / "tree", tmp_path / "raw"
    paint(tree, "Ana/1.JPG", "Ben/1.jpg")
    before = (tree / "Ana/1.JPG").read_bytes()
    found = collect(tree)
    raw.mkdir()
    collection.place(found, raw, move=False)
    assert (raw / "Ana/1.jpg").read_bytes() == before
    assert (tree / "Ana/1.JPG").exists()
    shutil.rmtree(raw)
    raw.mkdir()
    collection.place(found, raw, move=True)
    assert (raw / "Ana/1.jpg").read_bytes() == before
    assert not (tree / "Ana/1.JPG").exists()
