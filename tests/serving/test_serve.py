"""The pages that people look at, opened in Chromium with the network cut."""

import concurrent.futures
import contextlib
import io
import json
import random
import re
import shutil
import signal
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
import requests
from PIL import Image
from playwright.sync_api import Page

import redarte
from redarte.images import decoding
from redarte.inference.predictor import Predictor
from redarte.serving.serve_page import result_html
from tests import browser, servers
from tests.conftest import Workspace, write_painting

FIGURES = ("table_one", "confusion", "recall", "confused_pairs", "mistakes", "copies")


@pytest.fixture
def offline_plots(finished: Workspace) -> Workspace:
    finished.run("redarte", "offline-plots", PYTHONPATH=str(finished.path / "src"))
    return finished


def check_plots_page(page: Path, revisions: list[str], screenshot: Path) -> None:
    """Both charts are drawn with a line a model and a revision, and every figure is there."""
    assert page.stat().st_size < 10_000_000
    with browser.chromium() as chromium, browser.watch(chromium, width=1280) as watched:
        watched.page.goto(browser.address(page))
        watched.page.wait_for_selector(".vega-embed svg, .vega-embed canvas")
        watched.page.wait_for_load_state("networkidle")
        watched.page.screenshot(path=screenshot, full_page=True)
        charts = watched.page.locator(".vega-embed canvas, .vega-embed svg.marks").all()
        images = watched.page.evaluate("[...document.images].map(image => [image.alt, image.naturalWidth])")
        drawn = watched.page.evaluate(INK)
        headings = watched.page.locator("h2").all_inner_texts()
        shown = watched.page.inner_text("body")
    assert watched.asked == []
    assert watched.complaints == []
    assert len(charts) == 2
    assert headings[:3] == ["Beside the study's Table I", "Confusion matrix", "Recall of each artist"]
    assert len(headings) == len(FIGURES) and "plots/" not in shown
    for colours in drawn:
        assert set(colours) == {"0,114,178", "196,80,10", "0,121,90"}, "a line for each of the three models"
    assert len(images) == len(FIGURES) * len(revisions)
    assert all(alt and width > 100 for alt, width in images)
    assert len({alt for alt, _ in images}) == len(images)


# The colours of the three models in a chart's canvas.
INK = """[...document.querySelectorAll('.vega-embed canvas')].map(canvas => {
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    const wanted = new Set(['0,114,178', '196,80,10', '0,121,90']), found = new Set();
    for (let i = 0; i < data.length; i += 4) {
        const colour = data[i] + ',' + data[i + 1] + ',' + data[i + 2];
        if (data[i + 3] === 255 && wanted.has(colour)) found.add(colour);
    }
    return [...found];
})"""


def test_the_plots_page_is_drawn_without_a_model(offline_plots: Workspace, tmp_path: Path) -> None:
    offline_plots.run("dvc", "plots", "show", "-o", str(tmp_path / "page"))
    check_plots_page(tmp_path / "page/index.html", ["workspace"], tmp_path / "page.png")
    assert offline_plots.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.long
