"""Backbones of keras.applications and keras-hub with random weights: features, export, errors."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redarte.devices.backend import keras
from redarte.models import backbones, finetuned
from redarte.models.base import files as saved
from redarte.params import Finetuned, Params
from redarte.runtime.errors import UserError
from tests.conftest import Workspace, new_workspace
from tests.exports import exported
from tests.training.test_checkpoints import opened, row, state

MakeSettings = Callable[..., Params]
SIDE = 64


@pytest.fixture
def section(settings: MakeSettings) -> Callable[..., Finetuned]:
    """The section `finetuned` with some values, and few components."""
    defaults = {"weights": "none", "input_size": SIDE, "principal_components": 4}
    return lambda **changes: settings({f"finetuned.{k}": v for k, v in (defaults | changes).items()}).finetuned


def small_convnext(path: Path) -> keras.Model:
    """A ConvNeXt of four blocks, with other weights than zero and one everywhere."""
    keras.utils.set_random_seed(0)
    make = sys.modules[keras.applications.ConvNeXtTiny.__module__].ConvNeXt
    model = make(depths=[1, 1, 1, 1], projection_dims=[4, 8, 12, 16], include_top=False, weights=None,
                 input_shape=(SIDE, SIDE, 3), name="small")  # fmt: skip
    rng = np.random.default_rng(0)
    # ImageNet's mean and variance have no other values.
    model.set_weights([w if w.shape in ((), (3,)) else rng.normal(0.1, 0.3, w.shape) for w in model.get_weights()])
    model.save(path)
    return model


def normalise(backbone: keras.Model, images: np.ndarray) -> None:
    """Sets the statistics of batch normalization to those of some images, as a training does."""
    backbone.trainable = True
    for layer in backbones.all_layers(backbone):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    backbone(images, training=True)
    backbone.trainable = False


def agrees(section: Finetuned, folder: Path) -> None:
    """Checks that a model on this backbone is saved, loaded and exported with the same probabilities."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    images = rng.integers(0, 256, (4, section.input_size, section.input_size, 3))
    images = (images * np.linspace(0.1, 1, 4)[:, None, None, None]).astype(np.uint8)  # dark to bright
    backbone = backbones.load(section)
    if np.abs(backbone(images.astype(np.float32))).max() < 1e-6:  # with random weights, MobileNet's features vanish
        normalise(backbone, images.astype(np.float32))
    model = finetuned.build(backbone, 3, section)
    classify = model.get_layer("artists")
    classify.set_weights([rng.normal(0, 0.1, weight.shape) for weight in classify.get_weights()])
    described = keras.Model(model.input, model.get_layer("descriptor").output)(images.astype(np.float32)).numpy()
    model.get_layer("standardised").set_weights([described.mean(axis=0), described.var(axis=0) + 1e-3])
    saved.save(model, ["Ana", "Bente", "Cleo"], folder / "model.keras")
    loaded, _ = saved.load(folder / "model.keras")
    predicted = exported(loaded, finetuned.decompose(loaded), folder / "model.onnx").predict([images])
    expected = model(images.astype(np.float32), training=False).numpy()
    assert np.ptp(expected[:, 0]) > 1e-3  # the images differ
    np.testing.assert_allclose(predicted.probabilities, expected, atol=1e-4)


def test_convnext_has_the_same_features_with_depthwise_convolutions(
    section: Callable[..., Finetuned], tmp_path: Path
) -> None:
    original = small_convnext(tmp_path / "small.keras")
    assert any(getattr(layer, "groups", 1) > 1 for layer in original.layers)
    backbone = backbones.load(section(backbone=str(tmp_path / "small.keras")))
    assert not any(getattr(layer, "groups", 1) > 1 for layer in backbone.layers)
    images = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.float32)
    intermediate = [layer.output for layer in original.layers if len(layer.output.shape) == 4][-1]
    expected = keras.Model(original.input, intermediate)(images).numpy()
    np.testing.assert_allclose(backbone(images).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_convnext_is_exported(section: Callable[..., Finetuned], tmp_path: Path) -> None:
    small_convnext(tmp_path / "small.keras")
    agrees(section(backbone=str(tmp_path / "small.keras")), tmp_path)


def test_other_grouped_convolutions_are_refused_before_the_training(
    section: Callable[..., Finetuned], tmp_path: Path
) -> None:
    layers = keras.layers
    keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Conv2D(8, 3), layers.Conv2D(8, 3, groups=2)]).save(
        tmp_path / "grouped.keras"
    )
    with pytest.raises(UserError, match="has grouped convolutions that are not depthwise, and cannot be exported"):
        backbones.load(section(backbone=str(tmp_path / "grouped.keras")))


