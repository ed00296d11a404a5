"""`redarte doctor`: one screen about this machine and the work that waits for it.

Times are measured here, in some seconds, on a few pictures and a few steps of each network, and multiplied.
"""

import importlib.metadata
import platform
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import psutil
from dvc.repo import Repo
from rich.console import Console
from rich.table import Table

from redarte import backbones, devices, jobs, networks, paintings, transforms, workers
from redarte.params import NETWORKS, STUDY, Finetuned, Params, Sample, StudyName
from redarte.sources import sample

_PACKAGES = ("dvc", "tensorflow", "keras", "albumentations", "opencv-python-headless", "numpy")
_START, _TENSORS_START = 1.0, 8.0  # seconds until a stage begins to work, without and with TensorFlow
_COPY, _ANSWER = 0.0005, 0.01  # seconds to copy a picture, and to put it to a network; minor parts of the whole
_MIXTURE, _FISHER = 25.0, 0.06  # seconds for the mixture of fisher, and to describe a picture of 640 px
_ARTISTS = 50
# The study's data set as Kaggle serves it: pictures, and bytes of the zip (about the same once unpacked).
_KAGGLE = (8_446, 2.2e9)
_SAMPLE_PICTURE = 125e3  # bytes


@dataclass(frozen=True)
class Amount:
    """How much the configured source holds."""

    pictures: int
    bytes: float
    extra: float = 0.0  # bytes that lie beside it while it is fetched


def report(settings: Params) -> None:
    """Prints the whole report."""
    console = Console(highlight=False)
    console.print(_facts(settings))
    amount = source_amount(settings)
    console.print(f"[bold]disk[/]         {_disk(settings, amount)}")
    stages = [stage for stage in waiting_stages() if not _has_nothing_to_do(stage, settings.model)]
    if not stages:
        console.print("[bold]stages[/]       all are up to date: `dvc repro` would run nothing")
        return
    if amount is None:
        console.print(f"[bold]stages[/]       {', '.join(stages)} would run; for how long depends on the source")
        return
    with console.status("measuring this machine"):
        seconds = {stage: estimate(stage, settings, amount) for stage in stages}
    table = Table("stage that would run", "about", box=None, header_style="bold", pad_edge=False)
    for stage, duration in seconds.items():
        table.add_row(stage, _duration(duration))
    table.add_row("[bold]all[/]", f"[bold]{_duration(sum(seconds.values()))}[/]")
    console.print(table)


def _has_nothing_to_do(stage: str, model: str) -> bool:
    """Whether a stage is done at once, because its network is trained only where `model` names it."""
    network = stage.partition("_")[2]
    return network in NETWORKS and network not in (*STUDY, model)


def _facts(settings: Params) -> Table:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    memory = psutil.virtual_memory()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", width=11)
    table.add_row("versions", f"Python {platform.python_version()}, {versions}")
    table.add_row("CPU", f"{workers.count()} cores, {memory.available / 1e9:.0f} GB of memory free")
    table.add_row("GPU", ", ".join(devices.gpu_names()) or "none that TensorFlow sees; training runs on the CPU")
    table.add_row(
        "precision", f"{devices.precision(settings.train.precision)} (train.precision: {settings.train.precision})"
    )
    table.add_row("source", settings.fetch.source)
    return table


def source_amount(settings: Params) -> Amount | None:
    """How much the configured source holds; None where that is not known before it is fetched."""
    fetch = settings.fetch
    match fetch.source:
        case "sample":
            pictures = fetch.sample.schools * fetch.sample.pictures
            return Amount(pictures, pictures * _SAMPLE_PICTURE)
        case "kaggle":
            return Amount(*_KAGGLE, extra=2 * _KAGGLE[1])
        case "folder" if fetch.folder.path and Path(fetch.folder.path).expanduser().is_dir():
            files = (path for path in Path(fetch.folder.path).expanduser().rglob("*") if path.is_file())
            return _count((path.name, path.stat().st_size) for path in files)
        case "archive" if fetch.archive.path and Path(fetch.archive.path).expanduser().is_file():
            file = Path(fetch.archive.path).expanduser()
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as opened:
                    return _count((member.filename, member.file_size) for member in opened.infolist())
            if tarfile.is_tarfile(file):
                with tarfile.open(file) as opened_tar:
                    return _count((member.name, member.size) for member in opened_tar)
    return None


def _count(files: Iterable[tuple[str, int]]) -> Amount:
    sizes = [size for name, size in files if Path(name).suffix.lower() in paintings.SUFFIXES]
    return Amount(len(sizes), float(sum(sizes)))


def _disk(settings: Params, amount: Amount | None) -> str:
    free = shutil.disk_usage(".").free
    if amount is None:
        return f"{free / 1e9:.1f} GB free; what the source needs is known once it is set and fetched"
    need = bytes_needed(settings, amount)
    verdict = "" if need < free else "  [red]not enough[/]"
    return f"{free / 1e9:.1f} GB free, about {need / 1e9:.1f} GB needed for {amount.pictures} pictures{verdict}"


