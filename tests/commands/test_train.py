"""`redarte train`: from a person's images to a report, and again after a change."""

import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from redarte.commands import train
from redarte.params import Params
from tests.conftest import FISHER, Workspace, new_workspace, ran, save_backbone, tree_bytes, write_painting

SMALL = [f"-S{name}={value}" for name, value in FISHER.items() if name.startswith("fisher.")]
EXTRA = ["fetch", "split", "train_extra@fisher", "export_extra@fisher", "evaluate", "report"]


@pytest.fixture(scope="module")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images of each of two artists, one twice; and two images of a third artist."""
    folder = tmp_path_factory.mktemp("source") / "my paintings"
    for artist, count in (("Ana", 9), ("Bente", 9), ("Cleo", 2)):
        for number in range(count):
            write_painting(folder / artist / f"{number}.jpg", 64, 64, seed=100 * len(artist) + number)
    shutil.copy(folder / "Ana/0.jpg", folder / "Ana/again.jpg")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, paintings: Path) -> tuple[Workspace, str]:
    workspace = new_workspace(tmp_path_factory.mktemp("trained") / "redarte", {})
    below = Workspace(workspace.path / "docs")
    shutil.copytree(paintings, workspace.path / "my paintings")
    with (workspace.path / ".git/info/exclude").open("a", encoding="utf-8") as file:
        file.write("/my paintings/\n")
    done = below.run("redarte", "train", "../my paintings", "--model", "fisher", *SMALL)
    return workspace, done.stdout


def test_only_the_stages_of_the_model_run(trained: tuple[Workspace, str]) -> None:
    workspace, printed = trained
    assert ran(printed) == EXTRA
    assert not list((workspace.path / "models").glob("red*"))
    assert not (workspace.path / "data/augmented").exists()


def test_the_summary_has_the_numbers_of_the_metrics(trained: tuple[Workspace, str]) -> None:
    workspace, printed = trained
    evaluated, split = workspace.metrics("evaluate"), workspace.metrics("split")
    shown = re.search(
        r"fisher: test accuracy (\S+) \(95 % interval (\S+) to (\S+)\) on (\d+) test images; .*: (\S+)", printed
    )
    assert shown
    assert (
        shown[1] == f"{evaluated['test_accuracy']:.2f}" and int(shown[4]) == evaluated["test_images"] == split["test"]
    )
    assert shown[5] == f"{evaluated['baseline_test_accuracy']:.2f}"
    assert float(shown[2]) <= float(shown[1]) <= float(shown[3])
    assert "skipped files: 1 duplicate" in printed
    assert "artists left out, with too few images: Cleo" in printed
    assert "report: plots/report.html" in printed
    assert (workspace.path / "plots/report.html").is_file()


def test_the_printed_command_does_the_same(trained: tuple[Workspace, str]) -> None:
    workspace, printed = trained
    typed = next(line.partition(": ")[2] for line in printed.splitlines() if line.startswith("redarte train types"))
    again = workspace.run(*shlex.split(typed))
    assert ran(again.stdout) == []
    assert 'fetch.folder.path="my paintings"' in shlex.split(typed)


def test_an_image_that_was_added_changes_the_command(
    paintings: Path, tmp_path: Path, settings: Callable[..., Params]
) -> None:
    """fetch depends on the hash of the images."""
    shutil.copytree(paintings, tmp_path / "copy")
    before = train._source(str(tmp_path / "copy"), settings())
    assert train._source(str(tmp_path / "copy"), settings()) == before
    write_painting(tmp_path / "copy/Cleo/3.jpg", 64, 64, seed=999)
    after = train._source(str(tmp_path / "copy"), settings())
    assert after["fetch.folder.sha256"] != before["fetch.folder.sha256"]


@pytest.mark.long
def test_an_image_that_was_added_is_read(trained: tuple[Workspace, str], tmp_path: Path) -> None:
    shutil.copytree(trained[0].path, tmp_path / "copy", symlinks=True)
    workspace = Workspace(tmp_path / "copy")
    write_painting(workspace.path / "my paintings/Cleo/3.jpg", 64, 64, seed=999)
    assert ran(workspace.run("redarte", "train", "my paintings", "--model", "fisher", *SMALL).stdout) == EXTRA
    assert workspace.metrics("fetch")["images"] == 21


def shared(original: Workspace, folder: Path, printed: str) -> tuple[Workspace, Workspace]:
    """A copy of a workspace, committed and pushed by the commands of the summary, and a teammate's clone of it."""
    workspace = Workspace(folder / "mine")
    shutil.copytree(original.path, workspace.path, symlinks=True)
    commit = next(line.partition(": ")[2] for line in printed.splitlines() if line.startswith("to keep and share it"))
    workspace.run("dvc", "remote", "add", "-d", "team", str(folder / "remote"))
    for command in commit.split("; "):
        workspace.run("sh", "-c", command)
    return workspace, workspace.clone(folder / "teammate")


