"""The memory of a container or a job with a limit."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from redarte.runtime import memory

GB = 10**9
V1, V2 = "4:memory:/docker/ab\n3:cpu:/docker/ab\n0::/\n", "0::/user.slice/job\n"


def group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def v1(limit: int, used: int, cached: int = 0) -> dict[str, str]:
    return {
        "memory.limit_in_bytes": str(limit),
        "memory.usage_in_bytes": str(used),
        "memory.stat": f"cache 1\ntotal_inactive_file {cached}\ntotal_active_file 1000",
    }


def v2(limit: int | str, used: int, cached: int = 0) -> dict[str, str]:
    stat = f"anon 1\ninactive_file {cached}\nactive_file 1000"
    return {"memory.max": str(limit), "memory.current": str(used), "memory.stat": stat}


@pytest.mark.parametrize(
    ("listed", "groups", "free"),
    [
        (V1, {"memory/docker/ab": v1(4 * GB, 3 * GB)}, GB),
        (V1, {"memory/docker/ab": v1(4 * GB, 3 * GB, cached=2 * GB)}, 3 * GB),
        # The path on the host, which does not exist in the container.
        (V1, {"memory": v1(4 * GB, 3 * GB)}, GB),
        (V2, {"user.slice/job": v2(2 * GB, GB)}, GB),
        (V2, {"user.slice/job": v2("max", GB), "user.slice": v2(3 * GB, GB)}, 2 * GB),
        (V2, {"user.slice/job": v2(3 * GB, GB), "user.slice": v2(2 * GB, GB)}, GB),
        (V2, {"user.slice/job": v2(2 * GB, 3 * GB)}, 0),
    ],
)  # fmt: skip
def test_the_limit_of_a_control_group_holds(
    tmp_path: Path, listed: str, groups: dict[str, dict[str, str]], free: int
) -> None:
    (tmp_path / "cgroup").write_text(listed)
    for path, files in groups.items():
        group(tmp_path / "mount" / path, files)
    found = memory.available(tmp_path / "cgroup", tmp_path / "mount")
    assert found == (free and free + 1000)  # the 1,000 bytes are cached files


@pytest.mark.parametrize("files", [{}, v2("max", GB), v2("a word", GB), {"memory.max": "1"}])
def test_without_a_limit_it_is_the_machines(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "cgroup").write_text(V2)
    group(tmp_path / "mount/user.slice/job", files)
    for process in (tmp_path / "cgroup", tmp_path / "missing"):
        found = memory.available(process, tmp_path / "mount")
        assert found == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_in_a_real_control_group() -> None:
    """A process in a group with 700 MB has no more, whatever the machine has."""
    root = Path("/sys/fs/cgroup")
    folder, limit = (
        (root / "memory/redarte-test", "memory.limit_in_bytes")
        if (root / "memory").is_dir()
        else (root / "redarte-test", "memory.max")
    )
    try:
        folder.mkdir()
        (folder / limit).write_text(str(700 * 2**20))
    except OSError as error:
        pytest.skip(f"control groups cannot be made here ({error.strerror})")
    try:
        code = (
            f"import os; open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            "from redarte.runtime import memory; print(memory.available())"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    finally:
        folder.rmdir()
    assert 500 * 2**20 < int(done.stdout) <= 700 * 2**20
