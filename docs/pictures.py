"""Draws docs/overview.jpg and docs/label_issues.jpg from the pages of a project in which the tutorial was followed.

    python -m docs.pictures PROJECT      # PROJECT has plots/report.html, label_issues.html and map.html

A label that the tutorial made wrong is corrected on the page. Needs Chromium.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tests import browser

from redarte.images import decoding
from redarte.images.decoding import ImageArray

WRONG = "School_of_Points/School_of_Horizons_3"  # docs/tutorial.md
WIDTH, HEIGHT, GAP = 1000, 1150, 24  # px, of a page
CORRECT = f"""() => {{
    const row = rows.find(row => row.dataset.image === "{WRONG}");
    act(row, "relabel");
    row.scrollIntoView({{ block: "center" }});
}}"""
ZOOM = "() => { view.zoom = 1.25; choose(MAP.rows[0]); }"


def shoot(project: Path, name: str, width: int, height: int, action: str = "() => {}") -> ImageArray:
    with browser.chromium() as chromium, browser.watch(chromium, width, height) as watched:
        watched.page.goto(browser.address(project / f"plots/{name}.html"))
        watched.page.wait_for_timeout(500)
        watched.page.evaluate(action)
        watched.page.wait_for_timeout(500)
        return np.asarray(Image.open(io.BytesIO(watched.page.screenshot())).convert("RGB"))


def main() -> None:
    project = Path(sys.argv[1])
    shots = [
        shoot(project, name, WIDTH, HEIGHT, action)
        for name, action in (("report", "() => {}"), ("label_issues", CORRECT), ("map", ZOOM))
    ]
    gap = np.full((HEIGHT, GAP, 3), 150, np.uint8)
    overview = np.concatenate([shots[0], gap, shots[1], gap, shots[2]], axis=1)
    decoding.write_jpeg(Path("docs/overview.jpg"), decoding.shrink(overview, 1800), quality=80)
    decoding.write_jpeg(Path("docs/label_issues.jpg"), shoot(project, "label_issues", 1280, 640, CORRECT), quality=70)


if __name__ == "__main__":
    main()
