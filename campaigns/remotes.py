"""A team's remote with altered, truncated, swapped or lost files, and four simultaneous pushes.

An attack corrupts one to three files, and a fresh clone pulls: the pull fails, or the corruption is not in the clone;
and after the files are restored the next pull gets everything. In every fourth attack four clones push simultaneously,
and a fifth finds all of their files.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Workspace, new_workspace, tree_bytes

_CLONES = 4
_STAGES = ("fetch", "split", "augment", "resize")
_PLACES = ("data/raw", "data/split", "data/augmented", "data/resized")


@dataclass(frozen=True)
class Team:
    """A clone that has everything, and the folder that it has pushed it to."""

    ana: Workspace
    store: Path


@contextmanager
def prepared(folder: Path) -> Iterator[Team]:
    ana = new_workspace(folder / "ana", {})
    ana.run("dvc", "repro", "resize")
    push_everything(ana, folder / "store")
    yield Team(ana, folder / "store")


def push_everything(ana: Workspace, store: Path) -> None:
    """Sets up a remote as in docs/remotes.md, and pushes the outputs of the first stages."""
    ana.run("dvc", "remote", "add", "-d", "team", str(store))
    ana.run("dvc", "remote", "modify", "team", "verify", "true")
    ana.commit("a run")
    ana.run("dvc", "push", *_STAGES)


def attack(team: Team, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    folder = team.store.parent / "clones"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return pushed_at_once(team, folder, seed) if seed % 4 == 3 else pulled_in_spite_of_corruption(team, folder, rng)


def pulled_in_spite_of_corruption(team: Team, folder: Path, rng: random.Random) -> Counter[str]:
    objects = sorted(path for path in team.store.rglob("*") if path.is_file())
    happened: Counter[str] = Counter()
    before = {path: path.read_bytes() for path in rng.sample(objects, rng.randint(1, 3))}
    ben = team.ana.clone(folder / "ben")
    try:
        for path, whole in before.items():
            corrupt = rng.choice(HARM)
            path.unlink()
            content = corrupt(rng, whole)
            if content is not None:
                path.write_bytes(content)
            happened[f"{'a listing' if path.suffix == '.dir' else 'a file'} {corrupt.__name__}"] += 1
        done = ben.run("dvc", "pull", *_STAGES, check=False)
        assert done.returncode != 0, f"nobody noticed: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        for name in _PLACES:
            wrong = set(tree_bytes(ben.path / name).items()) - set(tree_bytes(team.ana.path / name).items())
            assert not wrong, f"{name} holds what ana has not made: {[path for path, _ in wrong]}"
    finally:
        for path, whole in before.items():
            path.unlink(missing_ok=True)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(whole)
    ben.run("dvc", "pull", *_STAGES)
    assert all(tree_bytes(ben.path / name) == tree_bytes(team.ana.path / name) for name in _PLACES)
    return happened


def pushed_at_once(team: Team, folder: Path, seed: int) -> Counter[str]:
    clones = [team.ana.clone(folder / f"clone{number}") for number in range(_CLONES)]
    for number, clone in enumerate(clones):
        clone.run("dvc", "pull", "split")
        clone.set({"augment.quality": 20 + (seed * _CLONES + number) % 70})
        clone.run("dvc", "repro", "augment")
        clone.run("git", "switch", "-qc", f"branch{number}")
        clone.commit(f"run {number}")
    before = set(team.store.rglob("*"))
    pushes = [clone.start("dvc", "push", "augment") for clone in clones]
    for push in pushes:
        out, err = push.communicate(timeout=300)
        assert push.returncode == 0, out + err
    for clone in clones:
        fresh = clone.clone(folder / "fresh")
        fresh.run("dvc", "pull", "augment")
        assert tree_bytes(fresh.path / "data/augmented") == tree_bytes(clone.path / "data/augmented")
        shutil.rmtree(fresh.path)
    # The other attacks pull what ana has pushed, and not these.
    for path in set(team.store.rglob("*")) - before:
        if path.is_file():
            path.unlink()
    return Counter({"clones that pushed at once": _CLONES})


def altered(rng: random.Random, whole: bytes) -> bytes:
    changed = bytearray(whole)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut_short(rng: random.Random, whole: bytes) -> bytes:
    return whole[: rng.randrange(len(whole))]


def emptied(_rng: random.Random, _complete: bytes) -> bytes:
    return b""


def gone(_rng: random.Random, _complete: bytes) -> None:
    return None


def replaced(rng: random.Random, _complete: bytes) -> bytes:
    return rng.choice(
        [b"[]", b'[{"md5": "d41d8cd98f00b204e9800998ecf8427e", "relpath": "../../out"}]', rng.randbytes(99)]
    )


HARM: list[Callable[[random.Random, bytes], bytes | None]] = [altered, cut_short, emptied, gone, replaced]
