"""make remote-demo: two teammates share a run through a folder, in two throw-away clones of this commit.

Ana runs a small version of the pipeline and pushes her run. Ben clones and pulls, and has every output without running
a stage. Then Ben changes one parameter, and only the stages that use this parameter run.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("fetch.sample.schools=3", "fetch.sample.images=5", "resize.side=32", "train.epochs=1")
# Lines of DVC that are not shown: progress and general advice.
HIDDEN = (
    "Collecting",
    "Building",
    "Querying",
    "Updating lock",
    "> sh",
    "To track",
    "To enable",
    "git add",
    "dvc config",
)


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        ana, ben, remote = (Path(root, name) for name in ("ana", "ben", "remote"))
        run(Path(root), "git", "clone", "-q", str(ROOT), "ana")
        identify(ana)
        run(ana, "dvc", "remote", "add", "--force", "--default", "team", str(remote))
        run(ana, "dvc", "remote", "modify", "team", "verify", "true")
        run(ana, "dvc", "remote", "modify", "team", "shared", "group")
        run(ana, "dvc", "exp", "run", *(word for change in SMALL for word in ("-S", change)), "evaluate")
        run(ana, "git", "commit", "-qam", "a small run")
        run(ana, "dvc", "push", "evaluate", "--with-deps")
        run(Path(root), "git", "clone", "-q", "ana", "ben")
        identify(ben)
        run(ben, "dvc", "pull", "evaluate", "--with-deps")
        run(ben, "dvc", "repro", "evaluate")
        run(ben, "dvc", "exp", "run", "-S", "evaluate.gallery=4", "evaluate")
    print("\nThe clones and the remote are deleted.")


def identify(clone: Path) -> None:
    """Configures an author, which `git commit` requires."""
    name = clone.name.capitalize()
    for key, value in (("user.name", name), ("user.email", f"{name.lower()}@example.invalid")):
        subprocess.run(["git", "config", key, value], cwd=clone, check=True)


def run(folder: Path, *command: str) -> None:
    """Prints a command and its output, without the hidden lines."""
    print(f"\n{folder.name}$ {' '.join(command)}", flush=True)
    done = subprocess.run(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for line in done.stdout.splitlines():
        if line.strip() and not line.strip().startswith(HIDDEN):
            print(f"  {line}", flush=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}")


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path}


if __name__ == "__main__":
    main()
