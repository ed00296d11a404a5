"""`redarte doctor`: what this machine has, and which stages would run and for how long."""

import importlib.metadata
import platform
import shutil
import subprocess
from typing import Any

from rich.console import Console
from rich.table import Table

from redarte import devices, params
from redarte.commands import estimates
from redarte.commands.estimates import Amount
from redarte.devices import backend
from redarte.history import repository
from redarte.params import STUDY, Params
from redarte.runtime import memory, workers
from redarte.runtime.console import markup
from redarte.runtime.errors import UserError

_PACKAGES = ("dvc", "keras", "albumentations", "opencv-python-headless", "numpy")


def report(settings: Params, model: str | None) -> None:
    """Prints the report.

    Args:
        model: as if `model` (and `extra_models`) named it; None: params.yaml as it is.
    """
    if model is not None:
        settings = with_model(settings, model)
    console = Console(highlight=False)
    console.print(_facts(settings))
    amount = estimates.source_amount(settings)
    console.print(f"[bold]disk[/]         {_disk(settings, amount)}")
    stages, restored = stages_to_run(model)
    if restored:
        console.print(f"[bold]run cache[/]    {', '.join(restored)}: restored, not run")
    if not stages:
        console.print("[bold]stages[/]       all are up to date: `dvc repro` would run nothing")
        return
    if amount is None:
        console.print(f"[bold]stages[/]       {', '.join(stages)} would run; the time depends on the source")
        return
    total, unknown = 0.0, dict[str, None]()
    table = Table("stage that would run", "about", box=None, header_style="bold", pad_edge=False)
    with console.status("measuring this machine"):
        for stage in stages:
            try:
                seconds = estimates.seconds(stage, settings, amount)
            except UserError as error:
                # A backbone that cannot be loaded must not hide the other stages.
                unknown[str(error)] = None
                table.add_row(stage, "unknown")
            else:
                total += seconds
                table.add_row(stage, _duration(seconds))
    table.add_row(f"[bold]{'the others' if unknown else 'all'}[/]", f"[bold]{_duration(total)}[/]")
    console.print(table)
    for message in unknown:
        console.print(f"[red]unknown:[/] {markup(message)}")


def with_model(settings: Params, model: str) -> Params:
    """Returns the same parameters for another model."""
    params.check_model(model)
    extra = settings.extra_models if model in settings.trained_models else [*settings.extra_models, model]
    return settings.model_copy(update={"model": model, "extra_models": extra})


def stages_to_run(model: str | None) -> tuple[list[str], list[str]]:
    """Returns the stages that `dvc repro` would run, and those that it would restore from the run cache, in order."""
    with repository.opened("the stages cannot be listed") as repo:
        changed = set(repo.status())
        # DVC's edges point from a stage to its dependencies, and dvc.yaml lists dependencies first.
        graph = repo.index.graph
        stages: list[str] = []
        for stage in repo.index.stages:
            dependencies = {other.addressing for other in graph.successors(stage)}
            if stage.addressing in changed or dependencies & set(stages):
                stages.append(stage.addressing)
        restored = _restored(repo, [stage for stage in repo.index.stages if stage.addressing in stages])
    stages = [stage for stage in stages if stage not in restored]
    if model is None:
        return stages, restored
    extra = [] if model in STUDY else [f"train_extra@{model}", f"export_extra@{model}"]
    model_stages = [*extra, "evaluate", "report"]
    return [stage for stage in stages if stage not in model_stages] + model_stages, restored


def _restored(repo: Any, stages: list[Any]) -> list[str]:
    """The stages whose run with the same inputs DVC's run cache has."""
    from dvc.dependency import ParamsDependency
    from dvc_data.hashfile.hash_info import HashInfo

    restored: list[str] = []
    produced: dict[str, str | None] = {out.def_path: None for stage in stages for out in stage.outs}
    for stage in stages:
        dependencies = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
        if any(produced.get(dep.def_path, "") is None for dep in dependencies):
            continue  # an input is not known before another stage has run
        stage.save_deps(allow_missing=True)
        for dep in dependencies:
            if dep.def_path in produced:
                dep.hash_info = HashInfo("md5", produced[dep.def_path])
        try:
            run = repo.stage_cache._load(stage)  # DVC has no public function for it
        except AssertionError:  # an input is missing
            continue
        if run:
            restored.append(stage.addressing)
            produced |= {out["path"]: out["md5"] for out in run["outs"]}
    return restored


def _facts(settings: Params) -> Table:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", width=11)
    table.add_row("versions", f"Python {platform.python_version()}, {versions}")
    table.add_row("CPU", f"{workers.count()} cores, {memory.available() / 1e9:.0f} GB of memory free")
    table.add_row("backend", f"{backend.NAME} {backend.VERSION}{_slow_backend()}")
    try:
        devices.prepare(settings.seed, settings.train)
        table.add_row("GPU", ", ".join(devices.gpu_names()) or _missing_gpu() or "none; training runs on the CPU")
    except UserError as error:
        # What prevents a training must not hide the rest of the report.
        table.add_row("GPU", f"[red]{markup(str(error))}[/] {_missing_gpu()}")
    table.add_row(
        "precision", f"{devices.precision(settings.train.precision)} (train.precision: {settings.train.precision})"
    )
    table.add_row("source", settings.fetch.source)
    return table


def _slow_backend() -> str:
    if devices.gpu_names() or backend.NAME == "tensorflow":
        return ""
    # docs/benchmarks.md
    return "; on a CPU tensorflow trains several times as fast: set train.backend to tensorflow"


def _missing_gpu() -> str:
    """What to type where nvidia-smi finds a GPU and the backend does not; "" where there is none, or it is used."""
    if shutil.which("nvidia-smi") is None or devices.gpu_names():
        return ""
    query = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    lines = markup((query.stdout + query.stderr).strip()).splitlines() or ["nothing"]
    if query.returncode:
        return f"none: the driver does not respond, and nvidia-smi prints: {lines[0]}"
    option = "" if backend.NAME == "tensorflow" else f" BACKEND={backend.NAME}"
    return f"{lines[0]}, which {backend.NAME} does not find: type `make install{option}`"


def _disk(settings: Params, amount: Amount | None) -> str:
    free = shutil.disk_usage(".").free
    if amount is None:
        return f"{free / 1e9:.1f} GB free; the space that the source needs is known after fetch"
    needed = estimates.bytes_needed(settings, amount)
    verdict = "" if needed < free else "  [red]not enough[/]"
    return f"{free / 1e9:.1f} GB free, about {needed / 1e9:.1f} GB needed for {amount.images} images{verdict}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