def test_two_revisions_are_shown_side_by_side(offline_plots: Workspace, tmp_path: Path) -> None:
    offline_plots.run("dvc", "exp", "run", "-n", "few-in-the-gallery", "-S", "evaluate.gallery=2", "evaluate")
    try:
        offline_plots.run("dvc", "plots", "diff", "HEAD", "few-in-the-gallery", "-o", str(tmp_path / "page"))
    finally:
        offline_plots.run("git", "checkout", "-q", ".")
        offline_plots.run("dvc", "checkout", "--force")
        offline_plots.run("dvc", "exp", "remove", "few-in-the-gallery")
    check_plots_page(tmp_path / "page/index.html", ["HEAD", "few-in-the-gallery"], tmp_path / "page.png")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_needs_no_other_file(finished: Workspace, width: int, scheme: str) -> None:
    page = finished.path / "plots/report.html"
    assert page.stat().st_size < 5_000_000
    with browser.chromium() as chromium, browser.watch(chromium, width) as watched:
        watched.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        watched.page.goto(browser.address(page))
        watched.page.wait_for_load_state("networkidle")
        images = watched.page.evaluate("[...document.images].map(image => image.naturalWidth)")
        wide = watched.page.evaluate("document.documentElement.scrollWidth")
        title = watched.page.inner_text("h1")
        names = watched.page.locator(".confusion tbody th").all_inner_texts()
        heights = watched.page.evaluate(
            "[...document.querySelectorAll('.confusion tbody th')].map(n => n.offsetHeight)"
        )
    assert watched.asked == []
    assert watched.complaints == []
    assert re.fullmatch(r"Red 1 recognises \d+\s% of 3 test images", title)
    assert len(images) >= 6 and all(images), "two images for each answer that is shown"
    assert wide <= width, "only tables may be wider than the page, in a frame that scrolls"
    assert len(names) == 3 and all(height >= 12 for height in heights)


def test_the_report_shows_the_metrics(finished: Workspace) -> None:
    page = (finished.path / "plots/report.html").read_text(encoding="utf-8")
    card = (finished.path / "plots/model_card.md").read_text(encoding="utf-8")
    measured = finished.run("dvc", "metrics", "show", "--json").stdout
    accuracy = float(re.findall(r'"test_accuracy": ([\d.]+)', measured)[0])
    assert f"| accuracy | {accuracy:.3f} |" in card
    for message in ("invented schools of painting", "study.html", "calibration error", "under its licence (MIT)"):
        assert message in page
    assert str(finished.path) not in page + card
    # One epoch is drawn as a point where models are compared, and has no chart in the report.
    point = r'<circle class="val" cx="50\.0" cy="[\d.]+"'
    assert re.search(point, (finished.path / "plots/study.html").read_text(encoding="utf-8"))
    assert not re.search(point, page)


def set_threshold(source: Path, target: Path, threshold: float) -> None:
    """Copies a model; every image with a score up to the threshold is in distribution."""
    model = onnx.load(source)
    known = json.loads(model.metadata_props[0].value) | {"ood_threshold": threshold}
    model.metadata_props[0].value = json.dumps(known)
    onnx.save(model, target)


