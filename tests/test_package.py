"""The installed package: its extras, and predictions in an environment with nothing else."""

import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement
from PIL import Image

import redarte
from redarte.images import decoding
from tests.conftest import ROOT, Workspace, painting, write_painting

MEGABYTE = 10**6


def test_the_extras_are_the_requirements() -> None:
    """`make` installs versions that the ranges of the package allow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras["serve"], *extras["pipeline"]]
    ranges = [one for one in map(Requirement, listed) if one.name != "redarte"]
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines())
    versions = dict(line.split("==") for line in lines if line)
    assert sorted(versions) == sorted(one.name for one in ranges)
    assert [one.name for one in ranges if not one.specifier.contains(versions[one.name])] == []


def test_predictions_in_python_are_those_of_the_command(finished: Workspace, tmp_path: Path) -> None:
    image = min((finished.path / "data/split/test").rglob("*.*"))
    printed = finished.run("redarte", "predict", str(image), "--json", "--top", "3").stdout
    expected = json.loads(printed)
    model = redarte.load(finished.path / "models/red1.onnx")
    assert (len(model.artists), model.side) == (3, 32)
    for given in (image, str(image), image.read_bytes()):
        predicted = model.predict(given)
        assert predicted.artist == expected["artist"] == predicted.ranking[0][0]
        assert predicted.probability == predicted.ranking[0][1] == pytest.approx(expected["probability"], abs=1e-6)
        assert sum(probability for _, probability in predicted.ranking) == pytest.approx(1)
        assert predicted.in_distribution == expected["in_distribution"]
    (tmp_path / "notes.jpg").write_text("not an image")
    with pytest.raises(redarte.UserError, match=r"notes\.jpg is not an image"):
        model.predict(tmp_path / "notes.jpg")
    with pytest.raises(redarte.UserError, match="the image is not an image"):
        model.predict(b"not an image")
    with pytest.raises(redarte.UserError, match=r"red9\.onnx is missing"):
        redarte.load("red9.onnx")


def test_the_example_without_redarte_gives_the_same_probabilities(finished: Workspace, tmp_path: Path) -> None:
    page = (ROOT / "docs/predicting.md").read_text(encoding="utf-8")
    example = next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "InferenceSession" in code)
    assert "redarte." not in example
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    model = finished.path / "models/red1.onnx"
    images = [min((finished.path / "data/split/test").rglob("*.*"))]
    # Smaller and larger than the model's side of 32 px on one axis or both, grey, and without loss.
    for number, size in enumerate(((20, 25), (20, 300), (31, 33), (63, 65), (150, 70), (1000, 700), (300, 260))):
        picture = Image.fromarray(painting(*size, seed=number))
        for name, converted in (("a.jpg", picture), ("b.png", picture), ("c.jpg", picture.convert("L"))):
            converted.save(tmp_path / f"{number}{name}")
            images.append(tmp_path / f"{number}{name}")
    for image in images:
        printed = finished.run("python", str(tmp_path / "example.py"), str(model), str(image)).stdout.splitlines()
        expected = redarte.load(model).predict(image).ranking
        assert [line.rpartition(" ")[0] for line in printed] == [artist for artist, _ in expected], image
        values = [float(line.rpartition(" ")[2]) for line in printed]
        assert values == pytest.approx([p for _, p in expected], abs=1e-4), image


def test_predictions_in_threads_change_nothing_in_the_callers_process(finished: Workspace, tmp_path: Path) -> None:
    """stderr stayed redirected, and importing redarte changed OpenCV and Pillow."""
    for number in range(8):
        write_painting(tmp_path / f"{number}.jpg", 300, 200, seed=number)
    script = f"""
import concurrent.futures, logging, os, sys, warnings
import cv2
from PIL import Image
def settings():
    return (cv2.getNumThreads(), cv2.utils.logging.getLogLevel(), Image.MAX_IMAGE_PIXELS, list(warnings.filters),
            logging.getLogger("tifffile").level, os.environ.copy(), os.fstat(2).st_ino)
