"""Drift between two spaces, by vectors of which the answer is known; and the probe set from the table."""

import hashlib

import numpy as np
import pytest

from evaluation.gates.drift import Probe, cosines, drift_checks, effective_rank, near_duplicates, overlap, read_probe
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.setting_sections import GateSettings
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS

ONE, TWO = "1" * 16, "2" * 16


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def drawn(photos: int = 200, dim: int = 32, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(photos, dim)))


def failed(candidate: np.ndarray, serving: np.ndarray, same: bool = False) -> list[str]:
    return [check.name for check in drift_checks(Probe(candidate, serving, same), GateSettings()) if not check.passed]


def warned(candidate: np.ndarray, serving: np.ndarray, same: bool = False) -> list[str]:
    checks = drift_checks(Probe(candidate, serving, same), GateSettings())
    return [check.name for check in checks if "warning" in check.figures]


def test_the_effective_rank_by_hand() -> None:
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.outer(np.ones(5), [3.0, 4.0])) == pytest.approx(1)
    three_to_one = np.diag([3.0, 1.0])
    assert effective_rank(three_to_one) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert effective_rank(5 * three_to_one) == pytest.approx(effective_rank(three_to_one))
    assert effective_rank(np.zeros((3, 2))) == 0


def test_near_duplicates_and_overlap_by_hand() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [-1.0, 0.0]])
    assert near_duplicates(cosines(vectors), 0.999) == pytest.approx(1 / 6)
    assert overlap(cosines(drawn()), cosines(drawn()), 10) == 1
    line = np.column_stack([np.cos([0.0, 0.1, 0.3, 1.0]), np.sin([0.0, 0.1, 0.3, 1.0])])
    swapped = line[[3, 1, 2, 0]]  # the nearest one: 1, 0, 1, 2 and then 2, 3, 1, 1
    assert overlap(cosines(line), cosines(swapped), 1) == pytest.approx(1 / 4)


def test_the_same_vectors_turned_are_no_drift_but_of_direction() -> None:
    vectors = unit(drawn() + 0.5)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(32, 32)))[0]
    assert failed(vectors @ turn, vectors, same=True) == []
    assert warned(vectors @ turn, vectors, same=True) == ["mean_direction"]
    assert warned(vectors, vectors, same=True) == []


def test_another_backbone_of_other_dimensions_warns_of_its_neighbours_alone() -> None:
    other = drawn(dim=12, seed=5)
    assert failed(other, drawn()) == [] and failed(drawn(), other) == []
    assert warned(other, drawn()) == ["neighbours"]
    direction = drift_checks(Probe(other, drawn(), True), GateSettings())[-1]
    assert direction.figures == {"skipped": "another encoder serves, whose directions are its own"}


def test_collapses_are_refused() -> None:
    serving = drawn()
    rounding = 1e-7 * np.random.default_rng(2).normal(size=serving.shape)
    assert failed(unit(np.ones_like(serving) + rounding), serving) == ["effective_rank", "near_duplicates"]
    line = serving * (np.arange(32) < 2)
    assert "effective_rank" in failed(unit(line), serving)
    some = serving.copy()
    some[:30] = some[0]  # of 200: one pair in 46 is of them
    assert failed(some, serving) == ["near_duplicates"]
    assert failed(some, some) == []  # what serves says so too
    assert failed(1.01 * serving, serving) == ["norm"]


def embed(settings: Settings, version: str, vectors: dict[str, np.ndarray], contents: dict[str, str]) -> None:
    row = {"encoder_version": version, "encoder": "e", "dataset": "shop", "product_id": "shop/p"}
    row |= dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
    rows = [row | {"image_id": name, "content_sha256": contents[name]} for name in vectors]
    lake.append(settings, EMBEDDINGS, [one | {"embedding": vectors[one["image_id"]].tolist()} for one in rows])


def test_the_probe_set_is_what_both_have_of_one_content_each(settings: Settings) -> None:
    names = [f"shop/it's {n}" for n in range(120)]
    contents = {name: f"c{max(at, 10)}" for at, name in enumerate(names)}  # the first eleven are alike
    first, second = (dict(zip(names, drawn(120, dim, dim), strict=True)) for dim in (8, 6))
    first[names[50]] = np.array([np.nan, *first[names[50]][1:]])
    first[names[51]] = first[names[51]][:5]
    embed(settings, ONE, first, contents)
    embed(settings, TWO, {name: second[name] for name in names[:110]}, contents | {names[60]: "changed"})
    found = read_probe(settings, EncodedSet("shop", "e", ONE), EncodedSet("shop", "e", TWO), 1000)
    assert found is not None and found.same_encoder
    assert found.candidate.shape == (97, 8) and found.serving.shape == (97, 6)  # 100 contents, 60 changed, two broken
    few = read_probe(settings, EncodedSet("shop", "e", ONE), EncodedSet("shop", "other", TWO), 60)
    assert few is not None and not few.same_encoder
    alike = {contents[name]: name for name in reversed(names[:110]) if name != names[60]}
    ordered = sorted(alike.values(), key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:60]
    kept = [name for name in sorted(ordered) if name not in names[50:52]]
    np.testing.assert_allclose(few.candidate, [first[name] for name in kept], rtol=1e-6)
    np.testing.assert_allclose(few.serving, [second[name] for name in kept], rtol=1e-6)
    assert read_probe(settings, EncodedSet("shop", "e", ONE), EncodedSet("shop", "e", "3" * 16), 1000) is None
