"""The exported models: the same predictions as Keras, evidence maps, and out-of-distribution scores."""

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest

from redarte.commands import predict
from redarte.commands.predict import SAMPLE_ONLY
from redarte.devices.backend import keras
from redarte.images import dataset, decoding
from redarte.images.folders import image_id
from redarte.images.overlays import overlay
from redarte.inference import predictor
from redarte.inference.predictor import Predictor
from redarte.ingestion import checks
from redarte.models import study
from redarte.params import Penalty
from redarte.runtime.errors import UserError
from redarte.runtime.sandbox import Sandbox
from tests.conftest import Workspace, painting, write_painting
from tests.exports import exported


def written(model: keras.Model, path: Path, **changes: object) -> Predictor:
    return exported(model, study.decompose(model), path, **changes)


@pytest.fixture(scope="module")
def red3() -> keras.Model:
    keras.utils.set_random_seed(5)
    return study.build("red3", 32, 3, Penalty(l1=0.0, l2=0.0))


def test_onnx_predicts_as_keras_does(red3: keras.Model, tmp_path: Path) -> None:
    images = np.stack([painting(32, 32, seed) for seed in range(5)])
    predictions = written(red3, tmp_path / "n.onnx").predict([images[:3], images[3:]])
    np.testing.assert_allclose(predictions.probabilities, red3.predict(images, verbose=0), atol=1e-6)
    np.testing.assert_allclose(predictions.calibrated, predictor.softmax(predictions.logits / 2))
    assert predictions.similarity.shape == (5, 2)
    assert np.abs(predictions.similarity).max() <= 1 + 1e-6


