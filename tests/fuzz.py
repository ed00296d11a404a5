"""Coverage-guided fuzzing: python -m tests.fuzz {reader,params} [corpus] [-max_total_time=1800, and all of libFuzzer's]

Runs until something else than a one-sentence error occurs, and writes the input to crash-<hash>.
Needs the dependency group campaigns of pyproject.toml.
"""

import io
import os
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "yaml", "redarte"]):
    import yaml
    from PIL import Image

    from redarte import params
    from redarte.ingestion import checks
    from redarte.runtime.errors import UserError

from tests.conftest import ROOT, painting

MAX_PIXELS = 1e5


def read_image(data: bytes) -> None:
    """Reads a file as fetch, predict and the service do."""
    try:
        checks.read_resized(data, 32, MAX_PIXELS)
    except UserError:
        return


def read_params(data: bytes) -> None:
    """Reads params.yaml as every stage does."""
    FILE.write_bytes(data)
    try:
        params.load(FILE)
    except UserError as error:
        assert all(line.startswith(str(FILE)) and len(line) < 1000 for line in str(error).splitlines()), error


FILE = Path(os.environ.get("TMPDIR", "/dev/shm")) / f"redarte-params-{os.getpid()}.yaml"
TARGETS = {"reader": read_image, "params": read_params}


def seeds(target: str) -> list[bytes]:
    """Complete files to start from."""
    if target == "params":
        document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        # Without its comments: they take most of the time.
        return [yaml.safe_dump(document, default_flow_style=flow).encode() for flow in (False, True)]
    found = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        for mode in ("RGB", "L", "P", "RGBA", "CMYK", "1", "I;16"):
            file = io.BytesIO()
            try:
                Image.fromarray(painting(16, 12)).convert("L" if mode == "I;16" else mode).convert(mode).save(
                    file, kind
                )
            except (OSError, ValueError):  # a format that has no such mode
                continue
            found.append(file.getvalue())
    return found


def main() -> None:
    target, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(seeds(target)):
            Path(corpus, str(number)).write_bytes(data)
        warnings.simplefilter("ignore")
        atheris.Setup([sys.argv[0], *options, corpus], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
