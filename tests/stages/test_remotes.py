"""A team's cache in a folder and on real servers, with real clones."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import servers
from tests.conftest import Workspace, ran, tree_bytes
from tests.servers import CutCable, Person, Remote

EVERYTHING = ("data/raw", "data/split", "data/augmented", "data/resized", "models", "plots")


@dataclass(frozen=True)
class Clone:
    """A person's clone, connected to a remote."""

    workspace: Workspace
    person: Person

    @property
    def path(self) -> Path:
        return self.workspace.path

    def dvc(self, *arguments: str, check: bool = True) -> str:
        """Runs a dvc command as this person, and returns its output."""
        done = self.workspace.run("dvc", *arguments, check=check, **self.person.environment)
        return done.stdout + done.stderr

    def fails(self, *arguments: str) -> str:
        done = self.workspace.run("dvc", *arguments, check=False, **self.person.environment)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr


def connect(workspace: Workspace, person: Person, port: int) -> Clone:
    """Writes the settings of docs/remotes.md to .dvc/config.local: a dvc command for each takes a second."""
    settings = {**person.settings(port), "verify": "true"}
    lines = ["[core]", "remote = team", "['remote \"team\"']", *(f"{key} = {value}" for key, value in settings.items())]
    (workspace.path / ".dvc/config.local").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Clone(workspace, person)


def clone(finished: Workspace, path: Path, person: Person, port: int) -> Clone:
    return connect(finished.clone(path), person, port)


def with_its_cache(finished: Workspace, path: Path, person: Person, port: int) -> Clone:
    """A clone that has everything already."""
    made = clone(finished, path, person, port)
    shutil.copytree(finished.path / ".dvc/cache", path / ".dvc/cache")
    made.dvc("checkout")
    return made


def objects(workspace: Workspace) -> list[Path]:
    cache = workspace.path / ".dvc/cache"
    return sorted(path.relative_to(cache) for path in (cache / "files/md5").rglob("*") if path.is_file())


# One kind of server with users and one without are always tested; the others with `make test-all`.
KINDS = ["folder", "ssh", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("s3", "webdav"))]


