import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from redarte.ingestion.sources import folder, sample
from redarte.params import Params
from redarte.runtime.errors import UserError
from redarte.stages import fetch
from tests.conftest import ROOT, Workspace, tree_bytes, write_painting

MakeSettings = Callable[..., Params]


@pytest.mark.parametrize("school", list(sample.SCHOOLS))
def test_each_school_has_different_images(settings: MakeSettings, school: str) -> None:
    chosen = settings({"fetch.sample.schools": 8}).fetch.sample
    images = [sample.paint(school, number, chosen) for number in (1, 2, 3)]
    for image in images:
        assert 300 <= min(image.shape[:2]) <= max(image.shape[:2]) <= 900
        assert image.dtype == np.uint8
        assert image.std() > 10
    assert len({image.shape for image in images}) > 1
    again = sample.paint(school, 1, chosen)
    assert (again == images[0]).all()
    other_seed = sample.paint(school, 1, chosen.model_copy(update={"seed": 1}))
    assert other_seed.shape != again.shape or (other_seed != again).any()


def test_the_sample_has_the_requested_size(tmp_path: Path, settings: MakeSettings, one_worker: None) -> None:
    chosen = settings({"fetch.sample.schools": 2, "fetch.sample.images": 4})
    (tmp_path / "scratch").mkdir()
    names = set(tree_bytes(sample.fetch_files(chosen.fetch, tmp_path / "scratch")))
    assert names == {
        f"{school}/{school}_{number}.jpg" for school in list(sample.SCHOOLS)[:2] for number in (1, 2, 3, 4)
    }


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"fetch.source": "sample"}, "the built-in sample"),
        ({"fetch.source": "folder", "fetch.folder.path": "/home/ana/Museo del Prado/"}, "Museo del Prado"),
        ({"fetch.source": "archive", "fetch.archive.path": "../ana/paintings.zip"}, "paintings.zip"),
        (
            {"fetch.source": "archive", "fetch.archive.path": "https://a.example/b/my%20art.zip?download=1"},
            "my art.zip",
        ),
        ({"fetch.source": "archive", "fetch.archive.path": "/home/ana/paintings#1.zip"}, "paintings#1.zip"),
        ({"fetch.source": "archive", "fetch.archive.path": "100%25.zip"}, "100%25.zip"),
        ({"fetch.source": "kaggle"}, "ikarus777/best-artworks-of-all-time, version 1"),
    ],
)
def test_the_name_of_the_data_set_has_no_folders_and_no_keys(
    settings: MakeSettings, changes: dict[str, str], name: str
) -> None:
    assert fetch.data_set(settings(changes).fetch) == name


def test_a_folder_is_used_in_place(tmp_path: Path, settings: MakeSettings) -> None:
    assert folder.fetch_files(settings({"fetch.folder.path": str(tmp_path)}).fetch, tmp_path / "scratch") == tmp_path


@pytest.mark.parametrize(
    ("path", "message"), [(None, "is not set"), ("/no/such/folder", "not a folder on this machine")]
)
def test_a_missing_folder(tmp_path: Path, settings: MakeSettings, path: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        folder.fetch_files(settings({"fetch.folder.path": path}).fetch, tmp_path)


def test_a_folder_through_the_stage(workspace: Workspace, tmp_path: Path) -> None:
    for artist in ("Ana", "Ben"):
        for number in range(3):
            write_painting(tmp_path / "set" / artist / f"{number}.jpg", seed=hash((artist == "Ana", number)) % 1000)
    workspace.set({"fetch.source": "folder", "fetch.folder.path": str(tmp_path / "set")})
    workspace.stage("fetch")
    assert tree_bytes(workspace.path / "data/raw") == tree_bytes(tmp_path / "set")


def test_kaggle_without_network_is_one_sentence_with_what_to_do(workspace: Workspace, tmp_path: Path) -> None:
    workspace.set({"fetch.source": "kaggle"})
    # A port that nothing listens on stands for a network that is not there.
    nowhere = "http://127.0.0.1:9"
    done = workspace.stage(
        "fetch", check=False, HTTPS_PROXY=nowhere, HTTP_PROXY=nowhere, KAGGLEHUB_CACHE=str(tmp_path / "cache")
    )
    assert done.returncode == 1
    assert "ikarus777/best-artworks-of-all-time/versions/1 cannot be downloaded" in done.stderr
    assert "set fetch.source to archive and fetch.archive.path" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (workspace.path / "data/raw").exists()


class KaggleHandler(BaseHTTPRequestHandler):
    """Predictions as Kaggle's API does to the download of one data set."""

    status, content, asked = 200, b"", ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        type(self).asked = f"{self.path} {body}"
        self.send_response(self.status)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def kaggle() -> Iterator[type[KaggleHandler]]:
    """A server where kagglehub's own test environment looks for Kaggle."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", 7777), KaggleHandler)
    except OSError:
        pytest.skip("port 7777, the one of kagglehub's test environment, is in use")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield KaggleHandler
    server.shutdown()
    server.server_close()


def test_a_kaggle_data_set(workspace: Workspace, tmp_path: Path, kaggle: type[KaggleHandler]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for artist in ("Ana", "Ben"):
            image = write_painting(tmp_path / artist / "1.jpg", seed=len(artist) + ord(artist[0]))
            opened.write(image, f"images/{artist}/1.jpg")
    kaggle.status, kaggle.content = 200, packed.getvalue()
    workspace.set({"fetch.source": "kaggle", "fetch.kaggle.dataset": "owner1/paintings", "fetch.kaggle.version": 3})
    cache = str(tmp_path / "cache")
    workspace.stage("fetch", KAGGLE_API_ENVIRONMENT="TEST", KAGGLEHUB_CACHE=cache)
    assert "DownloadDataset" in kaggle.asked
    assert '"owner1"' in kaggle.asked
    assert '"datasetVersionNumber": 3' in kaggle.asked
    assert set(tree_bytes(workspace.path / "data/raw")) == {"Ana/1.jpg", "Ben/1.jpg"}

    kaggle.status, kaggle.content = 403, b""
    workspace.set({"fetch.kaggle.version": 4})
    refused = workspace.stage("fetch", check=False, KAGGLE_API_ENVIRONMENT="TEST", KAGGLEHUB_CACHE=cache)
    assert refused.returncode == 1
    assert refused.stderr.startswith("redarte fetch: Kaggle refused owner1/paintings/versions/4 (403): check")


def test_the_real_archive(workspace: Workspace) -> None:
    real = ROOT.parent / "shared" / "data" / "artworks.zip"
    if not real.is_file():
        pytest.skip("needs ../shared/data/artworks.zip, the real paintings, which are not part of the project")
    workspace.set({"fetch.source": "archive", "fetch.archive.path": str(real)})
    done = workspace.stage("fetch")
    assert "760 images of 50 artists; 0 files skipped" in done.stdout
    assert len(list((workspace.path / "data/raw/Albrecht_Dürer").iterdir())) > 20
