"""The command `redarte`. Results come from DVC's stages; this tells what they will meet."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redarte.errors import UserError

if TYPE_CHECKING:
    from redarte.prediction import Network as Loaded

_MAX_PIXELS = 100e6  # of a picture that somebody else made
_MODELS = Path("models")
Network = Annotated[
    str | None,
    typer.Option(
        help="red1, red2, red3, fisher, finetuned or an .onnx file; by default the network of params.yaml's `model`.",
        show_default=False,
    ),
]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Tells painters apart. `dvc repro` trains it.")


@app.callback()
def _commands() -> None:
    """Tells painters apart. `dvc repro` trains it."""


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """Ends the command with a person's mistake told in a sentence, and exit code 1."""
    try:
        yield
    except UserError as error:
        typer.echo(f"redarte: {error}", err=True)
        raise typer.Exit(1) from None


def _network(name: str | None) -> "Loaded":
    """The network that a person means."""
    from redarte import prediction

    if name is None:
        from redarte import params

        name = params.load().model
    return prediction.Network(Path(name) if name.endswith(".onnx") else _MODELS / f"{name}.onnx")


@app.command()
def check(
    lock: Annotated[
        bool, typer.Option("--lock", help="Also check that dvc.lock is of this code and params.yaml.")
    ] = False,
) -> None:
    """Check params.yaml, and say nothing when it is right."""
    from redarte import params

    with _in_a_sentence():
        params.load()
        if lock:
            from redarte import lock as lock_file

            lock_file.check()


@app.command()
def doctor() -> None:
    """Say what this machine has, and which stages would run and for how long."""
    from redarte import doctor, params

    with _in_a_sentence():
        doctor.report(params.load())


@app.command()
def experiments() -> None:
    """List the experiments of this commit: what each changed, and how good it was."""
    from redarte import experiments

    with _in_a_sentence():
        experiments.report()


@app.command()
def crossval(
    networks: Annotated[
        list[str] | None, typer.Argument(help="red1, red2, red3, fisher, finetuned; by default the first three.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=100, help="How many.")] = 5,
    changes: Annotated[
        list[str] | None, typer.Option("--set-param", "-S", help="As for `dvc exp run`.", show_default=False)
    ] = None,
) -> None:
    """Measure networks on every picture, fold by fold; a run that was interrupted goes on."""
    from redarte import crossval, params

    with _in_a_sentence():
        names = [params.network_name("crossval", [name], params.NETWORKS) for name in networks or params.STUDY]
        typer.echo(crossval.run(params.load(), names, folds, changes or []))


@app.command()
def push_runs(
    remote: Annotated[
        str | None, typer.Option(help="A DVC remote; by default the default one.", show_default=False)
    ] = None,
) -> None:
    """Push every run that this clone keeps, so that a teammate's `dvc repro --pull` takes it instead of running."""
    from redarte import runs

    with _in_a_sentence():
        typer.echo(f"{runs.push(remote)} files pushed")


@app.command()
def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Files, or folders of them.", show_default=False)],
    network: Network = None,
    top: Annotated[int, typer.Option(min=1, help="How many painters to name for each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line, for programs.")] = False,
) -> None:
    """Say who painted some pictures, with probabilities."""
    from redarte import predict

    with _in_a_sentence():
        failed = predict.report(_network(network), pictures, top, as_json, _MAX_PIXELS)
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
    from redarte import explain

    with _in_a_sentence():
        typer.echo(explain.write(_network(network), picture, out, artist, _MAX_PIXELS))


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default lets in this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 7860,
) -> None:
    """Open a page on which pictures can be tried."""
    from redarte import serving

    with _in_a_sentence():
        serving.serve(host, port)


@app.command()
def offline_plots() -> None:
    """Let `dvc plots show` work without internet in this clone (`make install` does it)."""
    from redarte import plots_page

    plots_page.install()