FAMILIES = (
    "ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3",
    "MobileNet", "MobileNetV2", "MobileNetV3Large", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "VGG19",
    "Xception",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_keras_applications_is_exported(
    section: Callable[..., Finetuned], tmp_path: Path, name: str
) -> None:
    agrees(section(backbone=name, input_size=128), tmp_path)  # the smallest for Inception


def test_no_family_of_keras_applications_is_missing() -> None:
    modules = {getattr(keras.applications, name).__module__ for name in FAMILIES}
    makers = (value for name, value in vars(keras.applications).items() if name[0].isupper())
    assert {maker.__module__ for maker in makers} == modules


def presets() -> dict[str, Callable[[Any], Any]]:
    """Small backbones of keras-hub by their kind."""
    transformer = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "image_shape": (SIDE, SIDE, 3)}
    stages = {"stackwise_num_repeats": [1, 2], "image_shape": (None, None, 3)}
    return {
        "dinov2": lambda models: models.DINOV2Backbone(patch_size=14, intermediate_dim=64, num_register_tokens=4,
                                                       position_embedding_shape=(518, 518), **transformer),
        "vit": lambda models: models.ViTBackbone(patch_size=16, mlp_dim=64, **transformer),
        "densenet": lambda models: models.DenseNetBackbone(compression_ratio=0.5, growth_rate=8, **stages),
        "bert": lambda models: models.BertBackbone(vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4,
                                                   intermediate_dim=4),
    }  # fmt: skip


SCALE, OFFSET = [1 / 50, 1 / 60, 1 / 70], [-2.0, -1.5, -1.0]


def save_preset(kind: str, folder: Path) -> Path:
    """A backbone with random weights as keras-hub stores it."""
    keras_hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    presets()[kind](keras_hub.models).save_to_preset(str(folder))
    keras_hub.layers.ImageConverter(image_size=(SIDE, SIDE), scale=SCALE, offset=OFFSET).save_to_preset(str(folder))
    return folder


@pytest.mark.parametrize(
    "kind", ["dinov2", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("vit", "densenet"))]
)
def test_a_backbone_of_keras_hub_is_exported(section: Callable[..., Finetuned], tmp_path: Path, kind: str) -> None:
    preset = save_preset(kind, tmp_path / kind)
    agrees(section(backbone=f"keras_hub:{preset}", weights="imagenet"), tmp_path)


def test_the_patches_of_a_transformer_are_a_map_of_the_scaled_image(
    section: Callable[..., Finetuned], tmp_path: Path
) -> None:
    preset = save_preset("dinov2", tmp_path / "dinov2")
    import keras_hub

    whole = keras_hub.models.Backbone.from_preset(str(preset), image_shape=(70, 70, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 70, 70, 3)).astype(np.float32)
    tokens = np.asarray(whole(images * SCALE + OFFSET))
    assert tokens.shape == (2, 1 + 4 + 25, 32)
    backbone = backbones.load(section(backbone=f"keras_hub:{preset}", weights="imagenet", input_size=70))
    np.testing.assert_allclose(backbone(images).numpy(), tokens[:, 5:].reshape(2, 5, 5, 32), rtol=1e-3, atol=1e-4)
    assert [tuple(tensor.shape[1:]) for tensor in backbones.feature_maps(backbone)] == [(5, 5, 32)]
    untrained = backbones.load(section(backbone=f"keras_hub:{preset}", weights="none", input_size=70))
    assert backbones.digest(untrained) != backbones.digest(backbone)


def test_batch_normalization_inside_a_backbone_of_keras_hub_stays_frozen(
    section: Callable[..., Finetuned], tmp_path: Path
) -> None:
    chosen = section(backbone=f"keras_hub:{save_preset('densenet', tmp_path / 'densenet')}", unfreeze=1.0)
    layers = backbones.all_layers(finetuned.build(backbones.load(chosen), 2, chosen))
    normalised = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    convolutions = [layer for layer in layers if type(layer) is keras.layers.Conv2D and layer.name != "patches"]
    assert len(normalised) > 2 and not any(layer.trainable_weights for layer in normalised)
    assert convolutions and all(layer.trainable_weights for layer in convolutions)


