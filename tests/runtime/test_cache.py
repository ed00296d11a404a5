"""The cache of arrays: what it keeps, and that nobody notices when it is corrupt, full or away."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from redarte.runtime import cache
from redarte.runtime.cache import Cache

NAMES = [f"{number:032x}" for number in range(40)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDARTE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_array_is_read_as_it_was_written(folder: Path) -> None:
    array = np.array([1.5, np.nan, -0.0], np.float32)
    Cache("kind", ["here"]).write(NAMES[0], array)
    stored = Cache("kind", ["here"])
    assert stored.has(NAMES[0]) and not stored.has(NAMES[1])
    found = stored.read(NAMES[0])
    assert found is not None and found.tobytes() == array.tobytes() and found.dtype == array.dtype
    assert stored.read(NAMES[1]) is None
    assert len(files(folder)) == 1


def test_arrays_of_another_kind_or_machine_are_not_read(folder: Path) -> None:
    Cache("kind", ["here"]).write(NAMES[0], np.ones(3))
    assert Cache("other", ["here"]).read(NAMES[0]) is None
    assert Cache("kind", ["there"]).read(NAMES[0]) is None
    of_any = Cache("kind", None)
    assert of_any.has(NAMES[0]) and of_any.read(NAMES[0]) is not None
    of_any.write(NAMES[1], np.ones(3))
    assert len(files(folder)) == 1


@pytest.mark.parametrize("damage", ["truncated", "empty", "changed", "longer"])
def test_a_corrupt_array_counts_as_missing(folder: Path, damage: str) -> None:
    stored = Cache("kind", [])
    stored.write(NAMES[0], np.arange(100))
    (file,) = files(folder)
    content = bytearray(file.read_bytes())
    content[150] ^= 1
    damaged = {"truncated": content[:100], "empty": b"", "changed": content, "longer": file.read_bytes() + b"x"}
    file.write_bytes(bytes(damaged[damage]))
    assert stored.read(NAMES[0]) is None
    stored.write(NAMES[0], np.arange(100))
    assert np.array_equal(stored.read(NAMES[0]), np.arange(100))  # type: ignore[arg-type]


def test_the_oldest_arrays_are_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_LIMIT", 20_000.0)
    for number, name in enumerate(NAMES[:16]):
        Cache("kind", []).write(name, np.zeros(1000, np.uint8))
        (file,) = (file for file in files(folder) if file.name == name[2:])
        os.utime(file, (number + 1, number + 1))
    Cache("kind", []).read(NAMES[0])  # is used, and stays
    stored = Cache("kind", [])
    for name in NAMES[16:]:
        stored.write(name, np.zeros(1000, np.uint8))
        assert sum(file.stat().st_size for file in files(folder)) < 22_500
    assert stored.has(NAMES[16]) and not stored.has(NAMES[1])


def test_what_a_run_has_written_stays_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every image of a set that is too large would be deleted before it is read."""
    monkeypatch.setattr(cache, "_LIMIT", 20_000.0)
    stored = Cache("kind", [])
    for name in NAMES:
        stored.write(name, np.zeros(1000, np.uint8))
    assert sum(file.stat().st_size for file in files(folder)) < 22_500
    assert stored.has(NAMES[0]) and not stored.has(NAMES[-1])


@pytest.mark.parametrize("place", ["a file", "off"])
def test_nothing_is_kept_where_that_is_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("REDARTE_CACHE", "0" if place == "off" else str(tmp_path / "file"))
    stored = Cache("kind", [])
    stored.write(NAMES[0], np.ones(3))
    assert stored.read(NAMES[0]) is None and not stored.has(NAMES[0])


def test_many_threads_write_and_read(folder: Path) -> None:
    def work() -> None:
        stored = Cache("kind", [])
        for name in NAMES:
            stored.write(name, np.full(1000, int(name, 16)))
            found = stored.read(name)
            assert found is not None and (found == int(name, 16)).all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files(folder)) == len(NAMES)
