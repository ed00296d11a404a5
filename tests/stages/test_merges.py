"""Two branches with a run each, brought together by git: the outputs are those of the merged parameters."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from redarte.history import repository
from redarte.runtime import provenance
from tests.conftest import Workspace, new_workspace, ran, tree_bytes

HEADER = "image,artist,action,reason\n"
ROW = "School_of_Drips/School_of_Drips_1,School_of_Points,relabel,signed\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """With a run up to split, committed."""
    workspace = new_workspace(tmp_path_factory.mktemp("merges") / "redarte", {"fetch.sample.images": 6})
    workspace.run("dvc", "repro", "split")
    workspace.commit("base")
    workspace.run("git", "branch", "-m", "main")
    return workspace


@pytest.fixture(scope="module")
def both_run(base: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """main relabels an image, other does not apply corrections; both have run."""
    workspace = Workspace(tmp_path_factory.mktemp("branches") / "redarte")
    shutil.copytree(base.path, workspace.path, symlinks=True)
    run_of(workspace, "other", lambda: workspace.set({"split.apply_corrections": False}))
    workspace.run("git", "checkout", "-q", "main")
    workspace.run("dvc", "checkout", "--force", "--allow-missing")
    (workspace.path / "corrections.csv").write_text(HEADER + ROW, encoding="utf-8")
    workspace.run("dvc", "repro", "split")
    workspace.commit("correction")
    return workspace


@pytest.fixture
def branches(both_run: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(both_run.path, tmp_path / "redarte", symlinks=True)
    return Workspace(tmp_path / "redarte")


def run_of(workspace: Workspace, branch: str, change: Callable[[], None]) -> None:
    workspace.run("git", "checkout", "-q", "-b", branch)
    change()
    workspace.run("dvc", "repro", "split")
    workspace.commit(branch)


def from_nothing(workspace: Workspace, folder: Path) -> dict[str, bytes]:
    """data/split of a clone of the merged commit that shares no cache."""
    clone = workspace.clone(folder / "from_nothing")
    clone.run("dvc", "repro", "--force", "split")
    return tree_bytes(clone.path / "data/split") | {"images": (clone.path / "data/images.csv").read_bytes()}


def merge(workspace: Workspace) -> list[str]:
    workspace.run("git", "merge", "other", "-m", "merged", check=False)
    return ["git", "commit", "-qm", "merged"]


def cherry_pick(workspace: Workspace) -> list[str]:
    workspace.run("git", "cherry-pick", "other", check=False)
    return ["git", "-c", "core.editor=true", "cherry-pick", "--continue"]


def revert(workspace: Workspace) -> list[str]:
    """Of the commit before the last: other is merged first, and main's correction is taken back."""
    finish(workspace, merge(workspace))
    workspace.run("git", "revert", "--no-edit", "HEAD^1", check=False)
    return ["git", "-c", "core.editor=true", "revert", "--continue"]


def rebase(workspace: Workspace) -> list[str]:
    workspace.run("git", "rebase", "other", check=False)
    return ["git", "-c", "core.editor=true", "rebase", "--continue"]


def pull(workspace: Workspace) -> list[str]:
    """Of upstream's run with other parameters, into a clone with a run of its own."""
    upstream = workspace.path.parent / "upstream"
    subprocess.run(["git", "clone", "-q", "--bare", workspace.path, upstream], check=True)
    workspace.run("git", "pull", "-q", "--no-rebase", str(upstream), "other", check=False)
    return ["git", "commit", "-qm", "merged"]


def finish(workspace: Workspace, command: list[str]) -> str:
    """Types what `redarte check` says, and returns what DVC printed."""
    done = workspace.run("redarte", "check", check=False)
    assert done.returncode == 1 and "git has not finished a merge of dvc.lock and metrics/" in done.stderr
    assert "<<<<<<<" not in (workspace.path / "dvc.lock").read_text(encoding="utf-8")
    printed = workspace.run("dvc", "repro", "split").stdout
    workspace.run("git", "add", "dvc.lock", "metrics", "params.yaml", "corrections.csv")
    workspace.run(*command)
    workspace.run("redarte", "check")
    return printed


@pytest.mark.parametrize("bring_together", [merge, *(pytest.param(way, marks=pytest.mark.long)
                                                     for way in (cherry_pick, revert, rebase, pull))])  # fmt: skip
def test_the_outputs_are_those_of_the_merged_parameters(
    branches: Workspace, tmp_path: Path, bring_together: Callable[[Workspace], list[str]]
) -> None:
    finish(branches, bring_together(branches))
    assert branches.run("git", "status", "--porcelain").stdout == ""
    found = tree_bytes(branches.path / "data/split") | {"images": (branches.path / "data/images.csv").read_bytes()}
    assert found == from_nothing(branches, tmp_path)
    # params.yaml says that corrections are not applied.
    assert not list((branches.path / "data/split").glob("*/School_of_Points/School_of_Drips_1.*"))
    assert not [stage for stage, entry in entries(branches).items() if provenance.is_mixed(entry)]