@pytest.mark.parametrize(
    ("preset", "changes", "sentence"),
    [
        ("nothing", {}, "is not a preset of keras-hub, such as keras_hub:dinov2_small"),
        ("vit", {"input_size": 70}, r"cannot be loaded for images of 70 px .*: it is a multiple of the patch size"),
        ("vit", {"input_size": 96, "weights": "imagenet"}, "for ViT and Swin the size that they were trained with"),
        ("bert", {}, "Either it is no complete image backbone"),
        ("truncated", {"weights": "imagenet"}, "Either it is no complete image backbone"),
        ("empty", {}, "Either it is no complete image backbone"),
    ],
)
def test_presets_that_cannot_be_used_are_one_sentence(
    section: Callable[..., Finetuned], tmp_path: Path, preset: str, changes: dict[str, Any], sentence: str
) -> None:
    folder = tmp_path / preset
    if preset in presets():
        save_preset(preset, folder)
    elif preset == "truncated":
        weights = save_preset("vit", folder) / "model.weights.h5"
        weights.write_bytes(weights.read_bytes()[:3000])
    elif preset == "empty":
        folder.mkdir()
    pytest.importorskip("keras_hub")
    with pytest.raises(UserError, match=sentence) as caught:
        backbones.load(section(backbone=f"keras_hub:{folder}", **changes))
    assert "\n" not in str(caught.value)


def test_a_preset_is_not_downloaded_offline(
    section: Callable[..., Finetuned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("keras_hub")
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^keras_hub:dinov2_small .* cannot be downloaded: go online once") as caught:
        backbones.load(section(backbone="keras_hub:dinov2_small"))
    assert "\n" not in str(caught.value)


def test_without_keras_hub(section: Callable[..., Finetuned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = section(backbone=f"keras_hub:{save_preset('densenet', tmp_path / 'densenet')}")
    saved.save(finetuned.build(backbones.load(chosen), 2, chosen), ["Ana", "Bente"], tmp_path / "model.keras")
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UserError, match=r"needs the package keras_hub; type: .*redarte\[hub\]"):
        backbones.load(chosen)
    with pytest.raises(UserError, match=r"model\.keras needs the package keras_hub; type: .*redarte\[hub\]"):
        saved.load(tmp_path / "model.keras")


@pytest.mark.long
def test_a_backbone_of_keras_hub_in_the_pipeline(finished: Workspace, tmp_path: Path) -> None:
    preset = save_preset("dinov2", tmp_path / "dinov2")
    workspace = new_workspace(tmp_path / "redarte", {
        "extra_models": ["finetuned"], "model": "finetuned", "finetuned.backbone": f"keras_hub:{preset}",
        "finetuned.input_size": 70, "finetuned.principal_components": 4, "finetuned.fine_tune.epochs": 1,
        "train.batch_size": 4,
    })  # fmt: skip
    shutil.copytree(finished.path / ".dvc/cache", workspace.path / ".dvc/cache")
    workspace.run("dvc", "repro")
    metrics = workspace.metrics("train_finetuned")
    assert (metrics["backbone"], metrics["epochs_run"]) == ("dinov2", 1)
    image = str(min((workspace.path / "data/split/test").rglob("*.*")))
    assert "School" in workspace.run("redarte", "predict", image).stdout


def test_doctor_reports_the_stages_without_the_weights_of_a_backbone(finished: Workspace, tmp_path: Path) -> None:
    offline = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path),
               "COLUMNS": "200"}  # fmt: skip
    finished.set({"finetuned.input_size": 64})
    try:
        finished.set({"finetuned.backbone": "EfficentNetB0"})
        unknown = finished.run("redarte", "doctor", "finetuned", check=True, **offline).stdout
    finally:
        finished.run("git", "checkout", "-q", "params.yaml")
    assert re.search(r"^train_extra@finetuned +unknown$", unknown, re.MULTILINE)
    assert unknown.count("did you mean EfficientNetB0?") == 1


@pytest.mark.parametrize(
    "kind", ["file", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("applications", "vit", "dinov2"))]
)
def test_a_checkpoint_has_the_whole_state_of_a_model(
    section: Callable[..., Finetuned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Also the random generators of dropout and stochastic depth, which Keras does not store."""
    monkeypatch.chdir(tmp_path)
    if kind == "file":
        small_convnext(tmp_path / "small.keras")
    names = {"applications": "MobileNetV3Small", "file": str(tmp_path / "small.keras")}
    settings = section(backbone=names.get(kind) or f"keras_hub:{save_preset(kind, tmp_path / 'preset')}")
    model = finetuned.build(backbones.load(settings), 3, settings)
    model.trainable = True
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    model.fit(images, np.eye(3)[[0, 1, 2, 0]], batch_size=2, verbose=0)
    opened().write(model, row(1))
    resumed = opened().model
    assert resumed is not None
    before = state(model)
    assert "seed_generator_state" in [name for name, _ in before]
    assert [values for _, values in state(resumed)] == [values for _, values in before]
