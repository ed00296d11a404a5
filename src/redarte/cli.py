"""The command `redarte`. Results come from DVC's stages; this tells what they will meet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from redarte import params
from redarte.errors import UserError

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


@app.command()
def check(
    lock: Annotated[
        bool, typer.Option("--lock", help="Also check that dvc.lock is of this code and params.yaml.")
    ] = False,
) -> None:
    """Check params.yaml, and say nothing when it is right."""
    with _in_a_sentence():
        params.load()
        if lock:
            from redarte import lock as lock_file

            lock_file.check()


@app.command()
def doctor() -> None:
    """Say what this machine has, and which stages would run and for how long."""
    from redarte import doctor

    with _in_a_sentence():
        doctor.report(params.load())


@app.command()
def experiments() -> None:
    """List the experiments of this commit: what each changed, and how good it was."""
    from redarte import experiments

    with _in_a_sentence():
        experiments.report()


@app.command()
def offline_plots() -> None:
    """Let `dvc plots show` work without internet in this clone (`make install` does it)."""
    from redarte import plots_page

    plots_page.install()