def entries(workspace: Workspace) -> dict[str, dict[str, object]]:
    text = (workspace.path / "dvc.lock").read_text(encoding="utf-8")
    stages: dict[str, dict[str, object]] = repository.parse(text)["stages"]
    return stages


def test_a_run_that_both_branches_know_is_restored(branches: Workspace) -> None:
    """main takes other's parameters: DVC's run cache has this run."""
    (branches.path / "corrections.csv").write_text(HEADER, encoding="utf-8")
    branches.commit("none")
    assert ran(finish(branches, merge(branches))) == []


def test_an_entry_that_is_mixed_already_is_found(branches: Workspace, tmp_path: Path) -> None:
    """As git made it without .gitattributes: DVC says that all is up to date."""
    (branches.path / ".git/info/attributes").write_text("dvc.lock merge=text\nmetrics/*.json merge=text\n")
    branches.run("git", "merge", "-X", "theirs", "other", "-m", "merged")
    ours = {name: text(branches, name) for name in ("split", "fetch")}
    mixed = ours["split"].replace("apply_corrections: true", "apply_corrections: false")
    lock = branches.path / "dvc.lock"
    before = branches.run("git", "show", "HEAD^1:dvc.lock").stdout
    lock.write_text(before.replace("apply_corrections: true", "apply_corrections: false"), encoding="utf-8")
    assert mixed
    branches.run("git", "checkout", "HEAD^1", "--", "metrics")
    branches.run("dvc", "checkout", "--force", "--allow-missing", "data/split/train", "data/split/val")
    done = branches.run("redarte", "check", "--lock", check=False)
    assert done.returncode == 1 and "dvc.lock mixes two runs in split" in done.stderr
    # DVC's run cache may have it too, and would give it to others.
    runs = branches.path / ".dvc/cache/runs"
    good = set(runs.glob("*/*/*"))
    false_run = runs / "ab" / ("ab" * 32) / ("cd" * 32)
    false_run.parent.mkdir(parents=True)
    from dvc.utils.serialize import dumps_yaml

    false_run.write_text(dumps_yaml(entries(branches)["split"]))
    done = branches.run("redarte", "push-runs", check=False)
    assert done.returncode == 1 and "1 records of runs have outputs of other runs" in done.stderr
    assert "1 records of runs had outputs of other runs" in branches.run("redarte", "check", "--cache").stdout
    assert set(runs.glob("*/*/*")) == good
    branches.run("dvc", "repro", "--force", "--single-item", "split")
    branches.commit("repaired")
    branches.run("redarte", "check", "--lock", check=False)
    assert not provenance.is_mixed(entries(branches)["split"])
    assert not list((branches.path / "data/split").glob("*/School_of_Points/School_of_Drips_1.*"))


def text(workspace: Workspace, stage: str) -> str:
    return str(entries(workspace)[stage])


@pytest.mark.long
@pytest.mark.parametrize(
    ("stage", "ours", "theirs"),
    [
        ("fetch", ("fetch.sample.seed", 1), ("fetch.max_megapixels", 50.0)),
        ("split", ("seed", 3), ("split.keep_duplicates_together", False)),
        ("augment", ("augment.quality", 50), ("augment.max_side", 32)),
        ("resize", ("resize.side", 16), ("resize.quality", 50)),
        ("train_red1", ("train.learning_rate", 0.1), ("train.label_smoothing", 0.2)),
        ("export@red1", ("export.coverage", 0.5), ("resize.quality", 60)),
        ("evaluate", ("evaluate.gallery", 1), ("evaluate.confused_pairs", 1)),
    ],
)
def test_pairs_of_parameters_of_every_stage(
    finished: Workspace, tmp_path: Path, stage: str, ours: tuple[str, object], theirs: tuple[str, object]
) -> None:
    workspace = Workspace(tmp_path / "redarte")
    shutil.copytree(finished.path, workspace.path, symlinks=True)
    workspace.run("git", "branch", "-M", "main")
    for branch, (name, value) in (("other", theirs), ("main", ours)):
        workspace.run("git", "checkout", "-q", *(["-b"] if branch == "other" else []), branch)
        workspace.run("dvc", "checkout", "--force", "--allow-missing")
        workspace.set({name: value})
        workspace.run("dvc", "repro", stage)
        workspace.run("git", "commit", "-qam", branch)
    workspace.run("git", "merge", "other", "-m", "merged", check=False)
    # Neighbouring lines are a conflict of params.yaml.
    workspace.run("git", "checkout", "main", "--", "params.yaml")
    workspace.set(dict([ours, theirs]))
    workspace.run("dvc", "repro", stage)
    workspace.run("git", "add", "-u")
    workspace.run("git", "commit", "-qm", "merged", check=False)
    clone = workspace.clone(tmp_path / "clone")
    clone.run("dvc", "repro", "--force", stage)
    for out in entries(workspace)[stage]["outs"]:  # type: ignore[attr-defined]
        path = out["path"]
        found, expected = (place.path / path for place in (workspace, clone))
        assert (
            (tree_bytes(found) == tree_bytes(expected))
            if found.is_dir()
            else (found.read_bytes() == expected.read_bytes())
        ), path
