"""finetuned: backbones, frozen layers, features that are computed once, and its stages in DVC."""

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redarte.commands import estimates
from redarte.devices.backend import keras
from redarte.images import dataset
from redarte.images.dataset import Dataset
from redarte.inference.predictor import Predictor
from redarte.models import backbones, finetuned, layers
from redarte.models.base import files as saved
from redarte.models.layers import Descriptor, Moments, by_region
from redarte.params import Finetuned, Params
from redarte.runtime.errors import UserError
from redarte.serving import serve_page
from tests.conftest import Workspace, finetuning_params, new_workspace, save_backbone, write_painting
from tests.exports import exported

MakeSettings = Callable[..., Params]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_backbone(tmp_path / "tiny.keras")


@pytest.fixture
def chosen(settings: MakeSettings, tiny: Path) -> Callable[..., Finetuned]:
    """The section `finetuned`, on the tiny backbone."""
    return lambda **changes: (
        settings(finetuning_params(tiny) | {f"finetuned.{name}": value for name, value in changes.items()}).finetuned
    )


def images(folder: Path, side: int = 48, seed: int = 0) -> Dataset:
    for artist in ("Ana", "Bente"):
        for number in range(6):
            write_painting(folder / artist / f"{number}.jpg", 50, 40, seed=seed + 10 * number + len(artist))
    return dataset.load(folder, side=side)


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "MobileNetV3Small"])
def test_a_backbone_of_keras_takes_images_as_they_are(chosen: Callable[..., Finetuned], name: str) -> None:
    backbone = backbones.load(chosen(backbone=name, weights="none", input_size=64))
    finer, coarse = backbones.feature_maps(backbone)
    assert finer.shape[1:3] == (4, 4)
    assert coarse.shape[1:3] == (2, 2)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    make = getattr(keras.applications, name)
    bare = make(include_top=False, weights=None, input_shape=(64, 64, 3))
    bare.set_weights(backbone.get_weights())
    module = __import__(make.__module__, fromlist=["preprocess_input"])
    expected = bare(module.preprocess_input(image.copy())).numpy()
    np.testing.assert_allclose(backbone(image).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_a_backbone_of_a_file_takes_other_sizes(chosen: Callable[..., Finetuned], tiny: Path) -> None:
    backbone = backbones.load(chosen(input_size=40))
    assert [tuple(tensor.shape[1:]) for tensor in backbones.feature_maps(backbone)] == [(20, 20, 12), (10, 10, 16)]
    original = keras.saving.load_model(tiny)
    for one, other in zip(backbone.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_a_file(chosen: Callable[..., Finetuned], tmp_path: Path) -> None:
    made = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(64, 64, 3))
    made.save_weights(tmp_path / "small.weights.h5")
    section = chosen(backbone="MobileNetV3Small", weights=str(tmp_path / "small.weights.h5"), input_size=64)
    for one, other in zip(backbones.load(section).get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def with_code(path: Path) -> Path:
    keras.Sequential([keras.Input((24, 24, 3)), keras.layers.Lambda(lambda image: image * 2)]).save(path)
    return path


def no_extractor(path: Path) -> Path:
    keras.Sequential([keras.Input((24, 24, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]).save(path)
    return path


def of_numbers(path: Path) -> Path:
    keras.Sequential([keras.Input((24,)), keras.layers.Dense(4)]).save(path)
    return path


def of_one_size(path: Path) -> Path:
    layers = [keras.Input((24, 24, 3)), keras.layers.Conv2D(2, 3), keras.layers.Reshape((22, 44, 1))]
    keras.Sequential(layers).save(path)
    return path


def broken(path: Path) -> Path:
    path.write_bytes(save_backbone(path).read_bytes()[:2000])
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path, "does not exist"),
        (with_code, "contains code, which is never executed"),
        (no_extractor, "no feature extractor"),
        (of_numbers, "does not take RGB images"),
        (of_one_size, r"does not take images of 48 px: set finetuned\.input_size"),
        (broken, "is corrupt"),
    ],
)
def test_files_that_are_not_backbones_are_one_sentence(
    chosen: Callable[..., Finetuned], tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        backbones.load(chosen(backbone=str(make(tmp_path / "other.keras"))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"backbone": "EfficentNetB0"}, r"did you mean EfficientNetB0\?"),
        ({"backbone": "Xception", "weights": "none", "input_size": 32}, "does not take images of 32 px"),
        ({"backbone": "MobileNetV3Small", "weights": "nowhere.h5", "input_size": 64}, "nowhere.h5 .* does not exist"),
        ({"backbone": "MobileNetV3Small", "weights": "params.yaml", "input_size": 64}, "does not have the weights"),
    ],
)
def test_unavailable_backbones_are_one_sentence(
    chosen: Callable[..., Finetuned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any],
    sentence: str,
) -> None:  # fmt: skip
    section = chosen(**changes)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        backbones.load(section)


