"""`redarte check` knows how many files the stages write, so that it does not take them for a user's own."""

from pathlib import Path

import pytest

from redarte import params
from redarte.commands import own_files
from tests.conftest import new_workspace, write_painting


def test_the_expected_counts_are_those_of_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more folds than images, artists without test images have one in val."""
    for artist, images in {"Ana": 7, "Ben": 4, "Cleo": 4}.items():
        for number in range(images):
            write_painting(tmp_path / f"images/{artist}/{number}.jpg", 40, 40, seed=ord(artist[0]) * 100 + number)
    workspace = new_workspace(
        tmp_path / "redarte",
        {"fetch.source": "folder", "fetch.folder.path": str(tmp_path / "images"), "split.folds": 7, "split.fold": 4},
    )
    for stage in ("fetch", "split", "augment", "resize"):
        workspace.stage(stage)
    monkeypatch.chdir(workspace.path)
    expected = own_files._written(params.load())
    counts = {folder: sum(path.is_file() for path in Path(folder).rglob("*")) for folder in expected}
    assert expected == counts
    assert counts["data/resized/test"] < counts["data/resized/val"]
