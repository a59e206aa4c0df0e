"""Cross-tuning's figures: deltas, the Fréchet distance by hand, the rank correlation, and its page."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from training.cross_tuning import compare, distances, draw, frechet_distance, moments
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS

V = "00000000000000aa"


def embed(settings: Settings, dataset: str, x: np.ndarray) -> None:
    same: dict[str, Any] = dict.fromkeys(("category", "split"))
    same |= {"dataset": dataset, "encoder_version": V, "encoder": "e", "content_sha256": "0", "product_id": "p"}
    same |= dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
    lake.append(
        settings, EMBEDDINGS, [{**same, "image_id": f"{dataset}/{n}", "embedding": row} for n, row in enumerate(x)]
    )


def test_the_frechet_distance_is_the_papers():
    """Of Gaussians whose covariances commute it is |m1 - m2|^2 + the sum of (s1 - s2)^2 over the axes."""
    one = np.zeros(2), np.diag([4.0, 1.0])
    other = np.array([3.0, 4.0]), np.diag([1.0, 9.0])
    assert frechet_distance(one, other) == pytest.approx(25 + (2 - 1) ** 2 + (1 - 3) ** 2)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    together = [(turned @ mean, turned @ spread @ turned.T) for mean, spread in (one, other)]
    assert frechet_distance(*together) == pytest.approx(30)
    flat = np.zeros(2), np.diag([1.0, 0.0])  # fewer photos than dimensions
    assert frechet_distance(flat, other) == frechet_distance(other, flat) == pytest.approx(25 + 0 + 9)


def test_deltas_distances_and_their_ranks(settings: Settings, tmp_path: Path):
    random = np.random.default_rng(0)
    clouds = {name: random.normal(size=(300, 3)) * 0.1 + at for name, at in (("a", 0), ("b", 0.5), ("c", 3))}
    for name, x in clouds.items():
        embed(settings, name, x)
    mean, spread = moments(settings, EncodedSet("b", "e", V))
    assert np.allclose(mean, clouds["b"].mean(0), atol=1e-6)
    assert np.allclose(spread, np.cov(clouds["b"].T, bias=True), atol=1e-6)
    pretrained = [0.5, 0.4, 0.6]
    tuned = [[0.7, 0.5, 0.55], [0.58, 0.6, 0.5], [0.4, 0.2, 0.9]]
    apart = distances(settings, [EncodedSet(name, "e", V) for name in clouds])
    found = compare("e", [*clouds], "top", "mMP@5", pretrained, tuned, apart)
    assert np.allclose(found.deltas, [[0.2, 0.1, -0.05], [0.08, 0.2, -0.1], [-0.1, -0.2, 0.3]])
    assert found.distances[0][1] < found.distances[1][2] < found.distances[0][2]
    assert found.rank_correlation is not None and found.rank_correlation > 0.4
    draw(found, tmp_path / "cross.html")
    page = (tmp_path / "cross.html").read_text()
    assert "+0.300" in page and "Spearman" in page and 'src="http' not in page
    two = compare("e", ["a", "b"], "top", "mMP@5", pretrained[:2], [[0.7, 0.5], [0.58, 0.6]], apart[:2, :2])
    assert two.rank_correlation is None and "too few data sets" in _page(two, tmp_path)


def test_shuffled_names_say_how_sure_the_correlation_is():
    """By hand: of all 24 orders of four data sets, those whose correlation is as far from 0 on that side, twice."""
    apart = np.abs(np.subtract.outer(places := np.array([0.0, 1.0, 2.5, 7.0]), places))
    deltas = -apart + np.random.default_rng(1).normal(size=(4, 4))
    names, others = list("abcd"), ~np.eye(4, dtype=bool)
    found = compare("e", names, "top", "mMP@5", [0.0] * 4, deltas.tolist(), apart)
    orders = [np.array(order) for order in itertools.permutations(range(4))]
    each = [stats.spearmanr(-apart[np.ix_(at, at)][others], deltas[others]).statistic for at in orders]
    assert found.rank_correlation == pytest.approx(each[0])
    assert found.p_value == pytest.approx(2 * np.mean(np.array(each) >= each[0] - 1e-9))
    three = compare("e", names[:3], "top", "mMP@5", [0.0] * 3, (-apart[:3, :3]).tolist(), apart[:3, :3])
    assert three.rank_correlation == pytest.approx(1) and three.p_value == pytest.approx(1 / 3)


def _page(found: Any, folder: Path) -> str:
    draw(found, folder / "two.html")
    return (folder / "two.html").read_text()
