"""Time of DVC for many small images, in one file each, in one tar file for each artist (shards), and in one archive.

    python -m benchmarks.many_files --images 50000 --remote folder

Images of 224 px and about 12 kB are generated from a seed. They are added, pushed, and pulled into a clone without a
cache. data/resized has the layout `shards`, which training reads without unpacking. `--remote ssh` pushes to
OpenSSH's sshd on this machine. The layout `rsync` is the layout `folder`, but rsync and not DVC copies the objects
between the caches and the server.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tests import servers
from tests.servers import Person

from redarte.stages import resize

ARTISTS = 50


def draw(folder: Path, images: int) -> None:
    """Writes images of smooth noise, which take as many bytes as paintings: 12 kB at 224 px."""
    rng = np.random.default_rng(0)
    for number in range(images):
        noise = cv2.resize(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), (224, 224), interpolation=cv2.INTER_CUBIC)
        directory = folder / f"Artist_{number % ARTISTS:02d}"
        directory.mkdir(parents=True, exist_ok=True)
        content = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
        (directory / f"{number:06d}.jpg").write_bytes(content.tobytes())


def as_folder(images: Path, target: Path) -> None:
    shutil.copytree(images, target)


def as_shards(images: Path, target: Path) -> None:
    target.mkdir()
    for artist in sorted(images.iterdir()):
        files = ((f"{artist.name}/{file.name}", file.read_bytes()) for file in sorted(artist.iterdir()))
        resize.write_shard(target / f"{artist.name}.tar", files)


def as_archive(images: Path, target: Path) -> None:
    target.mkdir()
    pack(target / "images.tar", sorted(images.rglob("*.jpg")), images)


def pack(archive: Path, files: list[Path], root: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        for file in files:
            tar.add(file, file.relative_to(root).as_posix())


LAYOUTS = {"folder": as_folder, "shards": as_shards, "archive": as_archive, "rsync": as_folder}


class Clock:
    """Measures the seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def dvc(repository: Path, *arguments: str, person: Person) -> None:
    environment = {**os.environ, **person.environment, "DVC_NO_ANALYTICS": "1"}
    program = str(Path(sys.executable).with_name("dvc"))
    subprocess.run([program, *arguments, "--quiet"], cwd=repository, check=True, env=environment)


def repository(path: Path, directory: Path, person: Person, port: int, more: dict[str, str]) -> Path:
    """Creates a repository with an empty cache, a new remote and a new site cache.

    Args:
        more: further settings of the remote.
    """
    path.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=path, check=True)
    dvc(path, "init", person=person)
    settings = {**person.settings(port), **more}
    lines = [f"    {key} = {value}" for key, value in settings.items()]
    text = [
        "[core]",
        "    remote = team",
        f"    site_cache_dir = {directory / path.name}-site",
        "['remote \"team\"']",
        *lines,
    ]
    (path / ".dvc/config.local").write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def rsync(source: str, target: str, directory: Path, person: Person, port: int) -> None:
    """Copies the missing objects by rsync. A cache and a remote store an object under the same name."""
    settings = person.settings(port)
    known = f"-o UserKnownHostsFile={directory}/home/.ssh/known_hosts"
    shell = f"ssh -p {port} -i {settings['keyfile']} -l {settings['user']} {known}"
    command = ["rsync", "--archive", "--ignore-existing", "--mkpath", "--rsh", shell, source, target]
    subprocess.run(command, check=True)


def measure(images: Path, layout: str, remote: str, directory: Path, more: dict[str, str]) -> dict[str, float]:
    clock = Clock()
    with servers.STARTERS[remote](directory) as running:
        ana, ben = (
            repository(directory / name, directory, running.writer, running.port, more) for name in ("ana", "ben")
        )
        with clock.step("pack"):
            LAYOUTS[layout](images, ana / "data")
        with clock.step("add"):
            dvc(ana, "add", "data", person=running.writer)
        by_rsync = (directory, running.writer, running.port) if layout == "rsync" else None
        with clock.step("push"):
            if by_rsync:
                rsync(f"{ana}/.dvc/cache/", f"{servers.HOST}:{directory}/store/", *by_rsync)
            else:
                dvc(ana, "push", person=running.writer)
        shutil.copy2(ana / "data.dvc", ben)
        with clock.step("pull"):
            if by_rsync:
                rsync(f"{servers.HOST}:{directory}/store/", f"{ben}/.dvc/cache/", *by_rsync)
                dvc(ben, "checkout", person=running.writer)
            else:
                dvc(ben, "pull", person=running.writer)
        with clock.step("unpack"):
            for archive in sorted((ben / "data").glob("*.tar")):
                with tarfile.open(archive) as tar:
                    tar.extractall(ben / "ready", filter="data")
        shutil.rmtree(ben / "data")
        with clock.step("checkout"):
            dvc(ben, "checkout", person=running.writer)
    return clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--remote", choices=["folder", "ssh"], default="folder")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["folder", "shards", "archive"])
    parser.add_argument(
        "--setting", nargs=2, action="append", default=[["verify", "true"]], metavar=("KEY", "VALUE"),
        help="a setting of the remote, for example: --setting jobs 32",
    )  # fmt: skip
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        images = Path(root, "images")
        draw(images, options.images)
        size = sum(file.stat().st_size for file in images.rglob("*.jpg"))
        print(f"{options.images} images, {size / 1e6:.0f} MB, remote: {options.remote}; seconds", flush=True)
        print("| layout | pack | add | push | pull | unpack | ready (pull + unpack) | checkout |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for layout in options.layouts:
            directory = Path(root, layout)
            directory.mkdir()
            seconds = measure(images, layout, options.remote, directory, dict(options.setting))
            ready = seconds["pull"] + seconds["unpack"]
            columns = [
                *(seconds[name] for name in ("pack", "add", "push", "pull", "unpack")),
                ready,
                seconds["checkout"],
            ]
            print(f"| {layout} |", " | ".join(f"{value:.1f}" for value in columns), "|", flush=True)
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
