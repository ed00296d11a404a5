"""Wrong labels, found by models that did not see the image."""

import numpy as np
import pytest

from redarte.labelling.judgement import judge
from redarte.runtime.errors import UserError

ARTISTS = ["Ana", "Bente", "Chloe", "Dora"]


def clusters(each: int, spread: float, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Images of each artist around a direction of its own: identities, and L2-normalised embeddings."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.eye(len(ARTISTS), 16), each, axis=0)
    embeddings = centres + spread * rng.normal(size=centres.shape)
    ids = [f"{artist}/{number}" for artist in ARTISTS for number in range(each)]
    return ids, (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)


def test_wrong_labels_come_first() -> None:
    ids, embeddings = clusters(50, 0.1)
    wrong = list(range(0, 200, 19))
    for index in wrong:
        _, _, name = ids[index].partition("/")
        artist = ARTISTS[(ARTISTS.index(ids[index].partition("/")[0]) + 1) % 4]
        ids[index] = f"{artist}/wrong {name}"
    found = judge(ARTISTS, ids, embeddings, embeddings, ids, seed=0)
    assert set(found.worst_first()[: len(wrong)]) == set(wrong)
    assert found.self_confidence[wrong].max() < 0.5
    assert found.probabilities.sum(axis=1) == pytest.approx(1)
    # Their true artists are predicted.
    for index in wrong:
        assert ARTISTS[found.predicted[index]] == ARTISTS[index // 50]


def test_an_image_and_its_near_duplicates_are_not_seen() -> None:
    """Random embeddings with random labels: a model that saw an image, or its near-duplicate, would be right."""
    rng = np.random.default_rng(0)
    pairs = np.repeat(rng.normal(size=(300, 600)), 2, axis=0).astype(np.float32)
    artist = np.repeat(rng.integers(0, 4, 300), 2)
    ids = [f"{ARTISTS[label]}/{number}" for number, label in enumerate(artist)]
    groups = [f"group {number // 2}" for number in range(600)]
    apart, together = (judge(ARTISTS, ids, pairs, pairs, names, seed=0) for names in (ids, groups))
    assert (together.predicted == artist).mean() < 0.4
    assert (apart.predicted == artist).mean() > 0.6


def test_two_names_of_one_artist() -> None:
    ids, embeddings = clusters(40, 0.1)
    assert judge(ARTISTS, ids, embeddings, embeddings, ids, seed=0).same_artists() == []
    renamed = [image_id.replace("Bente/", "Ana/b") for image_id in ids[:80]]
    halves = [name.replace("Ana/", "Bente/") if number % 2 else name for number, name in enumerate(renamed)]
    pairs = judge(ARTISTS, [*halves, *ids[80:]], embeddings, embeddings, ids, seed=0).same_artists()
    assert [pair[:2] for pair in pairs] == [("Ana", "Bente")]


def test_an_image_unlike_all_others() -> None:
    ids, embeddings = clusters(40, 0.05)
    embeddings[7] = -np.ones(16) / 4
    assert judge(ARTISTS, ids, embeddings, embeddings, ids, seed=0).outliers().tolist() == [7]


def test_an_artist_with_one_image_is_not_judged() -> None:
    ids, embeddings = clusters(10, 0.05)
    ids[0] = "Eva/1"
    found = judge([*ARTISTS, "Eva"], ids, embeddings, embeddings, ids, seed=0)
    assert np.flatnonzero(~found.judged).tolist() == [0]
    assert 0 not in found.worst_first()
    assert len(found.worst_first()) == 39


def test_too_few_images_are_one_sentence() -> None:
    ids = ["Ana/1", "Ana/2", "Bente/1"]
    with pytest.raises(UserError, match="label-issues needs two artists, one of them with 5 images or more"):
        judge(["Ana", "Bente"], ids, np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), ids, seed=0)
