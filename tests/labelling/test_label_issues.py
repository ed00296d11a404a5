"""`redarte label-issues`: the list, the page, saving, and what a correction brings."""

import contextlib
import csv
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from redarte.commands import label_issues
from redarte.images import decoding, folders
from redarte.labelling import corrections_file, findings, label_page
from redarte.runtime.errors import UserError
from tests import browser, servers
from tests.conftest import Workspace, write_painting

HEADER = "image,artist,action,reason\n"


@pytest.fixture(scope="module")
def judged(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of a finished workspace with the page. Tests leave it as it is."""
    path = tmp_path_factory.mktemp("judged") / "redarte"
    shutil.copytree(finished.path, path, symlinks=True)
    workspace = Workspace(path)
    printed = workspace.run("redarte", "label-issues").stdout
    assert re.match(r"\d+ of 15 images are predicted to be another artist's, by classifiers that did not see", printed)
    assert "open plots/label_issues.html in a browser" in printed
    assert workspace.run("git", "status", "--porcelain").stdout == ""
    return workspace


@pytest.fixture
def corrections(judged: Workspace) -> Iterator[Path]:
    file = judged.path / "corrections.csv"
    yield file
    file.write_text(HEADER, encoding="utf-8")


def issues(workspace: Workspace, top: int = 200, model: str = "red1") -> list[dict[str, object]]:
    """What `redarte label-issues --json` prints, in this process."""
    with contextlib.chdir(workspace.path):
        found = findings.find(Path(f"models/{model}.onnx"), top)
        return [label_issues.row(found, index) for index in found.worst]


def test_json_lists_each_image_once_the_worst_first(judged: Workspace, corrections: Path) -> None:
    found = [json.loads(line) for line in judged.run("redarte", "label-issues", "--json").stdout.splitlines()]
    assert issues(judged) == found
    splits = {
        name: split
        for split in ("train", "val", "test")
        for name in folders.files_by_id(judged.path / "data/split" / split)
    }
    assert found
    for row in found:
        assert list(row) == ["image", "artist", "probability", "predicted", "split"]
        assert row["split"] == splits[row["image"]]
        assert row["artist"] == row["image"].partition("/")[0] != row["predicted"]
    assert [row["probability"] for row in found] == sorted(row["probability"] for row in found)
    assert len({row["image"] for row in found}) == len(found)
    assert issues(judged, top=1) == found[:1]
    assert issues(judged, model="red3") != found
    # An image in corrections.csv is decided, whether it is named by its identity or its content.
    file = folders.files_by_id(judged.path / "data/split" / found[1]["split"])[found[1]["image"]]
    digest = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    corrections.write_text(f"{HEADER}{found[0]['image']},,keep,\n{digest},,exclude,\n", encoding="utf-8")
    assert issues(judged) == found[2:]


def test_near_duplicates_of_two_artists_come_first_with_their_matches(judged: Workspace, tmp_path: Path) -> None:
    shutil.copytree(judged.path, tmp_path / "redarte", symlinks=True)
    with contextlib.chdir(tmp_path / "redarte"):
        listed, folder = Path("data/images.csv"), Path("data/split/train")
        one, *others = sorted(folders.list_images(folder))
        artist = next(path.partition("/")[0] for path in others if path.partition("/")[0] != one.partition("/")[0])
        image = decoding.read_within(folder / one, 2000)
        decoding.write_jpeg(folder / artist / "twin.jpg", image[: len(image) * 4 // 5], quality=90)
        name = folders.image_id(one)
        content = re.sub(f"(?m)^({name},.*,train),,", r"\1,1,", listed.read_text(encoding="utf-8"))
        listed.unlink()
        listed.write_text(f"{content}{artist}/twin,{artist}/twin,train,1,no\n", encoding="utf-8")
        found = findings.find(Path("models/red1.onnx"), 200)
        assert [{found.sources[index] for index in group} for group in found.across] == [{name, f"{artist}/twin"}]
        label_page.write(found)
        page = Path("plots/label_issues.html").read_text(encoding="utf-8")
    assert page.count('<figure class="pair"><img src="data:image/jpeg') == 1
    places = [page.index(text) for text in ('id="near-duplicates"', 'class="pair"', f'data-image="{name}"')]
    assert [*places, page.index('id="low-probability"')] == sorted([*places, page.index('id="low-probability"')])


def test_what_is_missing_is_one_sentence(judged: Workspace, workspace: Workspace, corrections: Path) -> None:
    def refused(at: Workspace, model: str = "red1") -> str:
        with pytest.raises(UserError) as caught:
            issues(at, model=model)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "data/images.csv is missing; create it with `dvc repro`" in refused(workspace)
    assert "models/red9.onnx is missing" in refused(judged, "red9")
    corrections.write_text("image,artist\n", encoding="utf-8")
    assert "corrections.csv has the columns image, artist" in refused(judged)
    listed = judged.path / "data/images.csv"
    content = listed.read_text(encoding="utf-8")
    listed.unlink()
    listed.write_text("\n".join(content.splitlines()[:3]), encoding="utf-8")
    assert "data/images.csv does not list" in refused(judged)
    listed.write_text(content, encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_decisions_are_downloaded(judged: Workspace, corrections: Path, width: int, scheme: str) -> None:
    page_file = judged.path / "plots/label_issues.html"
    with browser.chromium() as chromium, browser.watch(chromium, width) as watched:
        page = watched.page
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(browser.address(page_file))
        rows = page.locator("#low-probability ~ .rows .row")
        names = [str(row.get_attribute("data-image")) for row in rows.all()]
        assert names[:3] == [row["image"] for row in issues(judged, top=3)]
        images = page.evaluate("[...document.images].every(image => image.decode && image.src.startsWith('data:'))")
        assert images
        # By mouse, by keyboard, and another artist by its name.
        rows.nth(0).get_by_role("button", name="Exclude").click()
        rows.nth(1).focus()
        page.keyboard.press("r")
        page.keyboard.press("k")
        rows.nth(2).get_by_label("Relabel to another artist").fill("new  artist")
        page.keyboard.press("Enter")
        predicted = str(rows.nth(1).get_attribute("data-predicted"))
        assert rows.nth(1).locator(".decision").inner_text() == f"Relabel to {predicted.replace('_', ' ')}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Decisions survive closing the page.
        page.evaluate("unsaved = false")
        page.reload()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save").click()
        text = Path(download.value.path()).read_text(encoding="utf-8")
    assert (watched.asked, watched.complaints) == ([], [])
    saved = list(csv.DictReader(text.splitlines()))
    assert [(row["image"], row["artist"], row["action"]) for row in saved] == [
        (names[0], "", "exclude"), (names[1], predicted, "relabel"), (names[2], "new  artist", "relabel"),
    ]  # fmt: skip
    assert all(row["reason"].startswith("label-issues red1 0.") for row in saved)


def test_the_service_saves_decisions(judged: Workspace, corrections: Path, tmp_path: Path) -> None:
    name = issues(judged, top=1)[0]["image"]
    corrections.write_text(f"{HEADER}{name},,keep,looked at\n", encoding="utf-8")
    with servers.page(judged, tmp_path) as served, browser.chromium() as chromium:
        with browser.watch(chromium, 1280) as watched:
            page = watched.page
            page.goto(f"{served.address}/label-issues")
            page.locator(".row").nth(0).focus()
            page.keyboard.press("x")
            page.keyboard.press("s")
            page.get_by_text("1 rows in corrections.csv").wait_for()
        saved = list(csv.DictReader(corrections.read_text(encoding="utf-8").splitlines()))
        assert [(row["image"], row["action"]) for row in saved] == [(name, "exclude")]
        before = corrections.read_text(encoding="utf-8")
        address = f"{served.address}/api/corrections"
        decision = {"image": name, "action": "keep"}
        for body, headers, status, message in (
            ([decision], {"Host": "evil.example"}, 403, "does not have the name evil.example"),
            ([decision], {"Origin": "http://evil.example"}, 403, "comes from another site's page"),
            ([decision, {"image": "No/body", "action": "keep"}], {}, 422, "No/body is no image of data/raw"),
            ([decision | {"action": "relabel"}], {}, 422, "relabel needs the new artist"),
            ([decision | {"action": "delete"}], {}, 422, ""),
            ([decision | {"action": "relabel", "artist": "=cmd"}], {}, 422, "no name of an artist"),
        ):
            answer = requests.post(address, json=body, headers=headers, timeout=10)
            assert (answer.status_code, message in answer.text) == (status, True)
            assert corrections.read_text(encoding="utf-8") == before

        # The page of other images is not offered.
        label_page = judged.path / "plots/label_issues.html"
        content = label_page.read_text(encoding="utf-8")
        assert 'href="label-issues"' in requests.get(served.address, timeout=10).text
        try:
            label_page.write_text(content.replace('name="images" content="', 'name="images" content="0'), "utf-8")
            assert 'href="label-issues"' not in requests.get(served.address, timeout=10).text
            assert requests.get(f"{served.address}/label-issues", timeout=10).status_code == 409
        finally:
            label_page.write_text(content, encoding="utf-8")


@pytest.mark.long
def test_the_whole_loop(finished: Workspace, tmp_path: Path) -> None:
    """A correction of a test image and of a training image, with and without them in an experiment."""
    shutil.copytree(finished.path, tmp_path / "redarte", symlinks=True)
    workspace = Workspace(tmp_path / "redarte")
    before = {split: set(folders.files_by_id(workspace.path / f"data/split/{split}")) for split in ("train", "test")}
    tested, trained = min(before["test"]), min(before["train"])
    artist = max(before["test"]).partition("/")[0]
    rows = f"{tested},{artist},relabel,\n{trained},,exclude,\n"
    (workspace.path / "corrections.csv").write_text(HEADER + rows, encoding="utf-8")
    workspace.run("dvc", "repro")
    assert workspace.metrics("split")["corrections"]["relabelled_names"] == [
        f"{tested} -> {artist}/{tested.partition('/')[2]}"
    ]
    with_them = workspace.metrics("evaluate")
    workspace.run("redarte", "check")
    workspace.commit("corrected")
    workspace.run("dvc", "exp", "run", "-S", "split.apply_corrections=false")
    without = workspace.metrics("evaluate")
    assert with_them["corrections"]["common_test_images"] == without["corrections"]["common_test_images"] == 2
    assert without["test_accuracy"] == finished.metrics("evaluate")["test_accuracy"]
    with (workspace.path / "plots/predictions.csv").open(encoding="utf-8", newline="") as file:
        common = [row for row in csv.DictReader(file) if row["image"] != tested]
    right = sum(row["artist"] == row["predicted"] for row in common)
    assert without["corrections"]["common_test_accuracy"] == pytest.approx(right / 2)
    assert "split.apply_corrections" in workspace.run("dvc", "params", "diff").stdout
    assert "common_test_accuracy" in workspace.run("dvc", "metrics", "diff", "--all").stdout


def test_an_image_that_is_relabelled_already_is_marked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data/raw has it below the artist of the source, and data/images.csv below the corrected one."""
    monkeypatch.chdir(tmp_path)
    content = write_painting(tmp_path / "data/raw/Ana/1.jpg").read_bytes()
    write_painting(tmp_path / "data/raw/Ben/1.jpg", seed=1)
    rows = "Ben/1-2,Ana/1,train,,no\nBen/1,Ben/1,test,,no\n"
    (tmp_path / "data/images.csv").write_text("image,source,split,near_duplicates,common_test\n" + rows)
    (tmp_path / "corrections.csv").write_text(HEADER + "Ana/1,Ben,relabel,\n")
    assert corrections_file.save_artist(content, "Cleo").startswith("corrections.csv now relabels Ana/1 to Cleo")
    assert (tmp_path / "corrections.csv").read_text() == HEADER + "Ana/1,Cleo,relabel,marked in redarte serve\n"
