"""Faiss finds what the study's own search finds, whatever the codec."""

import numpy as np
import pytest

from evaluation.compression.speed import in_full, over, speed
from tests.vitrine.encoders.test_codecs import clusters
from vitrine.encoders.codecs import CANDIDATES, Codec, LinearPart, tried
from vitrine.retrieval_metrics import nearest_first

DIM = 28  # no multiple of 8


def overlap(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.mean([len({*a} & {*b}) / len(a) for a, b in zip(ours, theirs, strict=True)]))


@pytest.mark.parametrize(("quantiser", "least"), [("float32", 1), ("fp16", 0.99), ("int8", 0.999), ("4 bits", 0.7)])
def test_scalar_codecs(quantiser: str, least: float) -> None:
    rows = clusters(600, DIM)
    index, asked = rows[50:], rows[:50]
    codec = Codec(LinearPart("centred", index.mean(0), None), quantiser)
    found = over(codec, index).exact(asked).places
    wanted = nearest_first(codec.linear.apply(asked) @ codec.decoded(index).T, 10)
    assert found.shape == (50, 10) and overlap(found, wanted) >= least
    assert np.array_equal(in_full(index).exact(asked).places, nearest_first(asked @ index.T, 10))


def test_one_bit_and_its_second_pass_are_the_studys() -> None:
    rows = clusters(600, DIM)
    index, asked = rows[50:], rows[:50]
    codecs = {codec.name: codec for codec in tried(index, (12,))}
    one = codecs["centred and rotated, 1 bit"]
    nearness = one.linear.apply(asked) @ one.decoded(index).T
    assert np.allclose(
        np.take_along_axis(nearness, over(one, index).exact(asked).places, axis=1),
        np.take_along_axis(nearness, nearest_first(nearness, 10), axis=1),
        atol=1e-5,
    )
    twice = codecs["centred and rotated, 1 bit; 100 again by int8"]
    found = over(twice, index).exact(asked).places
    candidates = nearest_first(nearness, CANDIDATES)
    exact = np.take_along_axis(asked @ index.T, candidates, axis=1)
    wanted = np.take_along_axis(candidates, nearest_first(exact, 10), axis=1)
    assert overlap(found, wanted) > 0.95


def test_a_fast_scan_before_the_signs_finds_what_they_find(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clusters(3000, DIM)
    index, asked = rows[50:], rows[:50]
    codecs = {codec.name: codec for codec in tried(index, (12,))}
    for name in ("centred and rotated, 1 bit", "centred and rotated, 1 bit; 100 again by int8"):
        wanted = over(codecs[name], index).exact(asked)
        with monkeypatch.context() as patch:
            patch.setattr("evaluation.compression.speed._SCANNED", 1000)
            found = over(codecs[name], index).exact(asked)
        assert np.allclose(found.similarities, wanted.similarities, atol=1e-4), name


def test_all_lists_together_are_the_exact_search() -> None:
    """Of so few vectors every list is asked: what differs could only be the codes."""
    rows = clusters(16 * 16, DIM)
    for codec in tried(rows, (12,)):
        made = over(codec, rows)
        found, wanted = made.in_lists()(rows[:40]), made.exact(rows[:40])
        assert np.allclose(found.similarities, wanted.similarities, atol=1e-5), codec.name
        assert speed(lambda made=made: made, rows[:40]).lists_recall == 1
        if codec.quantiser == "int8" and not codec.again:
            assert overlap(found.places, wanted.places) > 0.995
    full = in_full(rows)
    assert np.array_equal(full.in_lists()(rows[:40]).places, full.exact(rows[:40]).places)


def test_some_lists_miss_some_neighbours() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(3000, DIM)).astype(np.float32)  # no clusters: neighbours lie in many lists
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for codec in (Codec(LinearPart("centred", rows.mean(0), None), name) for name in ("float32", "int8", "1 bit")):
        recall = speed(lambda codec=codec: over(codec, rows), rows[:200]).lists_recall
        assert 0.5 < recall < 1, codec.name


def test_lists_of_few_candidates_have_no_place_twice() -> None:
    """Where the lists that are asked hold fewer than the second pass ranks again."""
    rows = clusters(600, DIM)
    codec = {each.name: each for each in tried(rows, (12,))}["centred and rotated, 1 bit; 100 again by int8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.compression.speed.LISTS_ASKED", 1)
        found = over(codec, rows).in_lists()(rows[:100]).places
    for places in found:
        there = places[places >= 0]
        assert len(there) and len(set(there.tolist())) == len(there)
        assert (places[len(there) :] == -1).all()


def test_every_codec_is_timed() -> None:
    rows = clusters(600, DIM)
    for codec in tried(rows, (12,)):
        took = speed(lambda codec=codec: over(codec, rows), rows[:20])
        assert took.latency_ms > 0 and took.queries_per_second > 0 and took.build_seconds > 0, codec.name
        assert took.lists_latency_ms > 0 and took.lists_queries_per_second > 0 and took.lists_build_seconds > 0
        assert 0.5 < took.lists_recall <= 1, codec.name
