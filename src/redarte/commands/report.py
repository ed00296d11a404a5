"""`redarte report`: a copy of plots/report.html with the date and the commit of its run.

The stage report writes neither: the same results would give different bytes, and a clone's `dvc repro` would change
dvc.lock.
"""

import hashlib
import html
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from redarte.history import repository
from redarte.runtime import outputs, paths
from redarte.runtime.errors import UserError

_RUN = re.compile(r'(?<=<p id="run">).*?(?=</p>)', re.DOTALL)


def write(copy: Path) -> str:
    """Writes the copy."""
    repository.check()
    try:
        content = paths.REPORT_PAGE.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{paths.REPORT_PAGE} is missing; create it with `dvc repro`, or get it with `dvc pull`."
        ) from None
    page = content.decode("utf-8")
    if not _RUN.search(page) or hashlib.md5(content).hexdigest() != _hash_in_lock():
        raise UserError(f"{paths.REPORT_PAGE} is not the page of {paths.LOCK}; type `dvc repro` first.")
    described = run()
    with outputs.user_file(copy, "the argument", ".html", ".htm") as partial:
        partial.write_text(_RUN.sub(html.escape(f"{described}."), page, count=1), encoding="utf-8", newline="\n")
    return f"{copy}: {described}"


def run() -> str:
    """Returns the commit and the date of the results in dvc.lock, as text."""
    if _git("status", "--porcelain", "--", str(paths.LOCK)) == "":
        committed = _git("log", "-1", "--format=%h of %cs", "--", str(paths.LOCK))
        if committed:
            return f"commit {committed}"
    written = datetime.fromtimestamp(paths.LOCK.stat().st_mtime, UTC)
    return f"not committed; run on {written:%Y-%m-%d}"


def _hash_in_lock() -> str | None:
    outs = repository.lock().get("report", {}).get("outs", ())
    return next((out.get("md5") for out in outs if out["path"] == str(paths.REPORT_PAGE)), None)


def _git(*command: str) -> str | None:
    """What git prints; None where it fails, as without a repository."""
    done = subprocess.run(["git", *command], capture_output=True, encoding="utf-8")
    return done.stdout.strip() if done.returncode == 0 else None