def test_a_teammate_gets_the_results_of_one_model(trained: tuple[Workspace, str], tmp_path: Path) -> None:
    """As docs/remotes.md says: the study's models were not trained on these images."""
    teammate = shared(trained[0], tmp_path, trained[1])[1]
    teammate.run("dvc", "pull", "--with-deps", "report")
    assert "Data and pipelines are up to date." in teammate.run("dvc", "status", "--with-deps", "report").stdout
    assert teammate.run("dvc", "metrics", "diff").stdout == teammate.run("dvc", "metrics", "diff").stderr == ""
    assert tree_bytes(teammate.path / "plots").keys() >= {"report.html", "predictions.csv", "train_fisher.csv"}
    assert ran(teammate.run("dvc", "repro", "report").stdout) == []


@pytest.mark.long
def test_a_teammate_gets_the_results_of_all_models(
    fisher_workspace: Workspace, trained: tuple[Workspace, str], tmp_path: Path
) -> None:
    shutil.copytree(fisher_workspace.path, tmp_path / "run", symlinks=True)
    Workspace(tmp_path / "run").run("git", "reset", "-q", "HEAD~2")  # the runs are not committed
    workspace, teammate = shared(Workspace(tmp_path / "run"), tmp_path, trained[1])
    teammate.run("dvc", "pull")
    assert "Data and pipelines are up to date." in teammate.run("dvc", "status").stdout
    assert teammate.run("dvc", "metrics", "diff").stdout == teammate.run("dvc", "metrics", "diff").stderr == ""
    assert teammate.run("redarte", "check", "--lock").stdout == ""

    workspace.run("git", "rm", "-q", "--cached", "metrics/train_fisher.json")
    workspace.run("git", "commit", "-qm", "without metrics")
    teammate.run("git", "pull", "-q")
    refused = teammate.run("redarte", "check", "--lock", check=False)
    assert refused.returncode == 1
    assert "metrics/train_fisher.json is in dvc.lock and not in this folder: commit it" in refused.stderr


@pytest.mark.long
def test_an_archive_trains_the_same_model(trained: tuple[Workspace, str], paintings: Path, tmp_path: Path) -> None:
    workspace, _ = trained
    before = workspace.metrics("evaluate")
    with zipfile.ZipFile(tmp_path / "paintings.zip", "w") as archive:
        for file in sorted(paintings.rglob("*.jpg")):
            archive.write(file, file.relative_to(paintings))
    done = workspace.run("redarte", "train", str(tmp_path / "paintings.zip"), "--model", "fisher", *SMALL)
    assert ran(done.stdout)[0] == "fetch" and "split" not in ran(done.stdout)
    after = workspace.metrics("evaluate")
    assert after["data"] == "archive"
    assert after["test_accuracy"] == before["test_accuracy"]
    workspace.run("redarte", "train", "my paintings", "--model", "fisher", *SMALL)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere does not exist; type a folder, an archive or an http(s) address of images."),
        (
            ["docs", "--model", "nothing"],
            "there is no model nothing; the models are red1, red2, red3, fisher, finetuned",
        ),
        (
            ["docs", "--model", "fisher", "--backbone", "ResNet50"],
            "--backbone is for finetuned, and the model is fisher",
        ),
        (["docs"], "go online once"),
        pytest.param(
            ["docs", "--backbone", "missing.keras"],
            "missing.keras (finetuned.backbone) does not exist",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_mistake_is_one_sentence_before_any_work(
    finished: Workspace, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    before = (finished.path / "params.yaml").read_bytes()
    offline = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    done = finished.run("redarte", "train", *arguments, check=False, **offline)
    assert done.returncode == 1
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert "dvc exp run" not in done.stdout
    assert (finished.path / "params.yaml").read_bytes() == before
    if sentence == "go online once":
        assert "The model fisher needs no weights: redarte train --model fisher." in done.stderr


@pytest.mark.long
def test_finetuned_on_a_backbone_of_a_file(trained: tuple[Workspace, str], tmp_path: Path) -> None:
    workspace, _ = trained
    backbone = save_backbone(tmp_path / "tiny.keras")
    small = ["-Sfinetuned.input_size=48", "-Sfinetuned.principal_components=4"]
    done = workspace.run("redarte", "train", "my paintings", "--backbone", str(backbone), *small)
    assert "finetuned: test accuracy" in done.stdout
    assert workspace.metrics("evaluate")["model"] == "finetuned"
    workspace.run("redarte", "train", "my paintings", "--model", "fisher", *SMALL)
