"""`redarte check` tells a user's own files from those that a stage has written."""

import contextlib
import shutil
from pathlib import Path

import pytest

from redarte import params
from redarte.history import own_files
from redarte.runtime.errors import UserError
from tests.conftest import Workspace, new_workspace, write_painting


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """With more folds than images, artists without test images have one in val."""
    root = tmp_path_factory.mktemp("own")
    for artist, images in {"Ana": 7, "Ben": 4, "Cleo": 4}.items():
        for number in range(images):
            write_painting(root / f"images/{artist}/{number}.jpg", 40, 40, seed=ord(artist[0]) * 100 + number)
    workspace = new_workspace(
        root / "redarte",
        {"fetch.source": "folder", "fetch.folder.path": str(root / "images"), "split.folds": 7, "split.fold": 4},
    )
    workspace.run("dvc", "repro", "resize")
    workspace.commit("a run")
    return workspace


def check(workspace: Workspace) -> None:
    """What `redarte check` does, in this process."""
    with contextlib.chdir(workspace.path):
        own_files.check(params.load())


@pytest.mark.parametrize(
    ("name", "replaced", "has_cache"),
    [
        ("data/raw/Ana/own.jpg", "data/raw/Ana/0.jpg", True),
        ("data/raw/Ana/own.jpg", "data/raw/Ana/0.jpg", False),
        ("data/raw/Ana/0.jpg", "data/raw/Ana/0.jpg", True),  # edited in place
        ("data/raw/Ana/0.jpg", "data/raw/Ana/0.jpg", False),
        ("data/split/train/Ben/own.jpg", "FIRST", False),
        ("data/augmented/Ben/own.jpg", "FIRST", True),
        ("data/resized/train/own.tar", "FIRST", False),
    ],
)
def test_an_own_file_is_found_also_where_it_takes_the_place_of_another(
    workspace: Workspace, tmp_path: Path, name: str, replaced: str | None, has_cache: bool
) -> None:
    copy = Workspace(tmp_path / "redarte")
    shutil.copytree(workspace.path, copy.path, symlinks=True)
    check(copy)
    if not has_cache:
        shutil.rmtree(copy.path / ".dvc/cache")
        check(copy)
    if replaced == "FIRST":
        replaced = min(path for path in (copy.path / name).parent.iterdir()).relative_to(copy.path).as_posix()
    if replaced:
        (copy.path / replaced).unlink()
    write_painting(tmp_path / "own.jpg", seed=77).rename(copy.path / name)
    with pytest.raises(UserError, match="files that DVC does not know") as caught:
        check(copy)
    assert Path(name).name in str(caught.value)
    assert ("edited in place" in str(caught.value)) == (name == replaced and has_cache)


def test_files_of_systems_are_nobodys(workspace: Workspace, tmp_path: Path) -> None:
    copy = Workspace(tmp_path / "redarte")
    shutil.copytree(workspace.path, copy.path, symlinks=True)
    for name in ("data/raw/.DS_Store", "data/raw/Ana/.DS_Store", "data/split/train/Thumbs.db"):
        (copy.path / name).write_bytes(b"x")
    copy.run("redarte", "check")
    assert "up to date" in copy.run("dvc", "repro", "resize").stdout
    copy.stage("split")


def test_a_single_output_that_was_edited_is_reported(workspace: Workspace, tmp_path: Path) -> None:
    copy = Workspace(tmp_path / "redarte")
    shutil.copytree(workspace.path, copy.path, symlinks=True)
    (copy.path / "data/images.csv").unlink()
    (copy.path / "data/images.csv").write_text("my notes")
    assert "data/images.csv was edited in place" in copy.run("redarte", "check").stderr


def test_a_broken_record_of_a_stage_knows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_painting(tmp_path / "data/raw/Ana/1.jpg")
    settings = params.load(Path(__file__).parents[2] / "params.yaml")
    for content in ("", "{}", "[]", '{"digest": 5}'):
        (tmp_path / "metrics").mkdir(exist_ok=True)
        (tmp_path / "metrics/fetch.json").write_text(content)
        assert own_files._written(Path("data/raw"), settings, str) == set()
    with pytest.raises(UserError, match="is not a git repository"):
        own_files.check(settings)
