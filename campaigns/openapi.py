"""The API under schemathesis, which generates valid and invalid requests from its schema.

An attack is a run of schemathesis with all of its checks that fit. It needs the dependency group `campaigns`.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from campaigns.storm import Service, prepared

__all__ = ["attack", "prepared"]

EXAMPLES = 500  # of requests to each operation
# Not every file is an image, which no schema can express; and the page below answers other methods.
DOES_NOT_FIT = ("positive_data_acceptance", "unsupported_method")


def attack(service: Service, seed: int) -> Counter[str]:
    program = Path(sys.executable).with_name("schemathesis")
    chosen = [f"--seed={seed}", f"--max-examples={EXAMPLES}", "--include-path-regex=^/(api|health)", "--checks=all",
              f"--exclude-checks={','.join(DOES_NOT_FIT)}", "--continue-on-failure"]  # fmt: skip
    command = [str(program), "run", f"{service.address}/api/openapi.json", *chosen, "--no-color"]
    done = subprocess.run(command, cwd=service.scratch.parent, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:]
    return Counter({"requests": int((re.findall(r"(\d+) generated", done.stdout) or ["0"])[0])})