@pytest.fixture(scope="module")
def served(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A clone with models for which every image is in distribution, on every kind of CPU."""
    clone = finished.clone(tmp_path_factory.mktemp("served") / "redarte")
    shutil.copytree(finished.path / ".dvc/cache", clone.path / ".dvc/cache")
    clone.run("dvc", "checkout")
    for file in clone.path.glob("models/*.onnx"):
        content = finished.path / "models" / file.name
        file.unlink()
        set_threshold(content, file, 1e9)
    return clone


@pytest.fixture(scope="module")
def server(served: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Page]:
    with servers.page(served, tmp_path_factory.mktemp("page")) as page:
        yield page
    assert "Traceback" not in page.log.read_text(encoding="utf-8")
    assert served.run("git", "status", "--porcelain").stdout == ""


@pytest.fixture
def address(server: servers.Page) -> str:
    return server.address


def photograph(path: Path) -> Path:
    """An image whose file is larger than the limit for other requests."""
    Image.frombytes("RGB", (1500, 1500), random.Random(0).randbytes(3 * 1500**2)).save(path)
    assert path.stat().st_size > 2**20
    return path


def test_a_user_uploads_an_image(address: str, tmp_path: Path) -> None:
    image = photograph(tmp_path / "mine.jpg")
    (tmp_path / "notes.txt").write_text("not an image")
    with browser.chromium() as chromium, browser.watch(chromium, width=1280) as watched:
        page = watched.page
        page.goto(address)
        page.set_input_files("input[type=file]", image)
        page.wait_for_selector("#prediction .row")
        names = [row.inner_text().splitlines() for row in page.locator("#prediction .row").all()]
        assert len(names) == 3 and all(name.startswith("School of ") for name, _ in names)
        browser.wait_until(page, "document.querySelector('#shown').naturalWidth === 1500")
        browser.wait_until(page, "document.querySelector('#prediction img.evidence').naturalWidth > 0")
        assert page.locator("#prediction figure img").count() == 4
        page.evaluate("() => { window.before = document.querySelector('#prediction .bars').innerText; }")
        page.get_by_label("Red 2").check()
        browser.wait_until(page, "document.querySelector('#prediction .bars')?.innerText !== window.before")
        page.set_input_files("input[type=file]", tmp_path / "notes.txt")
        page.get_by_text("The file is not an image.").wait_for()
        page.get_by_text("notes.txt (this browser does not show the format)").wait_for()
        page.set_input_files("input[type=file]", {"name": "big", "mimeType": "image/png", "buffer": bytes(21 * 2**20)})
        page.get_by_text("The file is larger than 20 MB.").wait_for()
        examples = page.locator("#examples button").all()
        assert [example.inner_text() for example in examples] == SCHOOLS  # their true artists
        examples[0].locator("img").click()
        page.wait_for_selector("#prediction .row")
        page.evaluate(PASTE)
        page.get_by_text("The file is not an image.").wait_for()
    assert watched.asked == [], "nothing is fetched from outside"
    assert all("422" in complaint for complaint in watched.complaints), "no script or style is against the policy"


# Pastes the first bytes of a PNG.
PASTE = """() => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82])], "a.png"));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
}"""


SCHOOLS = ["School of Drips", "School of Lattices", "School of Points"]


def test_on_a_phone_the_prediction_follows_the_image(address: str, tmp_path: Path) -> None:
    image = write_painting(tmp_path / "a.jpg")
    with browser.chromium() as chromium, browser.watch(chromium, width=390) as watched:
        page = watched.page
        page.goto(address)
        page.set_input_files("input[type=file]", image)
        page.wait_for_selector("#prediction figure")
        tops = page.evaluate(
            "['#upload', '#prediction', '#models', '#examples']"
            ".map(name => document.querySelector(name).getBoundingClientRect().top)"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        labels = page.locator("#models label").all_inner_texts()
    assert tops == sorted(tops)
    assert [re.sub(r"\d+\s%", "… %", label).strip() for label in labels] == [
        f"{name}: val accuracy … %, 3 artists, from the built-in sample" for name in ("Red 1", "Red 2", "Red 3")
    ]


def test_an_image_that_is_out_of_distribution_has_no_bars(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.path)
    image = decoding.read_resized(write_painting(tmp_path / "a.jpg"), 32)
    shown = {}
    for name, threshold in (("strict", 0.0), ("lenient", 1e9)):
        set_threshold(finished.path / "models/red1.onnx", tmp_path / f"{name}.onnx", threshold)
        shown[name] = result_html(Predictor(tmp_path / f"{name}.onnx"), image)
    assert "Probably none of the known artists" in shown["strict"] and "<details>" in shown["strict"]
    assert "Probably none" not in shown["lenient"]
    for part in ('class="bars"', "Evidence for"):
        assert part in shown["lenient"] and part not in shown["strict"]
    for page in shown.values():
        assert "Similarity is the cosine" in page


def mark(page: Page, address: str, image: Path, artist: str) -> str:
    """Marks a prediction as wrong on the page, and returns what it says."""
    page.goto(address)
    page.set_input_files("input[type=file]", image)
    page.get_by_text("Wrong?").click()
    page.get_by_label("The right artist").fill(artist)
    page.keyboard.press("Enter")
    assert servers.wait_until(lambda: page.inner_text("#saved") != "", 30)
    return page.inner_text("#saved")


def test_a_wrong_prediction_is_marked(address: str, served: Workspace, tmp_path: Path) -> None:
    image = min((served.path / "data/raw/School_of_Lattices").iterdir())
    table = served.path / "corrections.csv"
    before = table.read_text(encoding="utf-8")
    source = f"School_of_Lattices/{image.stem}"
    try:
        with browser.chromium() as chromium, browser.watch(chromium, width=1280) as watched:
            message = mark(watched.page, address, image, "School of Drips")
            assert message == f"corrections.csv now relabels {source} to School_of_Drips. `dvc repro` applies it."
            assert (
                table.read_text(encoding="utf-8")
                == f"{before}{source},School_of_Drips,relabel,marked in redarte serve\n"
            )
            message = mark(watched.page, address, image, "School of Lattices")
            assert message == f"corrections.csv now keeps its artist: {source}. `dvc repro` applies it."
            assert table.read_text(encoding="utf-8") == f"{before}{source},,keep,marked in redarte serve\n"
            message = mark(watched.page, address, write_painting(tmp_path / "mine.jpg"), "School of Drips")
            assert message.startswith("Not saved: this image is not one of the project's images")
    finally:
        table.write_text(before, encoding="utf-8")


def test_a_file_with_an_image_suffix_that_is_not_an_image_is_reported(address: str, tmp_path: Path) -> None:
    (tmp_path / "trap.jpg").write_bytes(write_painting(tmp_path / "whole.jpg", 300, 200).read_bytes()[:2000])
    with browser.chromium() as chromium, browser.watch(chromium, width=390) as watched:
        watched.page.goto(address)
        watched.page.set_input_files("input[type=file]", tmp_path / "trap.jpg")
        watched.page.get_by_text("The file is truncated or corrupt.").wait_for()


def ask(address: str, content: bytes, **query: str | int) -> requests.Response:
    return requests.post(f"{address}/api/predict", files={"image": ("p.jpg", content)}, params=query, timeout=60)


def test_the_api_predicts(address: str, tmp_path: Path) -> None:
    assert requests.get(f"{address}/health", timeout=10).json() == {
        "status": "ok",
        "version": redarte.__version__,
        "models": ["red1", "red2", "red3"],
    }
    content = write_painting(tmp_path / "a.jpg").read_bytes()
    answer = ask(address, content, model="red3", top=2).json()
    assert list(answer) == ["artist", "probability", "top", "in_distribution", "model", "data"]
    assert answer["model"] == "red3"
    assert [answer["artist"], answer["probability"]] == list(answer["top"][0].values())
    assert len(answer["top"]) == 2
    assert ask(address, content, model="red9").json()["detail"] == (
        "there is no model red9; the models are red1, red2, red3."
    )
    schema = requests.get(f"{address}/api/openapi.json", timeout=10).json()
    assert {"/health", "/api/predict"} <= set(schema["paths"])
    assert schema["info"]["version"] == redarte.__version__


def test_the_file_decides_which_model_predicts(finished: Workspace, address: str, tmp_path: Path) -> None:
    """Two files with the same name in their metadata, a corrupt one and one of another version."""
    clone = finished.clone(tmp_path / "redarte")
    models = clone.path / "models"
    for name, source in (("red1", "red1"), ("copy", "red2")):
        content = onnx.load(finished.path / f"models/{source}.onnx")
        printed = json.loads(content.metadata_props[0].value) | {"model": "red1"}
        content.metadata_props[0].value = json.dumps(printed)
        onnx.save(content, models / f"{name}.onnx")
    older = onnx.load(models / "copy.onnx")
    del printed["jpeg_quality"]
    older.metadata_props[0].value = json.dumps(printed)
    onnx.save(older, models / "older.onnx")
    (models / "broken.onnx").write_bytes(b"broken")
    image = write_painting(tmp_path / "a.jpg").read_bytes()
    expected = {name: ask(address, image, model=name).json()["probability"] for name in ("red1", "red2")}
    root = tmp_path / "page"
    root.mkdir()
    with servers.page(clone, root) as served:
        assert requests.get(f"{served.address}/health", timeout=10).json()["models"] == ["red1", "copy"]
        predictions = {name: ask(served.address, image, model=name).json() for name in ("red1", "copy")}
        # A file that is replaced is loaded again; one that is broken is reported.
        shutil.copy(finished.path / "models/red3.onnx", models / "new.onnx")
        (models / "new.onnx").replace(models / "red1.onnx")
        replaced = ask(served.address, image, model="red1").json()["probability"]
        (models / "copy.onnx").write_bytes(b"broken")
        broken = ask(served.address, image, model="copy")
    assert replaced == pytest.approx(ask(address, image, model="red3").json()["probability"], abs=1e-5)
    assert broken.status_code == 503 and "models/copy.onnx" in broken.json()["detail"]
    assert {name: answer["model"] for name, answer in predictions.items()} == {"red1": "red1", "copy": "copy"}
    assert predictions["red1"]["probability"] == pytest.approx(expected["red1"], abs=1e-5)
    assert predictions["copy"]["probability"] == pytest.approx(expected["red2"], abs=1e-5)


def test_form_fields_are_read_and_contradictions_are_refused(address: str, tmp_path: Path) -> None:
    image = write_painting(tmp_path / "a.jpg").read_bytes()

    def post(query: dict[str, Any], **fields: Any) -> requests.Response:
        files = {"image": ("p.jpg", image)}
        return requests.post(f"{address}/api/predict", files=files, params=query, data=fields, timeout=60)

    answer = post({}, model="red2", top=1).json()
    assert answer["model"] == "red2" and len(answer["top"]) == 1 and answer["data"] == "sample"
    assert answer == post({"model": "red2", "top": 1}).json() == post({"model": "red2"}, top=1).json()
    assert post({}, model="red9").status_code == 422
    assert post({"model": "red1"}, model="red2").status_code == 422
    assert post({"top": 1}, top=2).status_code == 422
    assert requests.head(f"{address}/health", timeout=10).status_code == 200


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_stalled_upload_does_not_delay_the_end_of_the_service(
    finished: Workspace, tmp_path: Path, sent: signal.Signals
) -> None:
    process = finished.start("redarte", "serve", "--port", "0", TMPDIR=str(tmp_path))
    assert process.stdout is not None
    port = int(re.findall(r":(\d+) ", process.stdout.readline())[0])
    with socket.create_connection(("127.0.0.1", port)) as stalled:
        stalled.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 100000\r\n\r\n--b\r\n"
        )
        requests.get(f"http://127.0.0.1:{port}/health", timeout=60)
        process.send_signal(sent)
        _, err = process.communicate(timeout=20)
    assert "Traceback" not in err, err


def bomb() -> bytes:
    """A PNG of a few kB that declares 2.5 billion pixels."""
    whole = io.BytesIO()
    Image.new("L", (1, 1)).save(whole, "PNG")
    header = b"IHDR" + (50_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    return whole.getvalue()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole.getvalue()[33:]


def test_malicious_uploads_are_refused_and_the_service_continues(address: str, tmp_path: Path) -> None:
    whole = write_painting(tmp_path / "a.jpg").read_bytes()
    for content, detail in (
        (b"", "The file is empty."),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "The file is not an image."),
        (b"%PDF-1.7", "The file is not an image."),
        (whole[: -len(whole) // 4], "The file is truncated or corrupt."),
        (bomb(), "The file has too many pixels."),
    ):
        refused = ask(address, content)
        assert (refused.status_code, refused.json()) == (422, {"detail": detail})
    assert ask(address, b"\0" * (21 * 2**20)).status_code == 413

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="p"\r\n\r\n'
        for _ in range(30):
            yield b"\0" * 2**20

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    # The server may hang up in the middle of it.
    with contextlib.suppress(requests.ConnectionError):
        assert requests.post(f"{address}/api/predict", data=endless(), headers=form, timeout=30).status_code == 413
    assert ask(address, whole).status_code == 200


def test_requests_without_an_image_are_limited(address: str, tmp_path: Path) -> None:
    """Other requests are held in memory: 20 MB from each of two hundred clients would be 4 GB."""
    megabytes = b"[" + b" " * (2 * 2**20)
    for path in ("/api/corrections", "/label-issues", "/map", "/nothing", "/health"):
        for kind in ("application/json", "multipart/form-data; boundary=x"):
            refused = requests.post(f"{address}{path}", data=megabytes, headers={"Content-Type": kind}, timeout=30)
            assert refused.status_code in (404, 405, 413), f"{path}, {kind}: {refused.status_code}"
    fields = {f"field{number}": "x" * 900_000 for number in range(5)}
    refused = requests.post(f"{address}/api/predict", data=fields, files={"image": b"x"}, timeout=30)
    assert refused.status_code == 400
    assert ask(address, photograph(tmp_path / "mine.jpg").read_bytes()).status_code == 200


def test_lack_of_memory_is_not_reported_as_a_bad_upload(server: servers.Page) -> None:
    """Whatever decodes the upload is killed, and again, as the kernel does it."""
    address, service = server.address, server.process
    content = io.BytesIO()
    Image.new("RGB", (7000, 7000)).save(content, "PNG", compress_level=1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, address, content.getvalue())
        while not answer.done():
            for worker in psutil.Process(service.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    # Only while it decodes: pebble loses a file whose worker is killed as it receives the file.
                    if worker.ppid() != service.pid and worker.cpu_times().user > 0.1:
                        worker.kill()
            time.sleep(0.05)
    assert (answer.result().status_code, answer.result().json()) == (
        503,
        {"detail": "The server is short of memory; try again later."},
    )
    assert requests.get(f"{address}/health", timeout=10).status_code == 200


def test_fifty_at_once(address: str, tmp_path: Path) -> None:
    contents = [write_painting(tmp_path / f"{number}.jpg", seed=number).read_bytes() for number in range(5)]
    alone = [ask(address, content).json() for content in contents]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        predictions = list(pool.map(lambda number: ask(address, contents[number % 5]), range(50)))
    assert all(answer.status_code == 200 for answer in predictions)
    for number, answer in enumerate(predictions):
        assert answer.json()["top"] == alone[number % 5]["top"]


@pytest.mark.long
def test_serve_reports_missing_models_and_a_used_port(workspace: Workspace, address: str, finished: Workspace) -> None:
    done = workspace.run("redarte", "serve", check=False)
    assert done.stderr == (
        "redarte: there is no model in models/; create one with `dvc repro`, get it with `dvc pull`, or name an .onnx "
        "file or a folder of them.\n"
    )
    port = address.rpartition(":")[2]
    done = finished.run("redarte", "serve", "--port", port, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is in use or not available; choose another with --port." in done.stderr


def test_names_are_escaped(finished: Workspace, tmp_path: Path) -> None:
    """Names of artists and files are untrusted."""
    clone = finished.clone(tmp_path / "clone")
    for folder in ("data", "models", "plots"):
        shutil.copytree(finished.path / folder, clone.path / folder, dirs_exist_ok=True)
    malicious = "<img src=x onerror=alert(1)>"
    table = clone.path / "plots/predictions.csv"
    first = table.read_text().splitlines()[1].partition(",")[0]
    renamed = Path(first).with_name(malicious).as_posix()
    (clone.path / f"data/split/test/{first}.jpg").rename(clone.path / f"data/split/test/{renamed}.jpg")
    table.write_text(table.read_text().replace(first, renamed))
    clone.stage("report")
    page = (clone.path / "plots/report.html").read_text()
    assert malicious not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
