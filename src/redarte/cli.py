"""The command `redarte`. Results come from DVC's stages; this tells what they will meet."""

import typer

from redarte import params
from redarte.errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Tells painters apart. `dvc repro` trains it.")


@app.callback()
def _commands() -> None:
    """Tells painters apart. `dvc repro` trains it."""


@app.command()
def check() -> None:
    """Check params.yaml, and say nothing when it is right."""
    try:
        params.load()
    except UserError as error:
        _stop(error)


@app.command()
def doctor() -> None:
    """Say what this machine has, and which stages would run and for how long."""
    from redarte import doctor

    try:
        doctor.report(params.load())
    except UserError as error:
        _stop(error)


@app.command()
def experiments() -> None:
    """List the experiments of this commit: what each changed, and how good it was."""
    from redarte import experiments

    try:
        experiments.report()
    except UserError as error:
        _stop(error)


@app.command()
def offline_plots() -> None:
    """Let `dvc plots show` work without internet in this clone (`make install` does it)."""
    from redarte import plots_page

    plots_page.install()


def _stop(error: UserError) -> None:
    typer.echo(f"redarte: {error}", err=True)
    raise typer.Exit(1)