def bytes_needed(settings: Params, amount: Amount) -> float:
    """The bytes of a whole run: every output once in the workspace and once in DVC's cache."""
    copies = amount.pictures * settings.split.train * len(settings.augment.copies)
    # JPEG of these pictures at quality 92 to 95 takes about 0.3 bytes a pixel, and 0.5 once it is small.
    of_copy = min(amount.bytes / max(amount.pictures, 1), 0.3 * settings.augment.max_side**2)
    resized = (amount.pictures + copies) * 0.5 * settings.resize.size**2
    weights = 3 * 4 * (settings.resize.size // 8) ** 2 * 128 * _ARTISTS
    return amount.extra + 2 * (2 * amount.bytes + copies * of_copy + resized + weights)


def waiting_stages() -> list[str]:
    """The stages that `dvc repro` would run, or that depend on one that would, in its order."""
    with Repo() as repo:
        changed = set(repo.status())
        # DVC's edges point from a stage to those that it depends on; dvc.yaml lists these first.
        graph = repo.index.graph
        waiting: list[str] = []
        for stage in repo.index.stages:
            needs = {other.addressing for other in graph.successors(stage)}
            if stage.addressing in changed or needs & set(waiting):
                waiting.append(stage.addressing)
    return waiting


def estimate(stage: str, settings: Params, amount: Amount) -> float:
    """About how many seconds a stage takes on this machine."""
    learned = amount.pictures * settings.split.train
    tested = amount.pictures - learned
    versions = learned * (1 + len(settings.augment.copies))
    match stage:
        case "fetch":
            return _START + amount.pictures * _fetch_seconds(settings) / workers.count()
        case "split":
            return _START + amount.pictures * _COPY
        case "augment":
            return _START + learned * _augment_seconds(settings) / workers.count()
        case "resize":
            return _START + (versions + tested) * _resize_seconds(settings) / workers.count()
        case "train_finetuned":
            return _TENSORS_START + (learned + tested) * _seeing(settings.finetuned) * (
                1 + 3 * settings.finetuned.tail.epochs
            )
        case "train_fisher":
            return _TENSORS_START + _MIXTURE + 2 * (learned + tested) * _answer_seconds("fisher", settings)
        case "export_red1" | "export_red2" | "export_red3" | "export_fisher" | "export_finetuned":
            return _TENSORS_START + (learned + tested) * _answer_seconds(stage.removeprefix("export_"), settings)
        case "evaluate" | "report":
            return _START + tested * _answer_seconds(settings.model, settings)
        case "compare":
            return _START + 3 * tested / 2 * _ANSWER
    name: StudyName = stage.removeprefix("train_")  # type: ignore[assignment]
    return _TENSORS_START + settings.train.epochs * versions * _training_seconds(name, settings)


def _seconds(work: Callable[[], object], times: int = 3) -> float:
    work()  # the first time also loads and allocates
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def _fetch_seconds(settings: Params) -> float:
    if settings.fetch.source == "sample":
        return _seconds(lambda: sample.paint("School_of_Points", 1, settings.fetch.sample))
    with _probe() as picture:
        return _seconds(lambda: paintings.problem(picture, 1e9))


def _augment_seconds(settings: Params) -> float:
    with _probe() as picture:
        written = picture.with_name("copy.jpg")

        def work() -> None:
            read = paintings.read_within(picture, settings.augment.max_side)
            for _, copy in transforms.copies(read, "probe", settings.augment, settings.seed):
                paintings.write_jpeg(written, copy, settings.augment.quality)

        return _seconds(work)


def _resize_seconds(settings: Params) -> float:
    with _probe() as picture:
        written = picture.with_name("square.jpg")
        side, quality = settings.resize.size, settings.resize.quality
        return _seconds(lambda: paintings.write_jpeg(written, paintings.read_square(picture, side), quality))


@contextmanager
def _probe() -> Iterator[Path]:
    """A picture of the study's median size, for the time of the block."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "probe.jpg")
        painted = sample.paint("School_of_Points", 1, Sample(schools=2, pictures=3, seed=0))
        paintings.write_jpeg(file, painted, quality=92)
        yield file


def _training_seconds(name: StudyName, settings: Params) -> float:
    """Seconds a picture of one training step, in the precision that training would use."""
    side, batch = settings.resize.size, settings.train.batch_size
    policy = devices.precision(settings.train.precision)
    built = networks.build(name, side, _ARTISTS, getattr(settings, name), policy)
    network = jobs.compiled(built, settings.train, policy, steps=1)
    pictures = np.zeros((batch, side, side, 3), np.uint8)
    labels = np.eye(_ARTISTS, dtype=np.float32)[np.arange(batch) % _ARTISTS]
    return _seconds(lambda: network.train_on_batch(pictures, labels)) / batch


def _answer_seconds(network: str, settings: Params) -> float:
    """Seconds in which a network that was trained answers for a picture."""
    match network:
        case "finetuned":
            return _seeing(settings.finetuned)
        case "fisher":
            return _FISHER * (settings.fisher.input_size / 640) ** 2
        case _:
            return _ANSWER


@cache
def _seeing(chosen: Finetuned) -> float:
    """Seconds in which a backbone sees a picture."""
    backbone = backbones.load(chosen)
    side = chosen.input_size
    pictures = np.zeros((8, side, side, 3), np.uint8)
    return _seconds(lambda: backbone.predict_on_batch(pictures), times=1) / len(pictures)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
