"""The map of `redarte label-issues`: the places of the images, and the page in a browser."""

import base64
import contextlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import requests
from sklearn.neighbors import NearestNeighbors

from redarte.images import decoding
from redarte.labelling import findings, map_page
from redarte.labelling.findings import Findings
from tests import browser, servers
from tests.conftest import Workspace


@pytest.fixture(scope="module")
def mapped(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    path = tmp_path_factory.mktemp("mapped") / "redarte"
    shutil.copytree(finished.path, path, symlinks=True)
    workspace = Workspace(path)
    assert "plots/map.html" in workspace.run("redarte", "label-issues").stdout
    assert workspace.run("git", "status", "--porcelain").stdout == ""
    return workspace


def found(workspace: Workspace) -> Findings:
    with contextlib.chdir(workspace.path):
        result = findings.find(Path("models/red1.onnx"), 200)
        assert result.files
        return result


def test_similar_images_are_neighbours_and_places_are_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDARTE_CACHE", "0")
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 40)
    embeddings = (rng.normal(size=(4, 64))[groups] + 0.2 * rng.normal(size=(160, 64))).astype(np.float32)
    places = map_page.places(embeddings)
    assert np.array_equal(places, map_page.places(embeddings))
    assert places.shape == (160, 2) and places.min() == 0 and places.max() == 1
    nearest = NearestNeighbors(n_neighbors=4).fit(places).kneighbors(return_distance=False)
    assert (groups[nearest] == groups[:, None]).all()


@pytest.mark.parametrize("count", [5, 6])
def test_few_images_have_places(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDARTE_CACHE", "0")
    assert np.isfinite(map_page.places(np.ones((count, 8), np.float32))).all()
    assert np.isfinite(map_page.places(np.eye(count, 8, dtype=np.float32))).all()


def test_places_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDARTE_CACHE", str(tmp_path))
    embeddings = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    first = map_page.places(embeddings)
    monkeypatch.setattr(map_page, "TSNE", None)
    assert np.array_equal(map_page.places(embeddings), first)


def test_every_image_is_on_a_sheet(mapped: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """On several sheets, with few images on each."""
    monkeypatch.setattr(map_page, "_SHEET", 320)
    monkeypatch.chdir(mapped.path)
    images = found(mapped)
    page = map_page.render(images)
    data = json.loads(re.findall(r"const MAP = (.*);", page)[0])
    sheets = [decode(uri) for uri in json.loads(re.findall(r"const SHEETS = (.*);", page)[0])]
    assert len(sheets) == -(-len(images.sources) // 4) and data["sources"] == images.sources
    for index in range(len(images.sources)):
        (row, column), (width, height) = divmod(index % 4, 2), data["sizes"][index]
        cell = sheets[index // 4][row * 160 :, column * 160 :][:height, :width]
        original = images.read([index], 160)[index]
        assert cell.shape == original.shape and np.abs(cell.astype(float) - original).mean() < 16
    for path, split in zip(data["files"], images.splits, strict=True):
        assert path.startswith(f"split/{split}/") and (mapped.path / "data" / path).is_file()


def decode(uri: str) -> decoding.ImageArray:
    return decoding.decode(base64.b64decode(uri.partition(",")[2]), lambda size: size)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_map_is_looked_at(mapped: Workspace, width: int, scheme: str) -> None:
    images = found(mapped)
    with browser.chromium() as chromium, browser.watch(chromium, width) as watched:
        page = watched.page
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(browser.address(mapped.path / "plots/map.html"))
        browser.wait_until(page, "sheets.every(sheet => sheet.bitmap)")
        browser.wait_until(page, f"shownCount === {len(images.sources)}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # A click on an image, at its place, opens it and its original; a click beside all images closes it.
        index = images.worst[0]
        page.evaluate(f"choose({index}, true)")
        page.wait_for_timeout(100)
        x, y = page.evaluate(f"[screenX({index}), screenY({index})]")
        page.evaluate("choose(-1)")
        page.locator("canvas#map").click(position={"x": x, "y": y})
        assert images.sources[index] in page.inner_text("#name")
        browser.wait_until(page, "document.querySelector('#picture img')?.naturalWidth > 0")
        page.get_by_role("link", name="Its row in the label issues").click()
        browser.wait_until(page, "document.activeElement.classList.contains('row')")
        assert page.evaluate("document.activeElement.dataset.image") == images.sources[index]
        page.get_by_role("link", name="All images on a map").click()
        # By keyboard: the first ringed image, closer, and all again.
        page.locator("canvas#map").focus()
        page.keyboard.press("n")
        ringed = page.inner_text("#name")
        page.keyboard.press("n")
        assert page.inner_text("#name") != ringed
        zoom = page.evaluate("view.zoom")
        page.keyboard.press("+")
        assert page.evaluate("view.zoom") > zoom
        page.keyboard.press("0")
        assert page.evaluate("view.zoom") == 1
        page.get_by_label("Find an image").fill(images.sources[-1])
        page.keyboard.press("Enter")
        assert images.sources[-1] in page.inner_text("#name")
        # The other artists of a chosen one cannot be clicked.
        page.get_by_label("Artist", exact=True).select_option(label=images.judgement.artists[0].replace("_", " "))
        page.wait_for_timeout(100)
        assert page.evaluate("[...Array(count).keys()].filter(isDimmed).length") == sum(images.judgement.labels != 0)
    assert (watched.asked, watched.complaints) == ([], [])


def test_two_fingers_zoom(mapped: Workspace) -> None:
    with browser.chromium() as chromium, browser.watch(chromium, 390) as watched:
        page = watched.page
        page.goto(browser.address(mapped.path / "plots/map.html"))
        page.evaluate(
            """() => {
                const send = (type, id, x, y) => canvas.dispatchEvent(
                    new PointerEvent(type, { pointerId: id, clientX: x, clientY: y + top }));
                const top = canvas.getBoundingClientRect().top;
                canvas.setPointerCapture = () => {};
                send("pointerdown", 1, 100, 100); send("pointerdown", 2, 200, 100);
                send("pointermove", 2, 300, 100); send("pointerup", 2, 300, 100); send("pointerup", 1, 100, 100);
            }"""
        )
        assert page.evaluate("view.zoom") == pytest.approx(2)
        assert page.evaluate("chosen") == -1


def test_the_service_has_the_map_for_this_machine(mapped: Workspace, tmp_path: Path) -> None:
    with servers.page(mapped, tmp_path) as served, browser.chromium() as chromium:
        with browser.watch(chromium, 1280) as watched:
            watched.page.goto(f"{served.address}/map")
            browser.wait_until(watched.page, "sheets.every(sheet => sheet.bitmap)")
            watched.page.locator("canvas#map").focus()
            watched.page.keyboard.press("n")
            assert watched.page.locator("#picture canvas").count() == 1
        assert watched.complaints == []
        (mapped.path / "plots/map.html").rename(tmp_path / "map.html")
        try:
            assert requests.get(f"{served.address}/map", timeout=10).status_code == 404
        finally:
            (tmp_path / "map.html").rename(mapped.path / "plots/map.html")
