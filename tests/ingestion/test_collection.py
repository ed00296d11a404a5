import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from redarte.ingestion import collection
from redarte.ingestion.collection import Collection
from redarte.runtime.errors import UserError
from tests import users
from tests.conftest import painting, write_painting

pytestmark = pytest.mark.usefixtures("one_worker")


def paint(tree: Path, *names: str) -> None:
    """Different images under the given names."""
    for seed, name in enumerate(names):
        write_painting(tree / name, seed=seed)


def collect(tree: Path) -> Collection:
    return collection.find_images(tree, 1e6)


def test_a_folder_for_each_artist(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ana/2.jpg", "Ben/1.jpg")
    found = collect(tmp_path)
    assert found.artists() == {"Ana": 2, "Ben": 1}
    assert not found.skipped


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_an_artists_name_is_not_a_spreadsheet_formula(tmp_path: Path, sign: str) -> None:
    paint(tmp_path, f"{sign}Ana/1.jpg", "Ben/1.jpg")
    assert set(collect(tmp_path).images) == {f"_{sign}Ana/1.jpg", "Ben/1.jpg"}


def test_wrapping_folders_are_skipped(tmp_path: Path) -> None:
    paint(tmp_path, "data/paintings/Ana/1.jpg", "data/paintings/Ben/1.jpg")
    assert set(collect(tmp_path).images) == {"Ana/1.jpg", "Ben/1.jpg"}


def test_folders_inside_an_artists_folder_are_the_artists(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/early/1.jpg", "Ana/late/1.jpg", "Ana/2.jpg", "Ben/1.jpg")
    found = collect(tmp_path)
    assert set(found.images) == {"Ana/1.jpg", "Ana/1-2.jpg", "Ana/2.jpg", "Ben/1.jpg"}


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
    assert metrics["skipped"] == {"files": 3, "not_in_artists_csv": 3}
    assert metrics["skipped_names"] == {
        "not_in_artists_csv": ["images/images/Albrecht_DuΓòá├¬rer (2)", "resized/resized (1)"]
    }


def test_a_file_beside_the_artists_folders_is_named(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg", "cover.jpg", "extras/deep/er/2.jpg")
    (tmp_path / "artists.csv").write_text("name\nAna\nBen\n", encoding="utf-8")
    assert collect(tmp_path).metrics()["skipped_names"] == {"not_in_artists_csv": ["extras/deep/er (1)", "cover.jpg"]}


def test_the_same_name_in_two_unicode_forms_is_one_artist(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_text("name\nAlbrecht Dürer\nBen\n", encoding="utf-8")
    paint(tmp_path, "images/Albrecht_Du\u0308rer/1.jpg", "images/Ben/1.jpg")
    assert set(collect(tmp_path).artists()) == {"Albrecht_D\u00fcrer", "Ben"}


def test_an_artist_of_the_list_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_text("name\nAna\nBen\nCleo\n", encoding="utf-8")
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    assert collect(tmp_path).without_images == ["Cleo"]


def test_an_empty_artists_folder_is_named(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    (tmp_path / "Cleo").mkdir()
    assert collect(tmp_path).without_images == ["Cleo"]


def test_an_artist_with_only_corrupt_files_is_named(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    (tmp_path / "Cleo").mkdir()
    (tmp_path / "Cleo" / "1.jpg").write_bytes(b"")
    found = collect(tmp_path)
    assert found.without_images == ["Cleo"]
    assert found.skipped == {"empty_file": ["Cleo/1.jpg"]}


def test_a_huge_file_is_skipped_without_being_read(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    with (tmp_path / "Ana/2.jpg").open("wb") as file:
        file.truncate(10**12)
    assert collect(tmp_path).skipped == {"too_large_a_file": ["Ana/2.jpg"]}


def test_a_list_without_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "artists.csv").write_text("painter\nAna\n", encoding="utf-8")
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    with pytest.raises(UserError, match=r"artists\.csv must be a UTF-8 table with a column `name`"):
        collect(tmp_path)


def test_artists_that_are_equal_on_some_file_systems_are_refused(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "ana/2.jpg", "Ben/1.jpg")
    with pytest.raises(UserError, match=r"only in spaces, capitals, leading zeros or Unicode form \('Ana' and 'ana'\)"):
        collect(tmp_path)


@pytest.mark.parametrize("other", ["Joan_Miró", "joan miró", "Joan  Miró", "Joan Miró ", "Ｊoan Miró"])
def test_artists_with_several_spellings_are_refused(tmp_path: Path, other: str) -> None:
    paint(tmp_path, "Joan Miró/1.jpg", f"{other}/2.jpg", "Ben/1.jpg")
    with pytest.raises(UserError, match=rf"'Joan Miró' and '{other}'|'{other}' and 'Joan Miró'"):
        collect(tmp_path)


def test_unicode_forms_of_one_name_are_merged(tmp_path: Path) -> None:
    paint(tmp_path, "Joan Miró/1.jpg", "Joan Miro\u0301/2.jpg", "Ben/1.jpg")
    assert collect(tmp_path).artists() == {"Joan Miró": 2, "Ben": 1}


def test_a_duplicate_image_is_kept_once(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    shutil.copy(tmp_path / "Ana/1.jpg", tmp_path / "Ana/9.jpg")
    found = collect(tmp_path)
    assert set(found.images) == {"Ana/1.jpg", "Ben/1.jpg"}
    assert found.skipped == {"duplicate": ["Ana/9.jpg"]}


def test_the_same_image_of_two_artists_is_skipped(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ana/2.jpg", "Ben/1.jpg")
    shutil.copy(tmp_path / "Ana/1.jpg", tmp_path / "Ben/9.jpg")
    found = collect(tmp_path)
    assert set(found.images) == {"Ana/2.jpg", "Ben/1.jpg"}
    assert found.skipped == {"same_image_under_two_artists": ["Ana/1.jpg", "Ben/9.jpg"]}


def test_every_other_file_is_counted_and_system_files_are_not(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg", "loose.jpg")
    for name in ("Ana/notes.txt", ".DS_Store", "__MACOSX/Ana/._1.jpg", "Ana/Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "Ana/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "Ana/round.jpg").symlink_to("round.jpg")
    (tmp_path / "Ana/up").symlink_to("..")
    os.mkfifo(tmp_path / "Ana/pipe.jpg")
    assert collect(tmp_path).skipped == {
        "broken_link": ["Ana/gone.jpg", "Ana/round.jpg"],
        "link_to_folder": ["Ana/up"],
        "not_an_image_file": ["Ana/notes.txt"],
        "not_a_regular_file": ["Ana/pipe.jpg"],
        "outside_any_artist": ["loose.jpg"],
    }


def test_links_to_images_are_images(tmp_path: Path) -> None:
    """As in the caches of Hugging Face and in workspaces of DVC with cache.type symlink."""
    tree, blobs, raw = tmp_path / "tree", tmp_path / "blobs", tmp_path / "raw"
    paint(blobs, "one", "two", "three")
    for name, blob in {"Ana/1.jpg": "one", "Ana/2.jpg": "two", "Ben/1.jpg": "three"}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(blobs / blob)
    found = collect(tree)
    assert found.artists() == {"Ana": 2, "Ben": 1} and not found.skipped
    raw.mkdir()
    collection.copy_images(found, raw, move=False)
    assert not (raw / "Ana/1.jpg").is_symlink()
    assert (raw / "Ana/1.jpg").read_bytes() == (blobs / "one").read_bytes()


LITTER = (
    "@eaDir/1.jpg", "Ana/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/1.jpg", ".Trash-1000/files/1.jpg",
    "$RECYCLE.BIN/S-1-5/1.jpg", "lost+found/1.jpg", "System Volume Information/1.jpg", ".ipynb_checkpoints/1.jpg",
    "Ana/.ipynb_checkpoints/1-checkpoint.jpg", "__MACOSX/Ana/1.jpg", "@Recycle/1.jpg", "#snapshot/1.jpg",
    "Network Trash Folder/1.jpg", "Ana/._1.jpg", "Ana/1.jpg@SynoEAStream", "Ana/1.jpg:Zone.Identifier",
    "Ana/THUMBS.DB", "Ana/Desktop.ini", "Ana/Icon\r",
)  # fmt: skip


@pytest.mark.parametrize("name", LITTER)
def test_system_files_are_ignored(tmp_path: Path, name: str) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ana/2.jpg", "Ben/1.jpg", name)
    found = collect(tmp_path)
    assert found.artists() == {"Ana": 2, "Ben": 1}
    assert not found.skipped and not found.without_images


@pytest.mark.parametrize("content", ["jpeg", "avif", "png", "gif", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("name", ["Ana/2", "Ana/2.data", "Ana/2.jpg_large", "Ana/Nr.2"])
def test_images_are_detected_by_content(tmp_path: Path, name: str, content: str) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    Image.fromarray(painting(seed=9)).save(tmp_path / name, format=content)
    (tmp_path / "Ana/3.txt").write_text("BM II*: no image")
    assert collect(tmp_path).artists() == {"Ana": 2, "Ben": 1}


def test_an_image_with_a_broken_profile_is_kept_and_counted(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    Image.fromarray(painting(seed=9)).save(tmp_path / "Ana/2.jpg", icc_profile=b"no profile")
    found = collect(tmp_path)
    assert found.artists() == {"Ana": 2, "Ben": 1} and not found.skipped
    assert found.metrics()["broken_colour_profiles"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="another user has to be asked, as which only root can run")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, mode: int) -> None:
    """root may read everything."""
    source = tmp_path / "source"
    paint(source, "Ana/1.jpg", "Ben/1.jpg", "Cleo/1.jpg")
    (source / "Ben").chmod(mode)
    users.let_others_enter(tmp_path)
    os.setresuid(65534, 65534, 0)
    try:
        with pytest.raises(UserError, match=rf"{source}/Ben cannot be read \(Permission denied\)"):
            collect(source)
    finally:
        os.setresuid(0, 0, 0)


def test_a_name_that_is_not_utf8_is_skipped(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg")
    shutil.copy(os.fsencode(tmp_path / "Ana/1.jpg"), os.fsencode(tmp_path) + b"/Ana/\xff.jpg")
    assert collect(tmp_path).skipped == {"name_not_utf8": ["Ana/\\udcff.jpg"]}


def test_names_change_only_to_avoid_collisions(tmp_path: Path) -> None:
    names = ["Ana/a b.JPG", "Ana/é🎨.jpeg", "Ana/x.jpg", "Ana/x.png", "Ana/X.jpg", "Ana/y__zoom.jpg", "Ben/1.jpg"]
    paint(tmp_path, *names)
    found = set(collect(tmp_path).images)
    assert {"Ana/a b.jpg", "Ana/é🎨.jpeg", "Ana/y_zoom.jpg", "Ben/1.jpg"} < found
    stems = [name.rpartition(".")[0].casefold() for name in found]
    assert len(set(stems)) == len(names)


def test_a_name_of_255_bytes_leaves_room_for_its_copies(tmp_path: Path) -> None:
    paint(tmp_path, f"Ana/{'é' * 125}.jpg", f"Ana/{'é' * 124}.jpg", "Ben/1.jpg")
    found = collect(tmp_path)
    assert len(found.images) == 3
    assert all(len(name.encode()) < 200 for name in found.images)


WRONG_LAYERS = {
    "train test": ["set/train/Ana/1", "set/train/Ben/1", "set/test/Ana/2", "set/test/Ben/2"],
    "training_set test_set": ["training_set/Ana/1", "training_set/Ben/1", "test_set/Ana/1", "test_set/Ben/1"],
    "a test set without artists": ["train_images/Ana/1", "train_images/Ben/1", "test_images/1", "test_images/2"],
    "train test unlabeled": ["train/Ana/1", "train/Ben/1", "test/Ana/2", "test/Ben/2", "unlabeled/1", "unlabeled/2"],
    "train dev": ["train/Ana/1", "train/Ben/1", "dev/Ana/2", "dev/Ben/2"],
    "TrainingData ValidationData": ["TrainingData/Ana/1", "TrainingData/Ben/1", "ValidationData/Ana/2"],
    "entrenamiento prueba": ["entrenamiento/Ana/1", "entrenamiento/Ben/1", "prueba/Ana/2", "prueba/Ben/2"],
    "art_train art_test": ["art_train/Ana/1", "art_train/Ben/1", "art_test/Ana/2", "art_test/Ben/2"],
    "sizes": ["224x224/Ana/1", "224x224/Ben/1", "512x512/Ana/1", "512x512/Ben/1"],
    "small large": ["small/Ana_1", "small/Ben_1", "large/Ana_1", "large/Ben_1"],
    "one split among artists": ["Ana/1", "Ben/1", "Cleo/1", "test/1", "test/2"],
    "folds with the same artists": ["a/Ana/1", "a/Ben/1", "b/Ana/2", "b/Ben/2", "c/Ana/3", "c/Ben/3"],
    "parts with other artists": ["part1/Ana/1", "part1/Ben/1", "part2/Cleo/1", "part2/Dora/1"],
    "seg_train seg_test": [
        *(f"seg_{s}/seg_{s}/{a}/{n}" for s in ("train", "test") for a in "AB" for n in "12"),
        "seg_pred/1",
    ],
    "PublicTest PrivateTest": ["PublicTest/Ana/1", "PublicTest/Ben/1", "PrivateTest/Ana/2", "PrivateTest/Ben/2"],
    "movements": ["Cubism/Picasso/1", "Cubism/Gris/1", "Dada/Arp/1", "Dada/Hannah/1"],
    "the study's without its list": [
        "images/images/Ana/1",
        "images/images/Ben/1",
        "resized/resized/1",
        "resized/resized/2",
    ],
    "a folder with all of the artists": [
        *(f"museum/{artist}/{n}" for artist in "ABCDE" for n in range(4)),
        "doc/page1",
    ],
}


@pytest.mark.parametrize("names", WRONG_LAYERS.values(), ids=WRONG_LAYERS)
def test_folders_that_are_not_artists_are_refused_with_what_to_do(tmp_path: Path, names: list[str]) -> None:
    paint(tmp_path, *(f"{name}.jpg" for name in names))
    with pytest.raises(UserError, match=r"set root to the folder whose folders are the artists, such as ") as caught:
        collect(tmp_path)
    assert "\n" not in str(caught.value)


BOTH = [f"{artist}/{number}.jpg" for artist in ("Ana", "Ben") for number in range(5)]
NESTED = ["Ana/misc/1.jpg", "Ana/2.jpg", "Ben/misc/1.jpg", "Ben/2.jpg", "Ben/3.jpg", "Cleo/1.jpg"]
RIGHT_LAYERS = {
    "a cover": (["cover.jpg", *(f"paintings/{name}" for name in BOTH)], "paintings", 1),
    "a cover in each": (["a/b/c1.jpg", *(f"a/b/{name}" for name in BOTH), "a/c2.jpg"], "a/b", 2),
    "images beside": (["docs/1.jpg", *(f"images/{name}" for name in BOTH)], "images", 1),
    "one split alone": ([f"train/{name}" for name in BOTH], "train", 0),
    "numbers": (["artist1/1.jpg", "artist2/1.jpg", "artist3/1.jpg"], "", 0),
    "folders of kinds": (["Ana/images/1.jpg", "Ben/images/1.jpg", "Ben/512px/2.jpg", "Cleo/Paintings/1.jpg"], "", 0),
    "one in folders": (["Ana/early/1.jpg", "Ana/late/1.jpg", "Ben/1.jpg", "Ben/2.jpg"], "", 0),
    "some with a folder of one name": (NESTED, "", 0),
    "names that are words": (["Val Ross/1.jpg", "Dev Patel/1.jpg", "Small/1.jpg"], "", 0),
}


@pytest.mark.parametrize(("names", "root", "aside"), RIGHT_LAYERS.values(), ids=RIGHT_LAYERS)
def test_the_layer_of_the_artists_is_detected(tmp_path: Path, names: list[str], root: str, aside: int) -> None:
    paint(tmp_path, *names)
    found = collect(tmp_path)
    assert found.root == root
    assert len(found.images) == len(names) - aside
    assert sum(map(len, found.skipped.values())) == len(found.skipped["outside_any_artist"]) == aside


@pytest.mark.parametrize("root", ["train", "./train/", "train/../train"])
def test_the_root_parameter_is_used(tmp_path: Path, root: str) -> None:
    paint(tmp_path, "train/Ana/1.jpg", "train/Ben/x/1.jpg", "test/Ana/2.jpg", "cover.jpg")
    if ".." in root:
        with pytest.raises(UserError, match=r"root is train/\.\./train and must be a folder in the source"):
            collection.find_images(tmp_path, 1e6, root)
        return
    found = collection.find_images(tmp_path, 1e6, root)
    assert found.artists() == {"Ana": 1, "Ben": 1}
    assert found.skipped == {"outside_any_artist": ["cover.jpg", "test/Ana/2.jpg"]}


def test_wrapping_folders_below_the_root_are_skipped(tmp_path: Path) -> None:
    paint(tmp_path, "images/images/Ana/1.jpg", "images/images/Ben/1.jpg", "resized/resized/1.jpg")
    found = collection.find_images(tmp_path, 1e6, "images")
    assert (found.root, found.artists()) == ("images/images", {"Ana": 1, "Ben": 1})


def test_ambiguous_layers_are_accepted_with_a_root(tmp_path: Path) -> None:
    paint(tmp_path, "train/Ana/1.jpg", "test/Ana/2.jpg")
    assert collection.find_images(tmp_path, 1e6, ".").artists() == {"train": 1, "test": 1}


def test_a_missing_root_is_reported_with_the_existing_folders(tmp_path: Path) -> None:
    paint(tmp_path, "training/Ana/1.jpg", "testing/Ana/2.jpg")
    with pytest.raises(UserError, match=r"root is train, and .*; it has testing, training"):
        collection.find_images(tmp_path, 1e6, "train")


def test_a_source_with_most_images_outside_is_refused(tmp_path: Path) -> None:
    paint(tmp_path, "Ana/1.jpg", "Ben/1.jpg", *(f"{n}.jpg" for n in range(3)))
    with pytest.raises(UserError, match=r"most of its images \(3 of 5\) outside"):
        collect(tmp_path)


@pytest.mark.parametrize("names", [[], ["Ana/1.jpg"], ["1.jpg", "2.jpg"]])
def test_fewer_than_two_artists_are_refused(tmp_path: Path, names: list[str]) -> None:
    paint(tmp_path, *names)
    with pytest.raises(UserError, match="needs at least two"):
        collect(tmp_path)


def test_images_are_copied_or_moved_byte_for_byte(tmp_path: Path) -> None:
    tree, raw = tmp_path / "tree", tmp_path / "raw"
    paint(tree, "Ana/1.JPG", "Ben/1.jpg")
    before = (tree / "Ana/1.JPG").read_bytes()
    found = collect(tree)
    raw.mkdir()
    collection.copy_images(found, raw, move=False)
    assert (raw / "Ana/1.jpg").read_bytes() == before
    assert (tree / "Ana/1.JPG").exists()
    shutil.rmtree(raw)
    raw.mkdir()
    collection.copy_images(found, raw, move=True)
    assert (raw / "Ana/1.jpg").read_bytes() == before
    assert not (tree / "Ana/1.JPG").exists()
