"""The memory of this machine, or of the container that the process runs in.

/proc/meminfo, which psutil reads, has the memory of the host also in a container with a limit (`docker run --memory`,
a systemd slice, a Slurm job). The kernel kills a process that exceeds the limit of its control group.
"""

from pathlib import Path

import psutil

_PROCESS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
# Files of a control group, by the version of cgroups: the limit, the use, and the page cache in memory.stat.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_VERSION_2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))


def available(process: Path = _PROCESS, mount: Path = _MOUNT) -> int:
    """Returns the memory in bytes that this process can use without swapping or being killed.

    Args:
        process: lists the control groups of this process (cgroups(7)).
    """
    return min([int(psutil.virtual_memory().available), *_free_in_groups(process, mount)])


def _free_in_groups(process: Path, mount: Path) -> list[int]:
    """The bytes that the control groups of the process leave; the limit of each parent holds too."""
    try:
        lines = [line.split(":", 2) for line in process.read_text(encoding="utf-8").splitlines()]
    except OSError:  # no Linux
        return []
    free = []
    for _, controllers, path in lines:
        if controllers not in ("", "memory"):
            continue
        root, names = (mount / "memory", _VERSION_1) if controllers else (mount, _VERSION_2)
        # In a container, the path may be that on the host, and the container's own group is the root.
        group = root / path.lstrip("/")
        groups = [group, *group.parents]
        free += [_free(one, *names) for one in groups[: groups.index(root) + 1]]
    return [number for number in free if number is not None]


def _free(group: Path, limit: str, use: str, cached: tuple[str, ...]) -> int | None:
    """The bytes that a control group leaves; None without a limit."""
    try:
        maximum = (group / limit).read_text(encoding="utf-8").strip()
        if maximum == "max":
            return None
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
        # The kernel drops cached files before it kills a process.
        cache = sum(int(stat.get(name, 0)) for name in cached)
        return max(0, int(maximum) - int((group / use).read_text(encoding="utf-8")) + cache)
    except (OSError, ValueError):
        return None
