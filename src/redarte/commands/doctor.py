"""`redarte doctor`: one screen about this machine and the work that waits for it."""

import importlib.metadata
import platform
import shutil
import subprocess

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from redarte.commands import estimates, repository
from redarte.commands.estimates import Amount
from redarte.params import STUDY, Params
from redarte.runtime import workers
from redarte.runtime.errors import UserError
from redarte.training import backend, devices

_PACKAGES = ("dvc", "keras", "albumentations", "opencv-python-headless", "numpy")


def report(settings: Params, network: str | None) -> None:
    """Prints the whole report.

    Args:
        network: as if params.yaml's `model` named it, and `beyond` too; None: params.yaml as it is.
    """
    if network is not None:
        settings = with_network(settings, network)
    console = Console(highlight=False)
    console.print(_facts(settings))
    amount = estimates.source_amount(settings)
    console.print(f"[bold]disk[/]         {_disk(settings, amount)}")
    stages = waiting_stages(network)
    if not stages:
        console.print("[bold]stages[/]       all are up to date: `dvc repro` would run nothing")
        return
    if amount is None:
        console.print(f"[bold]stages[/]       {', '.join(stages)} would run; for how long depends on the source")
        return
    with console.status("measuring this machine"):
        seconds = {stage: estimates.seconds(stage, settings, amount) for stage in stages}
    table = Table("stage that would run", "about", box=None, header_style="bold", pad_edge=False)
    for stage, duration in seconds.items():
        table.add_row(stage, _duration(duration))
    table.add_row("[bold]all[/]", f"[bold]{_duration(sum(seconds.values()))}[/]")
    console.print(table)


def with_network(settings: Params, network: str) -> Params:
    """The same parameters for another network.

    Raises:
        UserError: there is none of this name.
    """
    if network not in settings.networks:
        raise settings.no_network(network)
    beyond = settings.beyond if network in settings.trained else [*settings.beyond, network]
    return settings.model_copy(update={"model": network, "beyond": beyond})


def waiting_stages(network: str | None) -> list[str]:
    """The stages that `dvc repro` would run, or that depend on one that would, in its order.

    Args:
        network: as if params.yaml named it.
    """
    with repository.opened("the stages cannot be listed") as repo:
        changed = set(repo.status())
        # DVC's edges point from a stage to those that it depends on; dvc.yaml lists these first.
        graph = repo.index.graph
        waiting: list[str] = []
        for stage in repo.index.stages:
            needs = {other.addressing for other in graph.successors(stage)}
            if stage.addressing in changed or needs & set(waiting):
                waiting.append(stage.addressing)
    if network is None:
        return waiting
    own = [] if network in STUDY else [f"train_beyond@{network}", f"export_beyond@{network}"]
    return [stage for stage in waiting if stage not in {*own, "evaluate", "report"}] + [*own, "evaluate", "report"]


def _facts(settings: Params) -> Table:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    memory = psutil.virtual_memory()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", width=11)
    table.add_row("versions", f"Python {platform.python_version()}, {versions}")
    table.add_row("CPU", f"{workers.count()} cores, {memory.available / 1e9:.0f} GB of memory free")
    table.add_row("backend", f"{backend.NAME} {backend.VERSION}{_slower()}")
    try:
        compiled = estimates.compiled(settings.seed, settings.train)
        table.add_row("GPU", ", ".join(devices.gpu_names()) or _missing() or "none; training runs on the CPU")
        # TensorFlow's steps are tried on a GPU; elsewhere it is known which is quicker.
        tried = "tried" if backend.NAME == "tensorflow" and devices.gpu_names() else "not tried"
        table.add_row("compiled", f"{'yes' if compiled else 'no'}, {tried} (train.jit: {_yaml(settings.train.jit)})")
    except UserError as error:
        # What a training would be refused for is no reason to say nothing of the rest.
        table.add_row("GPU", f"[red]{escape(str(error))}[/] {_missing()}")
    table.add_row(
        "precision", f"{devices.precision(settings.train.precision)} (train.precision: {settings.train.precision})"
    )
    table.add_row("source", settings.fetch.source)
    return table


def _slower() -> str:
    if devices.gpu_names() or backend.NAME == "tensorflow":
        return ""
    # docs/benchmarks.md
    return "; on a CPU tensorflow trains several times as fast: unset KERAS_BACKEND"


def _missing() -> str:
    """What to type where nvidia-smi sees a GPU and the backend does not; empty where there is none, or it is used."""
    if shutil.which("nvidia-smi") is None or devices.gpu_names():
        return ""
    asked = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    lines = escape((asked.stdout + asked.stderr).strip()).splitlines() or ["nothing"]
    if asked.returncode:
        return f"none: its driver does not answer, and nvidia-smi says: {lines[0]}"
    named = "" if backend.NAME == "tensorflow" else f" BACKEND={backend.NAME}"
    return f"{lines[0]}, which {backend.NAME} does not see: type `make install{named}`"


def _yaml(value: object) -> str:
    return str(value).lower()


def _disk(settings: Params, amount: Amount | None) -> str:
    free = shutil.disk_usage(".").free
    if amount is None:
        return f"{free / 1e9:.1f} GB free; what the source needs is known once it is set and fetched"
    need = estimates.bytes_needed(settings, amount)
    verdict = "" if need < free else "  [red]not enough[/]"
    return f"{free / 1e9:.1f} GB free, about {need / 1e9:.1f} GB needed for {amount.pictures} pictures{verdict}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
