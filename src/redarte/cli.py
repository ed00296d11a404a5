"""The command `redarte`. Results come from DVC's stages; this tells what they will meet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from redarte.runtime import console
from redarte.runtime.errors import UserError

_MAX_PIXELS = 100e6  # of a picture that somebody else made
Network = Annotated[
    str | None,
    typer.Option(
        help="red1, another network in models/, or an .onnx file; by default that of params.yaml's `model`.",
        show_default=False,
    ),
]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Tells painters apart. `dvc repro` trains it.")


@app.callback()
def _commands() -> None:
    """Tells painters apart. `dvc repro` trains it."""
    console.settle()


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """Ends the command with a person's mistake told in a sentence, and exit code 1."""
    try:
        yield
    except UserError as error:
        typer.echo(f"redarte: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def check(
    lock: Annotated[
        bool, typer.Option("--lock", help="Also check that dvc.lock is of this code and params.yaml.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Also look through DVC's cache, and delete what is not whole in it.")
    ] = False,
) -> None:
    """Check params.yaml, and that the next run deletes no file of yours. Prints nothing if all is right."""
    from redarte import params
    from redarte.commands import own_files, repository

    with _in_a_sentence():
        settings = params.load()
        repository.check()
        if not lock and not cache:
            own_files.check(settings)
        if lock:
            from redarte.commands import lock as lock_file

            lock_file.check()
        if cache:
            from redarte.commands import cache as dvc_cache

            dvc_cache.mend()


@app.command()
def doctor(
    network: Annotated[
        str | None, typer.Argument(help="As if params.yaml named this network.", show_default=False)
    ] = None,
) -> None:
    """Say what this machine has, and which stages would run and for how long."""
    from redarte import params

    with _in_a_sentence():
        settings = params.load()
        # Imports TensorFlow, which takes seconds.
        from redarte.commands import doctor

        doctor.report(settings, network)


@app.command()
def experiments() -> None:
    """List the experiments of this commit: what each changed, and how good it was."""
    from redarte.commands import experiments

    with _in_a_sentence():
        experiments.report()


@app.command()
def crossval(
    networks: Annotated[
        list[str] | None, typer.Argument(help="Such as red1 and finetuned; by default the study's three.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=100, help="How many.")] = 5,
    changes: Annotated[
        list[str] | None, typer.Option("--set-param", "-S", help="As for `dvc exp run`.", show_default=False)
    ] = None,
) -> None:
    """Measure networks on every picture, fold by fold; a run that was interrupted goes on."""
    from redarte import params
    from redarte.commands import crossval

    with _in_a_sentence():
        typer.echo(crossval.run(params.load(), networks or params.STUDY, folds, changes or []))


@app.command()
def push_runs(
    remote: Annotated[
        str | None, typer.Option(help="A DVC remote; by default the default one.", show_default=False)
    ] = None,
) -> None:
    """Push every run that this clone keeps, so that a teammate's `dvc repro --pull` takes it instead of running."""
    from redarte.commands import push_runs

    with _in_a_sentence():
        typer.echo(f"{push_runs.push(remote)} files pushed")


@app.command()
def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Files, or folders of them.", show_default=False)],
    network: Network = None,
    top: Annotated[int, typer.Option(min=1, help="How many painters to name for each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line, for programs.")] = False,
) -> None:
    """Say who painted some pictures, with probabilities."""
    from redarte.commands import predict

    with _in_a_sentence():
        failed = predict.report(network, pictures, top, as_json, _MAX_PIXELS)
    if failed:
        raise typer.Exit(1)


@app.command()
def explain(
    picture: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write the explained picture: a .jpg.", show_default=False)],
    network: Network = None,
    artist: Annotated[
        str | None, typer.Option(help="Explain this painter's probability instead of the likeliest's.")
    ] = None,
) -> None:
    """Show where in a picture a network sees its painter."""
    from redarte.commands import explain

    with _in_a_sentence():
        typer.echo(explain.write(network, picture, out, artist, _MAX_PIXELS))


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default lets in this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 7860,
) -> None:
    """Open a page on which pictures can be tried."""
    from redarte.commands import serve

    with _in_a_sentence():
        serve.serve(host, port)


@app.command()
def offline_plots() -> None:
    """Let `dvc plots show` work without internet in this clone (`make install` does it)."""
    from redarte.commands import plots_page

    plots_page.install()
