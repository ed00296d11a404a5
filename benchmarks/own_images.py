"""From own images to numbers: the times that docs/benchmarks.md lists.

python -m benchmarks.own_images --images paintings.zip --backbone features.keras --folds 5

In a clone of the committed project with an empty cache of features: `redarte train`, `redarte label-issues`, the report
after one corrected label, and cross-validation. `-S` is passed on, such as -S finetuned.input_size=224.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="an archive or a folder")
    parser.add_argument("--backbone", required=True, help="a .keras file, or a name of keras.applications")
    parser.add_argument("--folds", type=int, default=0, help="of the cross-validation; 0: none")
    parser.add_argument("-S", dest="changes", action="append", default=[], help="as for `dvc exp run`")
    options = parser.parse_args()
    changes = [part for change in options.changes for part in ("-S", change)]
    images, backbone = (
        str(Path(text).resolve()) if Path(text).exists() else text for text in (options.images, options.backbone)
    )
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "redarte")
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        environment = os.environ | {"REDARTE_CACHE": f"{folder}/cache", "PYTHONPATH": str(clone / "src")}

        def timed(label: str, *command: str) -> None:
            started = time.perf_counter()
            subprocess.run(command, cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
            print(f"| {label} | {time.perf_counter() - started:.0f} |", flush=True)

        print("| Command | seconds |\n| --- | --- |")
        timed("redarte train", "redarte", "train", images, "--backbone", backbone, *changes)
        timed("redarte label-issues", "redarte", "label-issues")
        artists = sorted(path.name for path in (clone / "data/raw").iterdir())
        image = min((clone / "data/raw" / artists[0]).iterdir()).stem
        with (clone / "corrections.csv").open("a", encoding="utf-8") as file:
            file.write(f"{artists[0]}/{image},{artists[1]},relabel,\n")
        timed("dvc repro report, one label corrected", "dvc", "repro", "report")
        timed("redarte label-issues, again", "redarte", "label-issues")
        if options.folds:
            timed(
                f"redarte crossval finetuned, {options.folds} folds",
                "redarte", "crossval", "finetuned", "--folds", str(options.folds),
            )  # fmt: skip


if __name__ == "__main__":
    main()