before = settings()
import redarte
model = redarte.load({str(finished.path / "models/red1.onnx")!r})
images = [f"{tmp_path}/{{number}}.jpg" for number in range(8)] * 8
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(model.predict, images))
assert [one.ranking for one in found[:8]] == [model.predict(image).ranking for image in images[:8]]
changed = [(one, other) for one, other in zip(before, settings()) if one != other]
assert not changed, changed
print("still here", file=sys.stderr)
"""
    assert finished.run("python", "-c", script).stderr == "still here\n"


def test_csv_has_a_row_for_each_file(finished: Workspace, tmp_path: Path) -> None:
    image = min((finished.path / "data/split/test").rglob("*.*"))
    (tmp_path / "notes, old.jpg").write_text("not an image")
    arguments = ("redarte", "predict", str(image), str(tmp_path / "notes, old.jpg"))
    done = finished.run(*arguments, "--csv", check=False)
    assert done.returncode == 1
    first, second = csv.DictReader(done.stdout.splitlines())
    predicted = redarte.load(finished.path / "models/red1.onnx").predict(image)
    assert (first["path"], first["error"], first["artist_1"]) == (str(image), "", predicted.artist)
    assert float(first["probability_1"]) == pytest.approx(predicted.probability, abs=1e-5)
    assert (second["path"], second["error"]) == (str(tmp_path / "notes, old.jpg"), "is not an image")
    assert list(first)[-1] == "probability_3"
    done = finished.run(*arguments, "--csv", "--json", check=False)
    assert done.stderr == "redarte: use --json or --csv, not both.\n"


@pytest.mark.long
def test_a_wheel_predicts_in_an_empty_environment(finished: Workspace, tmp_path: Path) -> None:
    """Outside of any project, with a copied model; what needs an extra says so."""
    source, away = tmp_path / "source", tmp_path / "away"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    away.mkdir()
    shutil.copy(finished.path / "models/red1.onnx", away)
    image = shutil.copy(min((finished.path / "data/split/test").rglob("*.*")), away / "a.jpg")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=away, env=environment, text=True, capture_output=True, timeout=540)

    def succeed(*command: str | Path) -> str:
        done = run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    succeed(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source)
    succeed(sys.executable, "-m", "venv", tmp_path / "env")
    python, command = tmp_path / "env/bin/python", tmp_path / "env/bin/redarte"
    succeed(python, "-m", "pip", "install", "-q", *tmp_path.glob("*.whl"))
    packages = Path(succeed(python, "-c", "import redarte; print(redarte.__path__[0])").strip()).parent
    assert sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) < 400 * MEGABYTE
    predicted = json.loads(succeed(command, "predict", image, "--model", "red1.onnx", "--json"))
    script = "import redarte; print(redarte.load('red1.onnx').predict('a.jpg').probability)"
    assert float(succeed(python, "-c", script)) == pytest.approx(predicted["probability"], abs=1e-6)
    expected = finished.run("redarte", "predict", str(image), "--json").stdout
    assert predicted["probability"] == pytest.approx(json.loads(expected)["probability"], abs=1e-4)
    succeed(command, "explain", image, "--model", "red1.onnx", "--out", "evidence.jpg")
    for subcommand, extra in (("serve", "serve"), ("label-issues", "pipeline")):
        done = run(command, subcommand)
        assert done.returncode == 1
        assert f"is not installed; type: python -m pip install 'redarte[{extra}]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert "name one, such as --model red1.onnx" in run(command, "predict", image).stderr

    # The service, as in the Dockerfile: without a project it has no label page, and no artist can be corrected.
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (wheel,) = tmp_path.glob("*.whl")
    assert '"/source[serve]"' in docker
    succeed(python, "-m", "pip", "install", "-q", "--constraint", ROOT / "constraints.txt", f"{wheel}[serve]")
    entry = json.loads(re.findall(r"ENTRYPOINT (.*)", docker)[0])
    service = subprocess.Popen(
        [command, *entry[1:], "--port", "0", away], cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE
    )
    try:
        assert service.stdout is not None
        address = service.stdout.readline().split()[1]
        health = json.loads(re.findall(r"HEALTHCHECK CMD (.*)", docker)[0])
        succeed(python, *[part.replace("127.0.0.1:7860", address.rpartition("/")[2]) for part in health[1:]])
        page = requests.get(address, timeout=30).text
        assert "red1" in page.lower() and "Wrong?" not in page and "label-issues" not in page
        assert requests.get(f"{address}/label-issues", timeout=30).status_code == 404
        with Path(image).open("rb") as file:
            sent = requests.post(f"{address}/api/predict", files={"image": file}, timeout=60)
        assert sent.json()["probability"] == pytest.approx(predicted["probability"], abs=1e-4)
    finally:
        service.terminate()
        assert service.wait(30) in (0, 143)


@pytest.mark.long
def test_the_oldest_allowed_versions_predict(finished: Workspace, tmp_path: Path) -> None:
    """The ranges of pyproject.toml begin at versions that work."""
    uv = Path(sys.executable).with_name("uv")
    succeeded = {"check": True, "capture_output": True, "text": True, "timeout": 540}
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, tmp_path / "env"], **succeeded)  # type: ignore[call-overload]
    python = tmp_path / "env/bin/python"
    install = [uv, "pip", "install", "-q", "--python", python, "--resolution", "lowest-direct", f"{ROOT}[serve]"]
    subprocess.run(install, **succeeded)  # type: ignore[call-overload]
    image = min((finished.path / "data/split/test").rglob("*.*"))
    code = (
        f"import redarte.serving.service; print(redarte.load('models/red1.onnx').predict({str(image)!r}).probability)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([python, "-c", code], cwd=finished.path, env=environment, **succeeded)  # type: ignore[call-overload]
    expected = json.loads(finished.run("redarte", "predict", str(image), "--json").stdout)["probability"]
    assert float(done.stdout) == pytest.approx(expected, abs=1e-3)


def test_pixels_and_pickles(finished: Workspace) -> None:
    image = min((finished.path / "data/split/test").rglob("*.*"))
    model = redarte.load(finished.path / "models/red1.onnx")
    pixels = decoding.read_within(image, 10_000)
    expected = model.predict(image)
    assert model.predict(pixels).artist == expected.artist
    assert model.predict(pixels).probability == pytest.approx(expected.probability, abs=0.05)
    for wrong in (pixels[..., 0], pixels[..., :2], pixels / 255, pixels[:0]):
        with pytest.raises(redarte.UserError, match=r"pass \(height, width, 3\), uint8, RGB"):
            model.predict(wrong)
    assert pickle.loads(pickle.dumps(model)).predict(image) == expected


def test_a_model_of_the_sample_says_that_it_knows_no_real_painters(finished: Workspace, tmp_path: Path) -> None:
    image = min((finished.path / "data/split/test").rglob("*.*"))
    assert finished.run("redarte", "predict", str(image.relative_to(finished.path))).stderr == ""
    write_painting(tmp_path / "a.jpg")
    done = finished.run("redarte", "predict", str(tmp_path / "a.jpg"))
    assert "trained on the built-in sample, invented schools of painting; it cannot recognise real" in done.stderr


def test_the_command_has_a_version_and_completion(tmp_path: Path) -> None:
    command = Workspace(tmp_path)
    assert re.fullmatch(r"redarte \d+\.\d+\.\d+\n", command.run("redarte", "--version").stdout)
    assert "--install-completion" in command.run("redarte", "--help").stdout
    shown = command.run("redarte", "--show-completion", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", check=False)
    assert "Traceback" not in shown.stderr
