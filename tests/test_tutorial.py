"""docs/tutorial.md, typed: every command works, and prints what the page shows."""

import re
import shlex
from pathlib import Path

from tests.conftest import ROOT, Workspace
from tests.servers import free_port, is_open, wait_until


def blocks() -> list[tuple[str, list[str]]]:
    """The commands of the page, each with the lines that it prints, without those that install."""
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        if "make install" in block:
            continue
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def pattern(shown: list[str]) -> str:
    """A regular expression of the shown lines, in which numbers, spaces and bars may differ, and `...` is anything."""
    lines = []
    for line in shown:
        parts = ("[^\n]*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", line))
        text = re.sub(r"(?:\\ |█)+", " *█* *", re.sub(r"\d+(\\\.\d+)?", r"[\\d.]+", "".join(parts)))
        lines.append(r"(?:[^\n]*\n)*?" if line == "..." else text + r"[ █]*\n")
    return "".join(lines)


def test_the_tutorial(tmp_path: Path) -> None:
    clone = Workspace(ROOT).clone(tmp_path / "redarte")
    port, served = str(free_port()), []
    try:
        for command, shown in blocks():
            typed = command.replace("7860", port)
            if typed.endswith(" &"):
                served.append(clone.start(*shlex.split(typed[:-2]), "--port", port))
                assert wait_until(lambda: is_open(int(port)), 60)
                continue
            printed = clone.run("bash", "-c", typed).stdout
            assert re.search(pattern(shown), f"{printed}\n"), f"{command}\n{printed}\nis not\n{pattern(shown)}"
    finally:
        for process in served:
            process.terminate()
            process.communicate()