def test_the_same_model_gives_the_same_bytes(red3: keras.Model, tmp_path: Path) -> None:
    twin = keras.models.clone_model(red3)
    twin.set_weights(red3.get_weights())
    contents = []
    for model in (red3, twin):
        written(model, tmp_path / "n.onnx")
        contents.append((tmp_path / "n.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_evidence_adds_up_to_the_logit(red3: keras.Model, tmp_path: Path) -> None:
    model = written(red3, tmp_path / "n.onnx")
    image = painting(32, 32)
    bias = red3.layers[-1].bias.numpy()
    logits = model.predict([image[None]]).logits[0]
    for artist in range(3):
        assert model.evidence(image, artist).sum() + bias[artist] == pytest.approx(logits[artist], abs=1e-4)


def test_the_evidence_of_a_model_that_uses_one_corner_is_there(tmp_path: Path) -> None:
    """Grad-CAM's average over positions would highlight all of a constant image."""
    model = study.build("red1", 32, 3, Penalty(l1=0.0, l2=0.0))
    for layer in model.layers[1:-2]:
        if layer.weights:
            layer.set_weights([np.full(layer.kernel.shape, 0.1), np.zeros(layer.bias.shape)])
    kernel = np.zeros((4, 4, 128, 3))
    kernel[0, 3, :, 1] = 1  # the corner at the top right speaks for the second artist, and nothing else does
    model.layers[-1].set_weights([kernel.reshape(-1, 3), np.zeros(3)])
    exported = written(model, tmp_path / "n.onnx")
    image = np.full((32, 32, 3), 200, np.uint8)
    evidence = exported.evidence(image, 1)
    assert evidence[0, 3] > 0
    assert np.count_nonzero(evidence) == 1
    lit = overlay(image, evidence).astype(int)
    colourful = lit.max(axis=2) - lit.min(axis=2)
    assert colourful[:8, 24:].max() > 100
    assert colourful[16:, :16].max() < 5


def test_a_score_above_the_threshold_is_out_of_distribution(red3: keras.Model, tmp_path: Path) -> None:
    image = painting(32, 32)[None]
    ood_score = float(written(red3, tmp_path / "n.onnx").predict([image]).ood_score[0])
    for bound, known in ((ood_score * 1.01, True), (ood_score * 0.99, False)):
        model = written(red3, tmp_path / "n.onnx", ood_threshold=bound)
        assert model.predict([image]).in_distribution.tolist() == [known]


def test_noise_has_a_higher_score_than_images(finished: Workspace) -> None:
    model = Predictor(finished.path / "models/red1.onnx")
    test = np.concatenate(list(dataset.load(finished.path / "data/resized/val").batches()))
    noise = np.random.default_rng(0).integers(0, 256, test.shape, np.uint8)
    ood_score = model.predict([test, noise]).ood_score
    assert ood_score[: len(test)].max() < ood_score[len(test) :].min()


def test_files_that_are_not_models_are_refused(red3: keras.Model, tmp_path: Path) -> None:
    file = tmp_path / "n.onnx"
    with pytest.raises(UserError, match=r"n\.onnx is missing; create it with `dvc repro`"):
        Predictor(file)
    written(red3, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is not a model that redarte exported"):
        Predictor(file)
    somebody_elses = onnx.load_from_string(whole)
    del somebody_elses.metadata_props[:]
    file.write_bytes(somebody_elses.SerializeToString())
    with pytest.raises(UserError, match="is not a model that redarte exported; create it"):
        Predictor(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": None}, "create it with"),
        ({"temperature": 0.0}, "create it with"),
        ({"artists": []}, "create it with"),
        ({"training_images": "Ana/1"}, "create it with"),
        ({"artists": ["Ana", "Ben"]}, "has outputs for other artists than its metadata"),
        ({"training_images": ["Ana/1"]}, "has outputs for other artists than its metadata"),
    ],
)
def test_impossible_metadata_is_refused(
    red3: keras.Model, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    file = tmp_path / "n.onnx"
    written(red3, file)
    proto = onnx.load_from_string(file.read_bytes())
    printed = proto.metadata_props[0]
    printed.value = json.dumps(json.loads(printed.value) | changes)
    file.write_bytes(proto.SerializeToString())
    with pytest.raises(UserError, match=message):
        Predictor(file).predict([np.zeros((1, 32, 32, 3), np.uint8)])


def test_deeply_nested_metadata_is_refused(red3: keras.Model, tmp_path: Path) -> None:
    file = tmp_path / "n.onnx"
    written(red3, file)
    proto = onnx.load_from_string(file.read_bytes())
    proto.metadata_props[0].value = "[" * 9999
    file.write_bytes(proto.SerializeToString())
    with pytest.raises(UserError, match="is not a model that redarte exported"):
        Predictor(file)


def test_a_model_does_not_read_other_files(red3: keras.Model, tmp_path: Path) -> None:
    """ONNX allows weights in other files; ours are in the file."""
    written(red3, tmp_path / "n.onnx")
    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    proto = onnx.load(tmp_path / "n.onnx")
    trained = next(array for array in proto.graph.initializer if array.name == "embeddings")
    onnx.external_data_helper.set_external_data(trained, str(tmp_path / "secret"))
    trained.ClearField("raw_data")
    (tmp_path / "n.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UserError, match="is not a model that redarte exported"):
        Predictor(tmp_path / "n.onnx")


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A folder with two images and many other files."""
    folder = tmp_path / "strange"
    write_painting(folder / "a.jpg", seed=1)
    write_painting(folder / "sub/ñandú – 画.JPG", seed=2)
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not an image")
    whole = (folder / "a.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: -len(whole) // 4])
    (folder / "gone.jpg").symlink_to("nowhere")
    return folder


def test_predict_reports_bad_files_and_predicts_the_others(finished: Workspace, strange: Path) -> None:
    done = finished.run("redarte", "predict", str(strange), "nosuch.jpg", "--json", "--top", "2", check=False)
    assert done.returncode == 1
    predictions = {Path(line["path"]).name: line for line in map(json.loads, done.stdout.splitlines())}
    assert {name: line["error"] for name, line in predictions.items() if "error" in line} == {
        "empty.png": "is empty", "half.jpg": "is truncated or corrupt",
        "gone.jpg": "does not exist", "nosuch.jpg": "does not exist",
    }  # fmt: skip
    for name in ("a.jpg", "ñandú – 画.JPG"):
        answer = predictions[name]
        assert list(answer) == ["path", "artist", "probability", "top", "in_distribution"]
        assert [answer["artist"], answer["probability"]] == list(answer["top"][0].values())
        assert 0 < answer["top"][1]["probability"] <= answer["probability"] < 1
    assert done.stderr == f"redarte: 1 other files in these folders are not images\nredarte: {SAMPLE_ONLY}\n"


def test_predict_ignores_other_files_in_a_folder(finished: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_painting(folder / "a.jpg", seed=1)
    write_painting(folder / "b", seed=2)
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "@eaDir/a.jpg", "._a.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    done = finished.run("redarte", "predict", str(folder), "--json")
    assert [Path(json.loads(line)["path"]).name for line in done.stdout.splitlines()] == ["a.jpg", "b"]


def test_predict_prints_a_table(finished: Workspace, strange: Path) -> None:
    done = finished.run("redarte", "predict", str(strange / "a.jpg"), "--model", "red2", "--top", "3")
    lines = done.stdout.splitlines()
    assert len(lines) in (3, 4), "a line an artist, and one more where the image is not known"
    assert sum(line.count("School of") for line in lines) == 3


def test_predict_agrees_with_evaluate(finished: Workspace) -> None:
    """Original files are resized and compressed as those of data/resized."""
    done = finished.run("redarte", "predict", "data/split/test", "--json", "--top", "1")
    lines = map(json.loads, done.stdout.splitlines())
    message = {image_id(line["path"].removeprefix("data/split/test/")): line for line in lines}
    rows = (finished.path / "plots/predictions.csv").read_text().splitlines()[1:]
    assert len(rows) == len(message) == 3
    for row in rows:
        path, _, predicted, probability, _, _, _, known = row.split(",")
        assert message[path]["artist"] == predicted
        assert message[path]["probability"] == pytest.approx(float(probability), abs=2e-6)
        assert message[path]["in_distribution"] == (known == "yes")


def test_an_image_is_read_as_in_data_resized(finished: Workspace) -> None:
    resized = dataset.image_files(finished.path / "data/resized/val")
    for name, file in resized.items():
        original = finished.path / f"data/split/val/{name}.jpg"
        pixels = checks.read_resized(original, 32, 1e8, jpeg_quality=95)
        np.testing.assert_array_equal(pixels, decoding.read_resized(file, 32))
    assert resized


def test_a_model_that_predicts_nan_is_refused(red3: keras.Model, tmp_path: Path) -> None:
    broken = keras.models.clone_model(red3)
    broken.set_weights([weights * np.nan for weights in red3.get_weights()])
    model = written(broken, tmp_path / "n.onnx")
    with pytest.raises(UserError, match="predicts NaN or infinite values; train and export it again"):
        model.predict([painting(32, 32)[None]])


def test_a_model_of_an_older_version_is_reported(red3: keras.Model, tmp_path: Path) -> None:
    file = tmp_path / "n.onnx"
    written(red3, file)
    older = onnx.load(file)
    content = json.loads(older.metadata_props[0].value)
    content["strangest"] = content.pop("ood_threshold")
    older.metadata_props[0].value = json.dumps(content)
    onnx.save(older, file)
    with pytest.raises(UserError, match="was exported by an older version of redarte; export it again with"):
        Predictor(file)


def test_predict_starts_without_tensorflow(finished: Workspace, strange: Path) -> None:
    script = "import sys; from redarte import cli; cli.app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    output = finished.run("python", "-c", script, "predict", str(strange / "a.jpg")).stdout
    loaded = {name.partition(".")[0] for name in output.splitlines()[-1].split()}
    assert "onnxruntime" in loaded
    assert not loaded & {"tensorflow", "keras", "matplotlib", "fastapi", "onnx", "sklearn", "scipy"}


def test_more_images_than_a_batch_come_in_order(red3: keras.Model, tmp_path: Path) -> None:
    model = written(red3, tmp_path / "n.onnx")
    many = 2 * dataset.inference_batch_size(model.side) + 3
    paths = [write_painting(tmp_path / f"{number}.jpg", seed=number) for number in range(many)]
    paths[5].write_bytes(b"broken")
    with Sandbox(2, checks.max_memory(1e6)) as sandbox:
        message = list(predict.predict(model, paths, sandbox))
    assert [path for path, _ in message] == paths
    for number in (0, 4, 6, 40, 66):
        alone = model.predict([decoding.read_resized(paths[number], 32)[None]])
        result = message[number][1]
        assert not isinstance(result, UserError)
        np.testing.assert_allclose(result[0].logits[result[1]], alone.logits[0], atol=1e-4)
    assert str(message[5][1]) == "is not an image"


def test_explain_writes_an_image(finished: Workspace, strange: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen.jpg"
    message = finished.run("redarte", "explain", str(strange / "a.jpg"), "--out", str(out)).stdout
    assert message.startswith(f"{out}: evidence for School of ")
    assert decoding.size(out) == (40, 30)
    done = finished.run("redarte", "explain", str(strange / "a.jpg"), "--out", str(out), "--artist", "School of Pints",
                        check=False)  # fmt: skip
    assert done.returncode == 1
    assert "did you mean School of Points?" in done.stderr
    done = finished.run("redarte", "explain", str(strange / "notes.txt"), "--out", str(out), check=False)
    assert done.stderr == f"redarte: {strange / 'notes.txt'} is not an image.\n"


def test_an_unknown_model_is_reported(finished: Workspace) -> None:
    done = finished.run("redarte", "predict", "x.jpg", "--model", "red9", check=False)
    assert done.returncode == 1
    assert (
        done.stderr == "redarte: models/red9.onnx is missing; create it with `dvc repro`, or get it with `dvc pull`.\n"
    )


def test_a_model_needs_no_other_file(finished: Workspace, strange: Path, tmp_path: Path) -> None:
    """As `dvc artifacts get` brings it: one file, in an empty folder."""
    shutil.copy2(finished.path / "models/red3.onnx", tmp_path / "red3.onnx")
    (tmp_path / "red3.onnx").chmod(stat.S_IRUSR)
    done = Workspace(tmp_path).run("redarte", "predict", str(strange / "a.jpg"), "--model", "red3.onnx", "--json")
    assert json.loads(done.stdout)["artist"].startswith("School_of_")


def test_an_export_that_differs_from_keras_fails(finished: Workspace, tmp_path: Path) -> None:
    """An export that differs from Keras would be worse than none."""
    clone = finished.clone(tmp_path / "clone")
    shutil.copytree(finished.path / "data", clone.path / "data", dirs_exist_ok=True)
    shutil.copytree(finished.path / "models", clone.path / "models", dirs_exist_ok=True)
    (clone.path / "models/red1.onnx").unlink()
    code = clone.path / "src/redarte/export/onnx.py"
    code.write_text(code.read_text().replace("+ parts.bias", "+ parts.bias * 2"))
    done = clone.stage("export", "red1", check=False)
    assert done.returncode == 1
    assert "red1: the exported file's probabilities differ from Keras's by" in done.stderr
    assert not (clone.path / "models/red1.onnx").exists()
