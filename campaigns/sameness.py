"""The same images, parameters and code give the same bytes for every user and folder.

An attack is a clone in another folder, of another user, under another locale and umask, with the images written in
another order, which runs up to `resize`. Its dvc.lock has the same hash for every output as the first clone's.
"""

import os
import random
import shutil
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.conftest import Workspace, new_workspace, painting

from redarte.images import decoding

ARTISTS = ("Ana", "İpek Şahin", "ana belén", "Zoë", "画家")
_EACH = 6
_ANOTHER = 31_415  # a user id that no machine gives to anybody
_AS_ANOTHER = ["setpriv", f"--reuid={_ANOTHER}", f"--regid={_ANOTHER}", "--clear-groups"]
STAGES = ("fetch", "split", "augment", "resize")
LOCALES = ("C", "POSIX", "C.UTF-8", "es_ES.UTF-8", "tr_TR.UTF-8", "ja_JP.UTF-8")
ZONES = ("UTC", "America/St_Johns", "Pacific/Kiritimati", "Asia/Kathmandu", "nowhere/such")


@dataclass(frozen=True)
class First:
    """The reference clone, the images, and the entries of its outputs in dvc.lock.

    Attributes:
        as_another: the prefix of a command for another user; None where no other user can run this Python.
    """

    workspace: Workspace
    as_another: list[str] | None
    images: dict[str, bytes]
    outputs: dict[str, Any]


@contextmanager
def prepared(root: Path) -> Iterator[First]:
    for name in LOCALES[3:]:
        language, _, charset = name.partition(".")
        subprocess.run(["localedef", "-i", language, "-f", charset, name], check=False, capture_output=True)
    images = {
        f"{artist}/{number} {'é' if number % 2 else 'I'}.{'jpg' if number % 3 else 'JPG'}": decoding.jpeg(
            painting(40 + number, 60, seed=100 * artist_index + number), 90
        )
        for artist_index, artist in enumerate(ARTISTS)
        for number in range(_EACH)
    }
    workspace = new_workspace(root / "first", {"fetch.source": "folder", "fetch.folder.path": "../images"})
    write(images, root / "images", list(images))
    root.chmod(0o755)
    workspace.run("dvc", "repro", "resize")
    able = os.geteuid() == 0 and not subprocess.run([*_AS_ANOTHER, sys.executable, "-c", ""], check=False).returncode
    yield First(workspace, _AS_ANOTHER if able else None, images, outputs(workspace))


def attack(first: First, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    name = "".join(rng.sample(string.ascii_letters + " éß画'()&$;#%\t", 12)).strip() or "x"
    root = first.workspace.path.parent / f"{seed} {name}"
    root.mkdir()
    order = sorted(first.images)
    rng.shuffle(order)
    write(first.images, root / "images", order)
    clone = first.workspace.clone(root / "redarte")
    locale, zone, umask = rng.choice(LOCALES), rng.choice(ZONES), rng.choice([0o002, 0o022, 0o027, 0o077])
    environment = {
        "LC_ALL": locale, "LANG": locale, "TZ": zone, "PYTHONHASHSEED": str(rng.randrange(1000)), "HOME": str(root),
        "REDARTE_WORKERS": str(rng.choice([1, 2, 3, 5])), "OMP_NUM_THREADS": str(rng.choice([1, 4])),
        "MALLOC_PERTURB_": str(rng.randrange(256)), "PYTHONDONTWRITEBYTECODE": "1", "LANGUAGE": locale[:2],
        "LOGNAME": "another",  # DVC asks for a name, which a user id without a user does not have
    }  # fmt: skip
    before = first.as_another if first.as_another and rng.random() < 0.5 else []
    if before:
        subprocess.run(["chown", "-R", f"{_ANOTHER}:{_ANOTHER}", root], check=True)
    # `python -c` sets the umask: setpriv does not.
    masked = f"import os, sys; os.umask({umask}); os.execvp('dvc', ['dvc', 'repro', 'resize'])"
    clone.run(*before, "python", "-c", masked, check=True, **environment)
    found = outputs(clone)
    who = "another user" if before else "the same user"
    assert found == first.outputs, f"{name!r} {locale} {zone} {umask:o} {who}"
    shutil.rmtree(root)
    return Counter([locale, zone, f"umask {umask:03o}", f"{environment['REDARTE_WORKERS']} workers", who])


def outputs(workspace: Workspace) -> dict[str, Any]:
    """The entry of every output in dvc.lock: hash, size and number of files."""
    stages = yaml.safe_load((workspace.path / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return {out["path"]: out for stage in STAGES for out in stages[stage]["outs"]}


def write(images: dict[str, bytes], folder: Path, order: list[str]) -> None:
    """Writes the images one after the other: the order in which a disk lists them depends on it."""
    for name in order:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(images[name])