@pytest.mark.long
def test_missing_weights_are_one_sentence_offline(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "redarte", {"model": "finetuned", "extra_models": ["finetuned"]})
    for artist in ("Ana", "Bente"):
        for split in ("train", "val"):
            write_painting(workspace.path / "data/split" / split / artist / "1.jpg")
    offline = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    failed = workspace.stage("train", "finetuned", check=False, **offline)
    assert failed.returncode == 1
    assert "the ImageNet weights of EfficientNetV2B0 cannot be downloaded from https://" in failed.stderr
    assert "set finetuned.weights to it, or set finetuned.backbone to a .keras file" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (workspace.path / "models/finetuned.keras").exists()


PORTAL = """
import urllib.request

def retrieve(url, filename=None, reporthook=None, data=None):
    with open(filename, "w") as file:
        file.write("<html><body>Please log in to the model</body></html>")
    return filename, {}

urllib.request.urlretrieve = retrieve
"""


# Without and with a published hash.
@pytest.mark.parametrize("backbone", ["MobileNetV2", pytest.param("EfficientNetV2B0", marks=pytest.mark.long)])
def test_a_login_page_instead_of_weights_is_reported(tmp_path: Path, backbone: str) -> None:
    changes = {"model": "finetuned", "extra_models": ["finetuned"], "finetuned.backbone": backbone}
    workspace = new_workspace(tmp_path / "redarte", changes | {"finetuned.input_size": 64})
    for artist, split in itertools.product(("Ana", "Bente"), ("train", "val")):
        write_painting(workspace.path / "data/split" / split / artist / "1.jpg")
    (tmp_path / "sitecustomize.py").write_text(PORTAL)
    code = f"{workspace.path}/src:{tmp_path}"
    failed = workspace.stage("train", "finetuned", check=False, PYTHONPATH=code, KERAS_HOME=str(tmp_path / "keras"))
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert f"the ImageNet weights of {backbone} cannot be downloaded: {tmp_path}/keras/models/" in failed.stderr
    assert "Delete the file, log in to the network" in failed.stderr


@pytest.mark.parametrize(
    ("number", "reason"),
    [(28, "No space left on device"), pytest.param(104, "Connection reset by peer", marks=pytest.mark.long)],
)
def test_good_weights_of_another_backbone_are_not_deleted(tmp_path: Path, number: int, reason: str) -> None:
    """The newest file of Keras's cache was deleted, whatever had failed."""
    changes = {"model": "finetuned", "extra_models": ["finetuned"], "finetuned.backbone": "MobileNetV2"}
    workspace = new_workspace(tmp_path / "redarte", changes | {"finetuned.input_size": 64})
    for artist, split in itertools.product(("Ana", "Bente"), ("train", "val")):
        write_painting(workspace.path / "data/split" / split / artist / "1.jpg")
    failing = f"raise OSError({number}, {reason!r})"
    (tmp_path / "sitecustomize.py").write_text(
        PORTAL[: PORTAL.index("    with")] + f"    {failing}\n" + PORTAL[PORTAL.index("\nurllib") :]
    )
    good = tmp_path / "keras/models/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    good.parent.mkdir(parents=True)
    good.write_bytes(b"\x89HDF\r\n\x1a\n weights")
    code = f"{workspace.path}/src:{tmp_path}"
    failed = workspace.stage("train", "finetuned", check=False, PYTHONPATH=code, KERAS_HOME=str(tmp_path / "keras"))
    assert failed.returncode == 1 and "Traceback" not in failed.stderr, failed.stderr
    assert "the ImageNet weights of MobileNetV2 cannot be" in failed.stderr
    assert good.read_bytes().endswith(b"weights")