@pytest.fixture(scope="module", params=KINDS)
def remote(
    request: pytest.FixtureRequest, finished: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    """A server with the outputs of the finished clone. Tests leave these files unchanged."""
    with servers.STARTERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        ana = with_its_cache(finished, tmp_path_factory.mktemp("ana") / "redarte", running.writer, running.port)
        ana.dvc("push")
        yield running


@pytest.fixture
def server(remote: Remote) -> Remote:
    """The same, for tests of users and connections."""
    if remote.kind == "folder":
        pytest.skip("a folder has no connection and no users")
    return remote


def test_a_teammate_pulls_everything_and_runs_nothing(finished: Workspace, remote: Remote, tmp_path: Path) -> None:
    """The teammate may only read."""
    ben = clone(finished, tmp_path / "ben", remote.reader, remote.port)
    ben.dvc("pull")
    assert "Data and pipelines are up to date." in ben.dvc("repro")
    for path in EVERYTHING:
        assert tree_bytes(ben.path / path) == tree_bytes(finished.path / path)


def test_only_what_is_needed_is_pulled_and_run(finished: Workspace, remote: Remote, tmp_path: Path) -> None:
    ben = clone(finished, tmp_path / "ben", remote.reader, remote.port)
    ben.workspace.set({"augment.quality": 80})
    assert ran(ben.dvc("repro", "--pull", "--allow-missing", "augment")) == ["augment"]
    assert (ben.path / "data/augmented").is_dir()
    assert (ben.path / "data/split/train").is_dir()
    assert not (ben.path / "data/raw").exists()


def test_the_key_of_an_ssh_server_is_not_checked(finished: Workspace, server: Remote, tmp_path: Path) -> None:
    """docs/remotes.md warns of it: if DVC begins to check the key, this fails, and the page must be corrected."""
    if server.kind != "ssh":
        pytest.skip("only SSH has host keys")
    known = Path(server.reader.environment["HOME"], ".ssh/known_hosts")
    before = known.read_text(encoding="ascii")
    host, kind, key = before.split()[:3]
    known.write_text(f"{host} {kind} {key[:-8]}{key[-8:].swapcase()}\n", encoding="ascii")
    try:
        ben = clone(finished, tmp_path / "ben", server.reader, server.port)
        ben.dvc("pull", "models/red1.onnx")
    finally:
        known.write_text(before, encoding="ascii")
    assert (ben.path / "models/red1.onnx").is_file()


def test_an_altered_file_is_detected(finished: Workspace, remote: Remote, tmp_path: Path) -> None:
    largest = max(objects(finished), key=lambda key: (finished.path / ".dvc/cache" / key).stat().st_size)
    whole = remote.objects.read(largest.as_posix())
    altered = bytearray(whole)
    altered[len(altered) // 2] ^= 1
    remote.objects.write(largest.as_posix(), bytes(altered))
    try:
        ben = clone(finished, tmp_path / "ben", remote.reader, remote.port)
        ben.fails("pull")
        assert largest not in objects(ben.workspace)
    finally:
        remote.objects.write(largest.as_posix(), whole)


@pytest.mark.long
def test_an_interrupted_push_is_completed_by_the_next(finished: Workspace, server: Remote, tmp_path: Path) -> None:
    ana = with_its_cache(finished, tmp_path / "ana", server.writer, server.port)
    ana.workspace.set({"augment.quality": 70})
    ana.dvc("repro", "augment")
    ana.workspace.commit("quality 70")

    copies = tree_bytes(ana.path / "data/augmented")
    cable = CutCable(server.port, budget=sum(map(len, copies.values())) * 2 // 3)
    connect(ana.workspace, server.writer, cable.port).fails("push", "augment")
    assert cable.cut.is_set()

    connect(ana.workspace, server.writer, server.port).dvc("push", "augment")
    ben = clone(ana.workspace, tmp_path / "ben", server.reader, server.port)
    ben.dvc("pull", "augment")
    assert tree_bytes(ben.path / "data/augmented") == copies


def test_a_password_is_not_shared(finished: Workspace, server: Remote, tmp_path: Path) -> None:
    """DVC runs with its most verbose output."""
    if server.kind != "s3":
        pytest.skip("a key, or a password that DVC treats as it treats this one")
    ana = with_its_cache(finished, tmp_path / "ana", server.writer, server.port)
    printed = ana.dvc("push", "-vv") + ana.dvc("status", "--cloud", "-vv") + ana.dvc("config", "--project", "--list")
    written = [path for path in ana.path.rglob("*") if path.is_file() and path.name != "config.local"]
    secret = servers.secret_of("writer")
    assert secret in (ana.path / ".dvc/config.local").read_text(encoding="utf-8")
    assert secret not in printed
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert ana.workspace.run("git", "status", "--porcelain").stdout == ""


def test_an_unknown_user_is_refused(finished: Workspace, server: Remote, tmp_path: Path) -> None:
    printed = clone(finished, tmp_path / "eve", server.stranger, server.port).fails("pull")
    assert re.search(
        r"Permission denied|Unauthorized|403|401|InvalidAccessKeyId|does not exist in our records", printed
    ), printed
    assert "Traceback" not in printed


def test_a_read_only_user_cannot_push(finished: Workspace, server: Remote, tmp_path: Path) -> None:
    ben = with_its_cache(finished, tmp_path / "ben", server.reader, server.port)
    ben.workspace.set({"augment.quality": 60})
    ben.dvc("repro", "augment")
    printed = ben.fails("push", "augment")
    assert re.search(r"[Pp]ermission denied|Forbidden|403|Access ?Denied", printed), printed
    assert "Traceback" not in printed


# Git and DVC separate simultaneous pushes in the same way for every kind of remote.
@pytest.mark.long
@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_simultaneous_pushes_of_experiments_lose_nothing(finished: Workspace, remote: Remote, tmp_path: Path) -> None:
    two = [with_its_cache(finished, tmp_path / name, remote.writer, remote.port) for name in ("ana", "ben")]
    for number, one in enumerate(two):
        one.dvc("exp", "run", "-n", f"{remote.kind}-{number}", "-S", f"augment.quality={88 + number}", "augment")
    pushes = [
        one.workspace.start("dvc", "exp", "push", "origin", f"{remote.kind}-{number}", **one.person.environment)
        for number, one in enumerate(two)
    ]
    try:
        for push in pushes:
            out, err = push.communicate(timeout=120)
            assert push.returncode == 0, out + err
        fresh = clone(finished, tmp_path / "fresh", remote.reader, remote.port)
        fresh.dvc("exp", "pull", "origin", *(f"{remote.kind}-{number}" for number in (0, 1)))
        for number, one in enumerate(two):
            fresh.dvc("exp", "apply", f"{remote.kind}-{number}")
            assert tree_bytes(fresh.path / "data/augmented") == tree_bytes(one.path / "data/augmented")
    finally:
        two[0].dvc("exp", "remove", "-g", "origin", *(f"{remote.kind}-{number}" for number in (0, 1)), check=False)
