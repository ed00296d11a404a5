"""Commands as other users of this machine, who share a group; only root can run them."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

GROUP = 30_000
_NOBODY = 31_415
# In their own mount namespaces, other users may enter the folder of this Python, which is often in /root.
_OPENED = """
folder=$1 child=$2 place=$(mktemp -d); shift 2
mount --bind "$folder/$child" "$place"; mount -t tmpfs -o mode=755 none "$folder"
mkdir "$folder/$child"; mount --bind "$place" "$folder/$child"; umount "$place"; rmdir "$place"
exec "$@"
"""


def as_user(user: int) -> list[str]:
    """The prefix of a command for the user with this id."""
    return [*(_opening() or []), *_as(user)]


def let_others_enter(folder: Path) -> None:
    """Opens a test's folder and pytest's folders above it, which only their owner may enter."""
    temporary = Path(tempfile.gettempdir())
    for each in (folder, *folder.parents):
        if each.is_relative_to(temporary) and each != temporary:
            each.chmod(0o755)


def can_be_others() -> bool:
    """Whether this process may run this Python as another user."""
    return os.geteuid() == 0 and _opening() is not None


@functools.cache
def _opening() -> list[str] | None:
    """The prefix that lets other users reach this Python; None if there is none."""
    if _works([]):
        return []
    base = Path(sys.base_prefix)
    closed = [folder for folder in (*reversed(base.parents), base) if not folder.stat().st_mode & 0o001]
    if len(closed) != 1 or closed[0] == base:
        return None
    child = base.relative_to(closed[0]).parts[0]
    opening = ["unshare", "--mount", "sh", "-ec", _OPENED, "sh", str(closed[0]), child]
    return opening if _works(opening) else None


def _works(opening: Sequence[str]) -> bool:
    command = [*opening, *_as(_NOBODY), sys.executable, "-c", ""]
    try:
        return subprocess.run(command, cwd="/", capture_output=True).returncode == 0
    except OSError:
        return False


def _as(user: int) -> list[str]:
    # Through env, because setpriv itself keeps root's rights until it has started the command.
    return ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={GROUP}", "env", f"LOGNAME=user{user}"]