def test_phase_one_does_not_change_the_backbone_and_reads_each_image_once(
    settings: MakeSettings, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = settings(finetuning_params(tiny) | {"finetuned.fine_tune.epochs": 0})
    train, val = images(tmp_path / "train"), images(tmp_path / "val")
    read: list[int] = []
    batch = Dataset.batch

    def counted(self: Dataset, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        read.extend(places.tolist())
        return batch(self, places)

    monkeypatch.setattr(Dataset, "batch", counted)
    trained = finetuned.fit("finetuned", whole, train, val, tmp_path / "history.csv")
    # Those of the components are in train, and val has the same images; a second training reads none.
    assert sorted(read) == [*range(12)]
    read.clear()
    again = finetuned.fit("finetuned", whole, train, val, tmp_path / "history.csv")
    assert read == []
    assert again.metrics == trained.metrics
    before = {weight.path: weight.numpy() for weight in keras.saving.load_model(tiny).weights}
    of_backbone = [weight for weight in trained.model.weights if weight.path in before]
    assert len(of_backbone) == len(before)
    for weight in of_backbone:
        np.testing.assert_array_equal(weight.numpy(), before[weight.path])
    assert trained.checkpoint is None
    assert float(trained.metrics["accuracy"]) > 0.9
    # Export would compute the same.
    forward = finetuned.decompose(trained.model).forward
    seen = forward(train.batch(np.arange(len(train)))[0].astype(np.float32))[2]
    assert trained.embeddings is not None
    assert list(trained.embeddings) == train.ids
    np.testing.assert_allclose(np.stack(list(trained.embeddings.values())), seen, rtol=1e-4, atol=1e-4)


def test_the_cache_changes_no_byte(
    settings: MakeSettings, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cache, with an empty one, a full one, one with corrupt entries, and one that lacks some."""
    whole = settings(finetuning_params(tiny) | {"finetuned.fine_tune.epochs": 0})
    train, val = images(tmp_path / "train"), images(tmp_path / "val", seed=500)
    found = []
    for state in ("off", "empty", "full", "corrupt", "partial"):
        monkeypatch.setenv("REDARTE_CACHE", "0" if state == "off" else str(tmp_path / "cache"))
        files = sorted(file for file in (tmp_path / "cache").rglob("*") if file.is_file())
        assert bool(files) == (state not in ("off", "empty"))
        for number, file in enumerate(files):
            if state == "corrupt" and number % 2:
                file.write_bytes(file.read_bytes()[:-9])
            elif state == "partial" and number % 3:
                file.unlink()
        trained = finetuned.fit("finetuned", whole, train, val, tmp_path / "history.csv")
        parts = finetuned.decompose(trained.model)
        digests = {"trunk": parts.trunk, "descriptor": parts.descriptor}
        predictor = exported(trained.model, parts, tmp_path / "n.onnx", artists=train.artists, **digests)
        logits = predictor.predict_dataset(val, "val").logits
        np.testing.assert_allclose(logits, predictor.predict(val.batches()).logits, atol=1e-4)
        described = predictor.described(train, "train")[0]
        expected = predictor.run(["descriptor"], train.batch(np.arange(12))[0])[0]
        np.testing.assert_allclose(described, expected, atol=1e-4)
        assert trained.embeddings is not None
        arrays = [*trained.model.get_weights(), *trained.embeddings.values(), logits]
        found.append((state, [array.tobytes() for array in arrays], trained.metrics))
    assert [state for state, *rest in found if rest != list(found[0][1:])] == []


@pytest.mark.long
@pytest.mark.parametrize("weight", ["none", "balanced"])
def test_phase_one_by_adam(settings: MakeSettings, tiny: Path, tmp_path: Path, weight: str) -> None:
    wanted = finetuning_params(tiny) | {
        "finetuned.fine_tune.epochs": 0,
        "finetuned.head.epochs": 30,
        "finetuned.head.learning_rate": 0.1,
        "train.class_weight": weight,
    }
    train, val = images(tmp_path / "train"), images(tmp_path / "val")
    one, other = (finetuned.fit("finetuned", settings(wanted), train, val, tmp_path / "history.csv") for _ in range(2))
    assert float(one.metrics["accuracy"]) > 0.9
    assert one.metrics == other.metrics
    for weight_of_one, weight_of_other in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight_of_one, weight_of_other)
    less = settings(wanted | {"finetuned.head.epochs": 1, "finetuned.head.learning_rate": 1e-6})
    assert float(finetuned.fit("finetuned", less, train, val, tmp_path / "history.csv").metrics["loss"]) > 0.6


def test_the_scales_of_the_features(settings: MakeSettings, tiny: Path, tmp_path: Path) -> None:
    """Standardised, means and deviations together are as far from their mean as 1, and the root as 2."""
    whole = settings(finetuning_params(tiny) | {"finetuned.fine_tune.epochs": 0})
    train = images(tmp_path)
    model = finetuned.fit("finetuned", whole, train, train, tmp_path / "history.csv").model
    seen = train.batch(np.arange(12))[0]
    standardised = keras.Model(model.input, model.get_layer("standardised").output)(seen).numpy()
    as_json = keras.Model(model.input, model.get_layer("descriptor").output)(seen).numpy()
    root = standardised[:, -10:]
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-5)
    assert np.square(root).sum(axis=1).mean() == pytest.approx(2, rel=1e-3)
    assert np.square(standardised[:, :-10]).sum(axis=1).mean() < 1
    spread = root.std(axis=0) / as_json[:, -10:].std(axis=0)
    np.testing.assert_allclose(spread, spread[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("unfreeze", "learn"),
    [
        (0.0, set()),
        (0.35, {"third"}),
        (1.0, {"first", "second", "third"}),
        ("sec", {"second", "third"}),
    ],
)
def test_phase_two_trains_the_last_layers_and_no_batch_normalization(
    chosen: Callable[..., Finetuned], unfreeze: float | str, learn: set[str]
) -> None:
    section = chosen(unfreeze=unfreeze)
    model = finetuned.build(backbones.load(section), 2, section)
    convolutions = [layer for layer in model.layers if layer.name in ("first", "second", "third")]
    assert {layer.name for layer in convolutions if layer.trainable_weights} == learn
    normalised = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert normalised
    assert not any(layer.trainable_weights for layer in normalised)


def test_an_unknown_layer_is_one_sentence(chosen: Callable[..., Finetuned]) -> None:
    section = chosen(unfreeze="sceond")
    with pytest.raises(UserError, match=r"finetuned.unfreeze is 'sceond', and no layer .*; did you mean second\?"):
        finetuned.build(backbones.load(section), 2, section)


def described(maps: np.ndarray, border: int = 0) -> tuple[Descriptor, np.ndarray, np.ndarray]:
    """The layer for all components of maps, the moments, and the root of their covariance."""
    channels = maps.shape[3]
    moments = Moments(border)([maps]).numpy()
    layer = Descriptor([channels], channels)
    layer.build(moments.shape)
    layer.set_weights([np.eye(channels, dtype=np.float32)])
    return layer, moments, layer(moments).numpy()[:, 2 * channels :]


def test_the_moments_of_maps() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(1, 2, (2, 7, 6, channels)).astype(np.float32) for channels in (3, 5)]
    found = Moments(border=1)(maps).numpy()
    for index, vector in enumerate(found):
        flat = [one[index].reshape(-1, one.shape[3]) for one in maps]
        inner = maps[0][index, 1:-1, 1:-1].reshape(-1, 3)
        expected = [flat[0].mean(0), flat[0].std(0), flat[1].mean(0), flat[1].std(0), inner.mean(0)]
        expected.append(np.cov(inner.T, bias=True)[np.triu_indices(3)])
        np.testing.assert_allclose(vector, np.concatenate(expected), atol=1e-5)
    layer = Descriptor([3, 5], 3)
    np.testing.assert_array_equal(layer.embedding(found), found[:, 6:11])
    mean, covariance = map(np.asarray, layer.inner(found))
    np.testing.assert_allclose(mean[0], maps[0][0, 1:-1, 1:-1].mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(covariance[0], np.cov(maps[0][0, 1:-1, 1:-1].reshape(-1, 3).T, bias=True), atol=1e-5)


def test_the_root_of_a_covariance() -> None:
    seen = np.random.default_rng(0).normal(0, [1, 1.5, 2, 1.2], (2, 8, 9, 4)).astype(np.float32)
    seen[..., 1] += seen[..., 0]
    for image, found in zip(seen, described(seen)[2], strict=True):
        covariance = np.cov(image.reshape(-1, 4).T)
        values, vectors = np.linalg.eigh(covariance / np.trace(covariance))
        root = (vectors * np.sqrt(values)) @ vectors.T
        scale = np.where(np.eye(4, dtype=bool), 1, np.sqrt(2))
        np.testing.assert_allclose(found, (root * scale)[np.triu_indices(4)], atol=0.01)
        assert np.square(found).sum() == pytest.approx(1, abs=0.01)


def test_the_root_of_principal_components_is_that_of_projected_maps() -> None:
    rng = np.random.default_rng(0)
    seen, kernel = rng.normal(0, 1, (2, 8, 9, 5)).astype(np.float32), rng.normal(0, 1, (5, 3)).astype(np.float32)
    layer = Descriptor([5], 3)
    moments = Moments(1)([seen])
    layer.build(moments.shape)
    layer.set_weights([kernel])
    np.testing.assert_allclose(layer(moments).numpy()[:, 10:], described(seen @ kernel, 1)[2], atol=1e-5)


def test_the_root_of_a_constant_image_is_zero() -> None:
    np.testing.assert_array_equal(described(np.full((1, 6, 6, 3), 7, np.float32))[2], np.zeros((1, 6)))


def test_the_root_ignores_the_border() -> None:
    seen = np.random.default_rng(0).random((2, 8, 9, 3), np.float32)
    other = seen.copy()
    other[:, [0, -1]], other[:, :, [0, -1]] = 9, 7
    one, same = (described(image, border=1)[2] for image in (seen, other))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_allclose(one, described(seen[:, 1:-1, 1:-1])[2], atol=1e-6)


@pytest.mark.parametrize(("places", "regions"), [(20, 10), (21, 10), (7, 3), (5, 5), (6, 1)])
def test_the_regions_of_a_root_add_up(places: int, regions: int) -> None:
    seen = np.random.default_rng(0).random((2, places, places, 5), np.float32)
    layer, moments, root = described(seen, border=1)
    parts = layer.regions(moments, seen, 1, regions, regions).numpy()
    assert parts.shape == (2, regions, regions, 15)
    np.testing.assert_allclose(parts.sum(axis=(1, 2)), root, atol=1e-5)
    if regions == places:
        assert not parts[:, [0, -1]].any()


def test_a_region_has_its_positions() -> None:
    """Of 21 positions in 10 regions the last two are in the last region."""
    seen = np.zeros((1, 21, 21, 1), np.float32)
    seen[0, 19, 20], seen[0, 0, 0] = 1, 5
    cut = by_region(seen, 10, 10).numpy()
    assert cut.shape == (1, 10, 10, 9, 1)
    summed = cut.sum(axis=(3, 4))[0]
    assert summed[9, 9] == 1
    assert summed[0, 0] == 5
    assert summed.sum() == 6


def test_the_model_is_saved_and_loaded_in_safe_mode(chosen: Callable[..., Finetuned], tmp_path: Path) -> None:
    section = chosen()
    model = finetuned.build(backbones.load(section), 2, section)
    saved.save(model, ["Ana", "Bente"], tmp_path / "n.keras")
    again, artists = saved.load(tmp_path / "n.keras")
    seen = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(seen).numpy(), again(seen).numpy())
    assert artists == ["Ana", "Bente"]


@pytest.mark.long
def test_a_backbone_with_squeeze_and_excitation_is_exported(chosen: Callable[..., Finetuned], tmp_path: Path) -> None:
    """Its reshapes cannot be asked about no images at all."""
    section = chosen(backbone="MobileNetV3Small", weights="none", input_size=64)
    model = finetuned.build(backbones.load(section), 2, section)
    rng = np.random.default_rng(0)
    decide = model.get_layer("artists")
    decide.set_weights([rng.normal(0, 1, decide.kernel.shape), np.array([0.1, -0.1])])
    predictor = exported(model, finetuned.decompose(model), tmp_path / "n.onnx", artists=["Ana", "Bente"])
    seen = rng.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    predictions = predictor.predict([seen[:2], seen[2:]])
    np.testing.assert_allclose(predictions.probabilities, model.predict(seen.astype(np.float32), verbose=0), atol=1e-5)
    assert predictor.predict([]).calibrated.shape == (0, 2)


def test_a_plain_run_does_not_include_it(finished: Workspace) -> None:
    assert not list((finished.path / "models").glob("f*"))
    refused = finished.run("redarte", "predict", "--model", "finetuned", "x.jpg", check=False)
    assert refused.returncode == 1
    assert "models/finetuned.onnx is missing; create it with `dvc repro`" in refused.stderr


@pytest.mark.long
def test_everything_downstream_works_with_it(extra_models: Workspace) -> None:
    evaluated = extra_models.metrics("evaluate")
    assert evaluated["model"] == "finetuned"
    trained = extra_models.metrics("train_finetuned")
    assert trained["backbone"] == "tiny.keras"
    assert trained["epochs_run"] == trained["epoch"] == 1
    with (extra_models.path / "plots/train_finetuned.csv").open(encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file) if row["split"] == "val"] == ["1"]
    report = (extra_models.path / "plots/report.html").read_text(encoding="utf-8")
    assert "on the backbone tiny.keras" in report
    assert f"Accuracy on the train images {trained['accuracy']:.2f}" in report
    assert 'aria-label="Finetuned: train accuracy ends at' in report
    model_card = (extra_models.path / "plots/model_card.md").read_text(encoding="utf-8")
    assert "on the backbone tiny.keras" in model_card
    # The weights are not all ours to give away.
    assert model_card.startswith("---\nlicense: other\n")
    images = sorted((extra_models.path / "data/split/test").rglob("*.jpg"))
    asked = extra_models.run("redarte", "predict", "--json", *map(str, images))
    answers = [json.loads(line) for line in asked.stdout.splitlines()]
    with (extra_models.path / "plots/predictions.csv").open(encoding="utf-8") as file:
        assert [answer["artist"] for answer in answers] == [row["predicted"] for row in csv.DictReader(file)]


@pytest.mark.long
def test_the_evidence_adds_up_to_the_logit(extra_models: Workspace) -> None:
    model = Predictor(extra_models.path / "models/finetuned.onnx")
    seen = [np.asarray(image) for image in dataset.load(extra_models.path / "data/split/test", side=48).batches(1)]
    for artist in range(len(model.metadata.artists)):
        # The difference is the bias, which is the same for every image.
        biases = [model.predict([image]).logits[0, artist] - model.evidence(image[0], artist).sum() for image in seen]
        np.testing.assert_allclose(biases, biases[0], atol=1e-3)


@pytest.mark.parametrize(("places", "fewer"), [(35, 17), (17, 17), (40, 20), (21, 10), (5, 1)])
def test_a_map_of_any_size_is_summed_over_regions(places: int, fewer: int) -> None:
    """VGG16 has 21 positions and then 10 for an image of 336 px, which is not an integer ratio."""
    seen = np.random.default_rng(0).random((3, places, places, 2), np.float32)
    answer = keras.ops.convert_to_numpy(layers.sum_regions(seen, fewer, fewer))
    assert answer.shape == (3, fewer, fewer, 2)
    np.testing.assert_allclose(answer.sum(axis=(1, 2)), seen.sum(axis=(1, 2)), rtol=1e-4)
    assert (answer > 0).all()


def test_doctor_estimates_by_the_backbone(settings: MakeSettings, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "_model_seconds", lambda name, *_: 0.5 if name == "finetuned" else 0.0)
    wanted, amount = settings(finetuning_params(tiny)), estimates.Amount(100, 1e6)
    # Of the 100 images 10 are in test, and 80 in train.
    usual = estimates.seconds("export@red1", wanted, amount)
    assert estimates.seconds("export_extra@finetuned", wanted, amount) - usual == pytest.approx(90 * 0.5)
    further = estimates.seconds("evaluate", wanted, amount) - estimates.seconds("evaluate", settings(), amount)
    assert further == pytest.approx(10 * 0.5)
    # Five folds: 20 in test.
    folds = settings(finetuning_params(tiny) | {"split.folds": 5})
    assert estimates.seconds("evaluate", folds, amount) - estimates.seconds("evaluate", wanted, amount) == (
        pytest.approx(10 * 0.5)
    )
    one_phase = settings(finetuning_params(tiny) | {"finetuned.fine_tune.epochs": 0})
    two_phases = estimates.seconds("train_extra@finetuned", wanted, amount)
    assert two_phases - estimates.seconds("train_extra@finetuned", one_phase, amount) == pytest.approx(90 * 3 * 0.5)


@pytest.mark.long
def test_the_page_begins_with_the_configured_model(extra_models: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(extra_models.path)
    models = serve_page.load_models([])
    assert list(models) == ["red1", "red2", "red3", "fisher", "finetuned"]
    assert serve_page.first_choice(models) == "finetuned"
