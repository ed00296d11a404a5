"""The command `redarte`. DVC's stages compute the results; the subcommands start, inspect and use them."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import redarte
from redarte.runtime import console, projects
from redarte.runtime.errors import UserError
from redarte.runtime.projects import located

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="red1, another model in models/, or an .onnx file; by default params.yaml's `model`.",
        show_default=False,
    ),
]


class Commands(TyperGroup):
    """Reports an error that the user can fix in one sentence, with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a subcommand.

        Returns:
            None.
        """
        try:
            return super().invoke(ctx)
        except UserError as error:
            message = str(error)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in ("", "redarte"):
                raise
            extra = "serve" if ctx.invoked_subcommand == "serve" else "pipeline"
            message = (
                f"the package {package} is not installed; type: python -m pip install 'redarte[{extra}]', or in a "
                "clone of the project: make install"
            )
        console.warn(message)
        raise typer.Exit(1)


app = typer.Typer(cls=Commands, no_args_is_help=True, help="Recognises the artists of paintings.")


def _print_version(requested: bool) -> None:
    if requested:
        console.say(f"redarte {redarte.__version__}")
        raise typer.Exit


@app.callback()
def _commands(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Recognises the artists of paintings. `dvc repro` trains the models."""
    console.setup_process()
    projects.enter()


@app.command()
def check(
    lock: Annotated[
        bool, typer.Option("--lock", help="Also check that dvc.lock matches the code and params.yaml.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Also check DVC's cache, and delete corrupt files from it.")
    ] = False,
) -> None:
    """Check params.yaml, and that the next run deletes no file of yours. Prints nothing if all is well."""
    from redarte import params
    from redarte.history import own_files, repository

    settings = params.load()
    repository.check()
    if not lock and not cache:
        own_files.check(settings)
    if lock:
        from redarte.history import lock as lock_file

        lock_file.check()
    if cache:
        from redarte.history import dvc_cache

        dvc_cache.repair()


@app.command()
def doctor(
    model: Annotated[str | None, typer.Argument(help="As if params.yaml named this model.", show_default=False)] = None,
) -> None:
    """Print what this machine has, and which stages would run and for how long."""
    from redarte import params

    settings = params.load()
    os.environ["KERAS_BACKEND"] = settings.keras_backend
    # Imports Keras, which takes seconds.
    from redarte.commands import doctor

    doctor.report(settings, model)


@app.command()
def experiments(
    as_html: Annotated[
        bool, typer.Option("--html", help="Write plots/experiments.html: metrics, curves and images side by side.")
    ] = False,
    all_commits: Annotated[bool, typer.Option("--all", "-A", help="Of all commits, as `dvc exp show -A`.")] = False,
) -> None:
    """List the experiments of this commit: what each changed, and its metrics."""
    if as_html and all_commits:
        raise UserError("use --html or --all, not both.")
    if as_html:
        from redarte.history import experiments_page

        console.say(experiments_page.write())
    else:
        from redarte.history import experiments

        experiments.report(all_commits)


@app.command()
def report(
    copy: Annotated[
        Path, typer.Argument(parser=located, help="Where to write the copy: an .html file.", show_default=False)
    ],
) -> None:
    """Copy plots/report.html with the date and the commit of its run, to send it to somebody."""
    from redarte.commands import report

    console.say(report.write(copy))


@app.command()
def crossval(
    models: Annotated[
        list[str] | None, typer.Argument(help="Such as red1 and finetuned; by default the study's three.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=100, help="How many.")] = 5,
    changes: Annotated[
        list[str] | None, typer.Option("--set-param", "-S", help="As for `dvc exp run`.", show_default=False)
    ] = None,
) -> None:
    """Cross-validate models; an interrupted run continues."""
    from redarte import params
    from redarte.history import crossval

    console.say(crossval.run(params.load(), models or params.STUDY, folds, changes or []))


@app.command()
def train(
    images: Annotated[
        str,
        typer.Argument(
            parser=projects.located_source,
            help="A folder or archive with a folder of images for each artist, or its http(s) address.",
            show_default=False,
        ),
    ],
    model: Annotated[str, typer.Option(help="finetuned, fisher, red1, red2 or red3.")] = "finetuned",
    backbone: Annotated[
        str | None,
        typer.Option(
            parser=projects.located_source,
            help="Of finetuned: a name of keras.applications, or a .keras file.",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set-param", "-S", help="As for `dvc exp run`.", show_default=False)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller images, for a first look.")] = False,
) -> None:
    """Train a model on your images, and write its report: one `dvc exp run`, which it prints."""
    from redarte.commands import train

    train.run(images, model, backbone, changes or [], quick)


@app.command()
def push_runs(
    remote: Annotated[
        str | None, typer.Option(help="A DVC remote; by default the default one.", show_default=False)
    ] = None,
) -> None:
    """Push every run of this clone, so that a teammate's `dvc repro --pull` restores it instead of running."""
    from redarte.history import push_runs

    console.say(f"{push_runs.push(remote)} files pushed")


@app.command()
def predict(
    images: Annotated[
        list[Path], typer.Argument(parser=located, help="Files, or folders of files.", show_default=False)
    ],
    model: ModelOption = None,
    top: Annotated[int, typer.Option(min=1, help="How many artists to print for each image.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table as CSV, for a spreadsheet.")] = False,
) -> None:
    """Predict the artists of images, with probabilities."""
    from redarte.commands import predict

    if as_json and as_csv:
        raise UserError("use --json or --csv, not both.")
    style: predict.Style = "json" if as_json else "csv" if as_csv else "table"
    failed = predict.report(model, images, top, style)
    if failed:
        raise typer.Exit(1)


@app.command()
def label_issues(
    model: ModelOption = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many images; by default 20 in print, 200 on the page."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, and write no page.")] = False,
) -> None:
    """List the images whose artist is probably wrong, and write pages to correct them and to see all images."""
    from redarte.commands import label_issues

    label_issues.report(model, top, as_json)


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(parser=located, help="An image.", show_default=False)],
    out: Annotated[Path, typer.Option(parser=located, help="Where to write the result: a .jpg.", show_default=False)],
    model: ModelOption = None,
    artist: Annotated[
        str | None, typer.Option(help="Explain this artist's probability instead of the predicted artist's.")
    ] = None,
) -> None:
    """Show which regions of an image speak for an artist."""
    from redarte.commands import explain

    console.say(explain.write(model, image, out, artist))


@app.command()
def serve(
    models: Annotated[
        list[Path] | None,
        typer.Argument(parser=located, help="Files .onnx, or folders of them; by default models/.", show_default=False),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; by default only this machine has access.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 7860,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="Another host name by which browsers open the service; repeatable.", show_default=False
        ),
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--proxy", help="A reverse proxy forwards the requests: none counts as this machine's.")
    ] = False,
) -> None:
    """Serve a page for predictions, and an API."""
    from redarte.serving import service

    service.serve(models or [], host, port, names or [], behind_proxy)


@app.command()
def offline_plots() -> None:
    """Make `dvc plots show` work without internet in this clone (`make install` does it)."""
    from redarte.commands import offline_plots

    offline_plots.install()
