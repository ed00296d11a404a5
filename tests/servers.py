"""Real servers for a team's cache, started on loopback for a test.

OpenSSH's sshd, SeaweedFS (an S3-compatible object store that is used in production; MinIO is in neither PyPI nor
Debian) and nginx with WebDAV. Each has a writer and a reader, and refuses unknown users.
"""

import contextlib
import getpass
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import s3fs

from tests.conftest import Workspace, environment_for

HOST = "127.0.0.1"
BUCKET = "team"


@dataclass(frozen=True)
class Person:
    """How one person reaches a remote: the settings in .dvc/config.local, and the environment of DVC.

    The settings are made for a port, so that a test can lead DVC through a proxy.
    """

    settings: Callable[[int], dict[str, str]]
    environment: dict[str, str]


class Objects(Protocol):
    """The files of a remote, accessed without DVC."""

    def read(self, key: str) -> bytes: ...

    def write(self, key: str, content: bytes) -> None: ...


@dataclass(frozen=True)
class Files:
    """Objects in a folder."""

    store: Path

    def read(self, key: str) -> bytes:
        return (self.store / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        # DVC makes its objects read-only, and removes from a folder one that it found broken.
        (self.store / key).unlink(missing_ok=True)
        (self.store / key).write_bytes(content)


@dataclass(frozen=True)
class Bucket:
    """Objects in a bucket."""

    files: s3fs.S3FileSystem

    def read(self, key: str) -> bytes:
        return bytes(self.files.cat_file(f"{BUCKET}/{key}"))

    def write(self, key: str, content: bytes) -> None:
        self.files.pipe_file(f"{BUCKET}/{key}", content)


@dataclass(frozen=True)
class Remote:
    """A remote on a server that is running."""

    kind: str
    port: int
    writer: Person
    reader: Person
    stranger: Person
    objects: Objects


def secret_of(name: str) -> str:
    return f"secret-of-{name}"


def program(name: str, package: str) -> str:
    """The path of a server's program; the test is skipped if there is none."""
    found = shutil.which(name, path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin")))
    if not found:
        pytest.skip(f"{name} is not installed (Debian: {package})")
    return found


@contextlib.contextmanager
def folder(root: Path) -> Iterator[Remote]:
    """A folder, without users: permissions are those of the file system."""
    anybody = Person(lambda port: {"url": str(root / "store")}, {})
    yield Remote("folder", 0, anybody, anybody, anybody, Files(root / "store"))


@contextlib.contextmanager
def ssh(root: Path) -> Iterator[Remote]:
    """OpenSSH's sshd with SFTP, a host key and three users' keys made for it; the reader's key is held to reading."""
    store = root / "store"
    store.mkdir()
    for name in ("host", "writer", "reader", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
    keys = {name: (root / f"{name}.pub").read_text(encoding="ascii") for name in ("host", "writer", "reader")}
    (root / "authorized_keys").write_text(
        f'{keys["writer"]}restrict,command="internal-sftp -R" {keys["reader"]}', encoding="ascii"
    )
    port = free_port()
    (root / "sshd_config").write_text(
        textwrap.dedent(f"""\
            ListenAddress {HOST}
            Port {port}
            HostKey {root}/host
            AuthorizedKeysFile {root}/authorized_keys
            PidFile none
            StrictModes no
            UsePAM no
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            PermitRootLogin prohibit-password
            Subsystem sftp internal-sftp
            MaxStartups 100
            """),
        encoding="utf-8",
    )
    home = root / "home"
    (home / ".ssh").mkdir(parents=True)
    # Without a port, so that the key is known behind a proxy's port too.
    (home / ".ssh/known_hosts").write_text(f"{HOST} {keys['host']}", encoding="ascii")

    def person(name: str) -> Person:
        # No agent: the key of the test is the only one that is offered.
        user = {"user": getpass.getuser(), "keyfile": str(root / name)}
        environment = {"HOME": str(home), "SSH_AUTH_SOCK": ""}
        return Person(lambda port: {"url": f"ssh://{HOST}:{port}{store}", **user}, environment)

    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    command = [program("sshd", "openssh-server"), "-D", "-e", "-f", str(root / "sshd_config")]
    with serving(command, root / "log", lambda: is_open(port)):
        yield Remote("ssh", port, person("writer"), person("reader"), person("stranger"), Files(store))


@contextlib.contextmanager
def s3(root: Path) -> Iterator[Remote]:
    """SeaweedFS with one bucket."""
    people = {"writer": ["Admin", "Read", "List", "Tagging", "Write"], "reader": ["Read", "List"]}
    config = root / "s3.json"
    config.write_text(
        json.dumps({"identities": [identity(name, actions) for name, actions in people.items()]}), encoding="utf-8"
    )
    port, *ports = free_ports(8)
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port.grpc")  # fmt: skip
    (root / "data").mkdir()
    command = [
        str(Path(sys.executable).with_name("weed")), "server", f"-dir={root / 'data'}", f"-ip={HOST}",
        f"-ip.bind={HOST}", "-master.volumeSizeLimitMB=64", "-volume.max=20", "-volume.minFreeSpace=1", "-filer",
        "-s3", f"-s3.config={config}", f"-s3.port={port}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false",
        *(f"-{name}={number}" for name, number in zip(names, ports, strict=True)),
    ]  # fmt: skip

    def person(name: str) -> Person:
        keys = {"access_key_id": name, "secret_access_key": secret_of(name), "region": "us-east-1"}
        # Nothing of this machine's own AWS accounts, nor a question to the address that cloud machines ask.
        environment = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "", "AWS_SHARED_CREDENTIALS_FILE": "",
                       "AWS_MAX_ATTEMPTS": "1"}  # fmt: skip
        return Person(
            lambda port: {"url": f"s3://{BUCKET}", "endpointurl": f"http://{HOST}:{port}", **keys}, environment
        )

    # Without a cache: it must see what others have written.
    files = s3fs.S3FileSystem(
        key="writer", secret=secret_of("writer"), endpoint_url=f"http://{HOST}:{port}", use_listings_cache=False
    )

    def ready() -> bool:
        with contextlib.suppress(OSError):
            return is_open(port) and files.ls("") is not None
        return False

    with serving(command, root / "log", ready):
        files.mkdir(BUCKET)
        yield Remote("s3", port, person("writer"), person("reader"), person("stranger"), Bucket(files))
    for number in (port, *ports):
        for left in Path("/tmp").glob(f"seaweedfs-*{number}.sock"):
            left.unlink()


def identity(name: str, actions: list[str]) -> dict[str, object]:
    return {
        "name": name,
        "credentials": [{"accessKey": name, "secretKey": secret_of(name)}],
        "actions": actions,
    }


@contextlib.contextmanager
def webdav(root: Path) -> Iterator[Remote]:
    """nginx, with the same folder at two addresses: one to write to and one that only reads.

    nginx and not WsgiDAV: after an interrupted connection WsgiDAV keeps the incomplete file under its final name, and
    the next push takes it for complete.
    """
    store, port = root / "store", free_port()
    for name in ("store", "body"):
        (root / name).mkdir()
    for name, known in (("writers", ["writer"]), ("readers", ["writer", "reader"])):
        lines = [f"{person}:{{PLAIN}}{secret_of(person)}\n" for person in known]
        (root / name).write_text("".join(lines), encoding="ascii")
    (root / "nginx.conf").write_text(
        textwrap.dedent(f"""\
            load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
            daemon off;
            {"user root;" if os.geteuid() == 0 else ""}
            pid {root}/pid;
            error_log stderr;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {root}/body;
                client_max_body_size 0;
                server {{
                    listen {HOST}:{port};
                    auth_basic team;
                    location /team {{
                        alias {store};
                        auth_basic_user_file {root}/writers;
                        dav_methods PUT DELETE MKCOL COPY MOVE;
                        dav_ext_methods PROPFIND OPTIONS;
                        create_full_put_path on;
                    }}
                    location /looking {{
                        alias {store};
                        auth_basic_user_file {root}/readers;
                        dav_methods PUT DELETE MKCOL COPY MOVE;
                        dav_ext_methods PROPFIND OPTIONS;
                        limit_except GET PROPFIND OPTIONS {{ deny all; }}
                    }}
                }}
            }}
            """),
        encoding="utf-8",
    )

    def person(name: str, share: str = "team") -> Person:
        user = {"user": name, "password": secret_of(name)}
        return Person(lambda port: {"url": f"webdav://{HOST}:{port}/{share}", **user}, {})

    command = [program("nginx", "nginx and libnginx-mod-http-dav-ext"), "-c", str(root / "nginx.conf"), "-e", "stderr"]
    with serving(command, root / "log", lambda: is_open(port)):
        yield Remote("webdav", port, person("writer"), person("reader", "looking"), person("stranger"), Files(store))


STARTERS = {"folder": folder, "ssh": ssh, "s3": s3, "webdav": webdav}


@contextlib.contextmanager
def serving(command: list[str], log: Path, ready: Callable[[], bool], patience: float = 30) -> Iterator[None]:
    """Runs a server until the block ends, and fails with its log where it does not get ready."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until(lambda: server.poll() is not None or ready(), patience)
        assert server.poll() is None and ready(), f"{command[0]} did not start:\n{log.read_text(errors='replace')}"
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_until(condition: Callable[[], bool], patience: float) -> bool:
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Unused ports, each different."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class CutCable:
    """A proxy in front of a port that goes dead for good once `budget` bytes went through it towards the server."""

    def __init__(self, port: int, budget: int) -> None:
        self._target = port
        self._budget = budget
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.cut.is_set():
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection((HOST, self._target)) as server:
            while not self.cut.is_set():
                for source in select.select([client, server], [], [], 0.1)[0]:
                    data = source.recv(1 << 14)
                    if not data:
                        return
                    if source is client:
                        self._budget -= len(data)
                        if self._budget < 0:
                            self._stop()
                            return
                    (server if source is client else client).sendall(data)

    def _stop(self) -> None:
        self.cut.set()
        self._listener.close()


@dataclass(frozen=True)
class Page:
    """A running `redarte serve`: where it is, its process, and the folder and the file that it writes to."""

    address: str
    process: "subprocess.Popen[str]"
    scratch: Path
    log: Path


@contextlib.contextmanager
def page(workspace: Workspace, root: Path, *options: str) -> Iterator[Page]:
    """Serves a workspace with models, and ends the service. No upload is left then."""
    scratch, log = root / "scratch", root / "log"
    scratch.mkdir()
    environment = environment_for({"PYTHONPATH": str(workspace.path / "src"), "TMPDIR": str(scratch)})
    with log.open("wb") as printed:  # and not a pipe, which would fill up
        server = subprocess.Popen(
            ["redarte", "serve", "--port", "0", *options], cwd=workspace.path, env=environment, stdout=subprocess.PIPE,
            stderr=printed, text=True, start_new_session=True,
        )  # fmt: skip
    assert server.stdout is not None
    try:
        yield Page(re.findall(r"http://[\w.]+:\d+", server.stdout.readline())[0], server, scratch, log)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.communicate(timeout=60)
    assert list(scratch.iterdir()) == []
