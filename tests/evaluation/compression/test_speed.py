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


@pytest.mark.parametrize(("quantiser", "least"), [("float32", 1), ("fp16", 0.99), ("int8", 0.95), ("4 bits", 0.7)])
def test_scalar_codecs(quantiser: str, least: float) -> None:
    rows = clusters(600, DIM)
    index, asked = rows[50:], rows[:50]
    codec = Codec(LinearPart("centred", index.mean(0), None), quantiser)
    found = over(codec, index)(asked)
    wanted = nearest_first(codec.linear.apply(asked) @ codec.decoded(index).T, 10)
    assert found.shape == (50, 10) and overlap(found, wanted) >= least
    assert np.array_equal(in_full(index)(asked), nearest_first(asked @ index.T, 10))


def test_one_bit_and_its_second_pass_are_the_studys() -> None:
    rows = clusters(600, DIM)
    index, asked = rows[50:], rows[:50]
    codecs = {codec.name: codec for codec in tried(index, (12,))}
    one = codecs["centred and rotated, 1 bit"]
    nearness = one.linear.apply(asked) @ one.decoded(index).T
    assert np.allclose(
        np.take_along_axis(nearness, over(one, index)(asked), axis=1),
        np.take_along_axis(nearness, nearest_first(nearness, 10), axis=1),
        atol=1e-5,
    )
    twice = codecs["centred and rotated, 1 bit; 100 again by int8"]
    found = over(twice, index)(asked)
    candidates = nearest_first(nearness, CANDIDATES)
    exact = np.take_along_axis(asked @ index.T, candidates, axis=1)
    wanted = np.take_along_axis(candidates, nearest_first(exact, 10), axis=1)
    assert overlap(found, wanted) > 0.95


def test_every_codec_is_timed() -> None:
    rows = clusters(600, DIM)
    for codec in tried(rows, (12,)):
        took = speed(lambda codec=codec: over(codec, rows), rows[:20])
        assert took.latency_ms > 0 and took.queries_per_second > 0 and took.build_seconds > 0, codec.name
