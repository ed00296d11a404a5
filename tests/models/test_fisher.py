"""fisher: its layers, what it is fitted to, and its stages in DVC."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from redarte.devices.backend import keras
from redarte.images import dataset, decoding
from redarte.images.dataset import Dataset
from redarte.inference.predictor import Predictor
from redarte.models import fisher
from redarte.models.base import files as saved
from redarte.models.fisher import Cells, FisherVector
from redarte.params import Params
from redarte.runtime.errors import UserError
from tests.conftest import FISHER, Workspace, painting

MakeSettings = Callable[..., Params]


def images(folder: Path, side: int = 48, artists: tuple[str, ...] = ("Ana", "Bente", "Carla")) -> Dataset:
    """Each artist paints waves of a length of the artist's own."""
    for artist, repeated in zip(artists, (1, 3, 8), strict=False):
        for seed in range(6):
            (folder / artist).mkdir(parents=True, exist_ok=True)
            waves = np.tile(painting(48 // repeated, 48 // repeated, seed), (repeated, repeated, 1))
            decoding.write_jpeg(folder / artist / f"{seed}.jpg", waves, quality=95)
    return dataset.load(folder, side=side)


def test_cells_have_the_mean_and_the_deviation_of_each_colour() -> None:
    image = np.random.default_rng(0).random((2, 11, 11, 3), np.float32)
    seen = Cells(4)(image).numpy()
    assert seen.shape == (2, 2, 2, 6)
    cell = image[1, 4:8, 0:4].reshape(16, 3)
    np.testing.assert_allclose(seen[1, 1, 0], np.concatenate([cell.mean(axis=0), cell.std(axis=0)]), atol=1e-4)


def fitted(channels: int = 3, components: int = 2) -> tuple[FisherVector, GaussianMixture, np.ndarray]:
    """A layer, the mixture that it knows, and a map that is another than those that the mixture was fitted to."""
    rng = np.random.default_rng(0)
    mixture = GaussianMixture(components, covariance_type="diag", random_state=0).fit(
        rng.normal(0, [1, 2, 3], (500, channels))
    )
    layer = FisherVector(components)
    seen = rng.normal(0.3, [1.5, 1, 2], (1, 5, 6, channels)).astype(np.float32)
    layer.build(seen.shape)
    layer.set_weights([mixture.weights_, mixture.means_, np.sqrt(mixture.covariances_)])
    return layer, mixture, seen


def test_a_fisher_vector_is_the_gradient_of_the_likelihood() -> None:
    """By differences of scikit-learn's likelihood, and not by the formulas that the layer has."""
    layer, mixture, seen = fitted()
    gradient = layer.gradients(seen, 1, 1).numpy()[0, 0, 0]
    places, step = seen.reshape(-1, 3).astype(np.float64), 1e-5

    def slope(of: str, kind: int, channel: int) -> float:
        def likelihood(by: float) -> float:
            deviations = np.sqrt(mixture.covariances_)
            means = mixture.means_.copy()
            changed = {"means": means, "deviations": deviations}[of]
            changed[kind, channel] += by
            other = GaussianMixture(len(means), covariance_type="diag")
            other.weights_, other.means_, other.covariances_ = mixture.weights_, means, deviations**2
            other.precisions_cholesky_ = 1 / deviations
            return float(other.score(places))

        return (likelihood(step) - likelihood(-step)) / (2 * step)

    for kind in range(2):
        for channel in range(3):
            # In units of the slope's own spread: of deviation / √prior, and of that / √2.
            spread = np.sqrt(mixture.covariances_[kind, channel] / mixture.weights_[kind])
            index = 3 * kind + channel
            assert gradient[2 + index] == pytest.approx(slope("means", kind, channel) * spread, abs=1e-3)
            assert gradient[8 + index] == pytest.approx(
                slope("deviations", kind, channel) * spread / np.sqrt(2), abs=1e-3
            )
    shares = mixture.predict_proba(places).mean(axis=0)
    np.testing.assert_allclose(gradient[:2], (shares - mixture.weights_) / np.sqrt(mixture.weights_), atol=1e-4)


def test_a_fisher_vector_is_normalised_and_its_regions_add_up() -> None:
    layer, _, seen = fitted()
    whole = layer(seen).numpy()
    assert whole.shape == (1, 2 * (1 + 2 * 3)) == (1, layer.compute_output_shape(seen.shape)[1])
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-4)
    gradient = layer.gradients(seen, 1, 1).numpy()[:, 0, 0]
    np.testing.assert_allclose(whole, np.sign(gradient) * np.sqrt(np.abs(gradient) / np.abs(gradient).sum()), atol=1e-3)
    for rows, columns in ((5, 6), (2, 4), (3, 3)):
        np.testing.assert_allclose(layer.gradients(seen, rows, columns).numpy().sum(axis=(1, 2)), gradient, atol=1e-5)


def test_a_fisher_vector_of_flat_colours_is_precise() -> None:
    """A margin of one colour, close to a Gaussian with a small deviation: 32 bits are not enough."""
    rng = np.random.default_rng(0)
    layer = FisherVector(2)
    seen = (2.0 + rng.normal(0, 1e-3, (1, 27, 27, 8))).astype(np.float32)
    layer.build(seen.shape)
    priors, means, deviations = (
        np.array([0.3, 0.7]),
        np.array([[2.0] * 8, [0.0] * 8]),
        np.array([[1e-3] * 8, [2.0] * 8]),
    )
    layer.set_weights([priors, means, deviations])
    priors, means, deviations = (weight.astype(np.float64) for weight in layer.get_weights())
    spread = (seen.reshape(-1, 8).astype(np.float64) - means[0]) / deviations[0]
    expected = (np.square(spread).mean(axis=0) - 1) / np.sqrt(2 * priors[0])  # every position belongs to the first
    np.testing.assert_allclose(layer.gradients(seen, 1, 1).numpy()[0, 0, 0, 18:26], expected, atol=1e-4)


def test_the_filters_are_the_principal_components_of_patches(settings: MakeSettings, tmp_path: Path) -> None:
    chosen = settings(FISHER | {"fisher.principal_components": 96}).fisher
    train = images(tmp_path)
    model = fisher.build(chosen, train.side, 3)
    fisher.fit_mixture(model, train, seed=0)
    # As many components as numbers: nothing is lost, so that distances are those of the patches.
    cells = keras.Model(model.input, model.get_layer("cells").output)(train.batch(np.arange(2))[0]).numpy()
    patches = keras.Model(model.input, model.get_layer("patches").output)(train.batch(np.arange(2))[0]).numpy()
    one, other = (cells[number, 2:6, 4:8].ravel() for number in (0, 1))
    assert np.linalg.norm(patches[0, 1, 2] - patches[1, 1, 2]) == pytest.approx(np.linalg.norm(one - other), rel=1e-3)
    variances = patches.reshape(-1, 96).var(axis=0)
    assert variances[:4].sum() > 0.5 * variances.sum()


@pytest.mark.parametrize("artists", [("Ana", "Bente"), ("Ana", "Bente", "Carla")])
def test_it_learns_to_distinguish_the_artists(settings: MakeSettings, tmp_path: Path, artists: tuple[str, ...]) -> None:
    train, val = (images(tmp_path / name, artists=artists) for name in ("train", "val"))
    trained = fisher.fit("fisher", settings(FISHER), train, val, tmp_path / "history.csv")
    model = trained.model
    assert trained.metrics["accuracy"] == trained.metrics["val_accuracy"] == 1.0
    assert [row["epoch"] for row in trained.history] == [1]
    saved.save(model, list(artists), tmp_path / "n.keras")
    again, _ = saved.load(tmp_path / "n.keras")
    seen = val.batch(np.arange(len(val)))[0]
    np.testing.assert_array_equal(model(seen).numpy(), again(seen).numpy())


def test_too_few_patches_are_one_sentence(settings: MakeSettings, tmp_path: Path) -> None:
    train = images(tmp_path, side=16)
    few = settings(FISHER | {"fisher.mixture_components": 1024, "fisher.input_size": 16})
    with pytest.raises(UserError, match=r"have 162 patches, too few for 1024 .* or raise fisher\.input_size"):
        fisher.fit("fisher", few, train, train, tmp_path / "history.csv")


def test_cells_larger_than_a_quarter_of_the_image_are_refused(settings: MakeSettings) -> None:
    with pytest.raises(UserError, match=r"fisher: input_size must be at least four cells \(40 px\)"):
        settings({"fisher.input_size": 30, "fisher.cell": 10})


@pytest.mark.long
def test_everything_downstream_works_with_it(fisher_workspace: Workspace) -> None:
    evaluated: dict[str, Any] = fisher_workspace.metrics("evaluate")
    assert evaluated["model"] == "fisher"
    assert "fisher" not in fisher_workspace.metrics("compare")
    assert "Fitted without epochs, in float32, with images of 48 px" in (
        fisher_workspace.path / "plots/report.html"
    ).read_text("utf-8")
    card = (fisher_workspace.path / "plots/model_card.md").read_text("utf-8")
    assert "A model of redarte's own" in card
    assert card.startswith("---\nlicense: mit\n")


@pytest.mark.long
def test_training_images_are_most_similar_to_themselves(fisher_workspace: Workspace) -> None:
    """Their embeddings come from the fit, and are not computed once more by export."""
    known = saved.load_embeddings(fisher_workspace.path / "models/fisher.keras")
    model = Predictor(fisher_workspace.path / "models/fisher.onnx")
    assert model.metadata.training_images == sorted(known)
    train = dataset.load(fisher_workspace.path / "data/split/train", side=48)
    for index, image in enumerate(train.batches(1)):
        similarity = model.predict([image]).similarity[0]
        assert similarity.argmax() == index
        assert similarity[index] == pytest.approx(1, abs=1e-5)


@pytest.mark.long
def test_the_evidence_adds_up_to_the_logit(fisher_workspace: Workspace) -> None:
    model = Predictor(fisher_workspace.path / "models/fisher.onnx")
    model_of_keras, _ = saved.load(fisher_workspace.path / "models/fisher.keras")
    bias = model_of_keras.get_layer("artists").bias.numpy()
    for image in dataset.load(fisher_workspace.path / "data/split/test", side=48).batches(1):
        evidence = [model.evidence(image[0], artist).sum() for artist in range(3)]
        np.testing.assert_allclose(model.predict([image]).logits[0], evidence + bias, atol=1e-3)
