import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from redarte.devices.backend import keras
from redarte.models import study
from redarte.models.base import files as saved
from redarte.params import Penalty, StudyName
from redarte.runtime import errors
from redarte.runtime.errors import UserError

NONE = Penalty(l1=0.0, l2=0.0)
ELASTIC = Penalty(l1=0.001, l2=0.01)


def table(model: keras.Model) -> list[tuple[tuple[int, ...], int]]:
    """Each layer's output shape and parameters, without the rescaling, which the study does outside of the model."""
    return [(tuple(layer.output.shape[1:]), layer.count_params()) for layer in model.layers[1:]]


@pytest.mark.parametrize("name", ["red1", "red2"])
def test_the_layer_table_of_red_1_and_2_is_the_studys(name: StudyName) -> None:
    """Figures 13 and 14."""
    assert table(study.build(name, 244, 50, NONE)) == [
        ((244, 244, 32), 896),
        ((122, 122, 32), 0),
        ((122, 122, 64), 18_496),
        ((61, 61, 64), 0),
        ((61, 61, 128), 73_856),
        ((30, 30, 128), 0),
        ((115_200,), 0),
        ((50,), 5_760_050),
    ]


def test_the_layer_table_of_red_3_is_the_studys() -> None:
    """Figure 15."""
    assert table(study.build("red3", 244, 50, NONE)) == [
        ((244, 244, 32), 896),
        ((122, 122, 32), 0),
        ((122, 122, 64), 18_496),
        ((122, 122, 64), 36_928),
        ((61, 61, 64), 0),
        ((61, 61, 128), 73_856),
        ((30, 30, 128), 0),
        ((115_200,), 0),
        ((50,), 5_760_050),
    ]


@pytest.mark.parametrize(("name", "parameters"), [("red1", 5_110_898), ("red2", 5_110_898), ("red3", 5_147_826)])
def test_the_layer_tables_at_224(name: StudyName, parameters: int) -> None:
    model = study.build(name, 224, 50, NONE)
    assert model.count_params() == parameters
    assert model.layers[-1].count_params() == 28 * 28 * 128 * 50 + 50


@pytest.mark.parametrize("name", ["red1", "red2", "red3"])
def test_layers_are_as_published(name: StudyName) -> None:
    for layer in study.build(name, 32, 5, NONE).layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert (layer.kernel_size, layer.padding, layer.activation.__name__) == ((3, 3), "same", "relu")
            assert layer.kernel_regularizer is None
        if isinstance(layer, keras.layers.MaxPooling2D):
            assert layer.pool_size == (2, 2)
    assert layer.activation.__name__ == "softmax"


def test_the_penalty_is_on_every_kernel() -> None:
    model = study.build("red2", 32, 5, ELASTIC)
    kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    assert len(kernels) == 4
    expected = sum(0.001 * np.abs(k).sum() + 0.01 * np.square(k).sum() for k in map(np.asarray, kernels))
    assert float(sum(model.losses)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_outputs_are_float32_probabilities(precision: str) -> None:
    model = study.build("red1", 32, 5, NONE, precision)
    predictions = model.predict(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8), verbose=0)
    assert predictions.dtype == np.float32
    assert np.allclose(predictions.sum(axis=1), 1, atol=1e-5)
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_a_saved_model_predicts_the_same_and_has_its_artists(tmp_path: Path) -> None:
    model = study.build("red3", 16, 3, ELASTIC)
    saved.save(model, ["Ana", "Ben", "Zoë"], tmp_path / "n.keras")
    loaded, artists = saved.load(tmp_path / "n.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    assert artists == ["Ana", "Ben", "Zoë"]
    assert (loaded.predict(images, verbose=0) == model.predict(images, verbose=0)).all()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for number in range(2):
        keras.utils.set_random_seed(3)
        files.append(tmp_path / f"{number}.keras")
        saved.save(study.build("red1", 16, 3, NONE), ["Ana", "Ben", "Cleo"], files[-1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_model_with_code_is_refused(tmp_path: Path) -> None:
    """Keras's safe mode refuses a Lambda layer; one sentence says so."""
    harmful = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1, output_shape=(4,))])
    saved.save(harmful, ["a", "b", "c", "d"], tmp_path / "n.keras")
    with pytest.raises(UserError, match=r"n\.keras is not a model that redarte saved") as caught:
        saved.load(tmp_path / "n.keras")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_a_corrupt_or_missing_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "n.keras"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"n\.keras is (missing|not a model)"):
        saved.load(file)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "n.keras"
    saved.save(study.build("red1", 16, 3, NONE), ["Ana", "Ben", "Cleo"], file)
    with zipfile.ZipFile(file) as opened:
        parts = {name: opened.read(name) for name in opened.namelist()}
    assert json.loads(parts["metadata.json"])["date_saved"] == ""
    parts["model.weights.h5"] = parts["model.weights.h5"][:1000]
    with zipfile.ZipFile(file, "w") as opened:
        for name, data in parts.items():
            opened.writestr(name, data)
    with pytest.raises(UserError, match="is not a model"):
        saved.load(file)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("\n one.\ntwo"), "one"),
        (AssertionError(), "AssertionError"),
        (ValueError("x" * 999), f"{'x' * 100}…{'x' * 100}"),
        (ValueError("\x1b[31mé"), r"\x1b[31m\xe9"),
    ],
)
def test_messages_of_libraries_are_shortened(error: Exception, message: str) -> None:
    assert errors.first_line(error) == message
