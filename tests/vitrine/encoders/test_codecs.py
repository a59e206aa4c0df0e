"""Codecs: what comes back of a vector, and that nothing depends on chance."""

import numpy as np
import pytest

from vitrine.encoders.codecs import BITS, Codec, allotted, linear_parts, quantised, tried

KINDS = ("", " half-whitened")


def clusters(count: int = 600, width: int = 32) -> np.ndarray:
    """Vectors of unit length without a negative number, as pooled features are; few directions hold most of them."""
    random = np.random.default_rng(0)
    low = random.normal(size=(count, 6)) @ random.normal(size=(6, width))
    rows = np.abs(low + 0.1 * random.normal(size=(count, width)))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_parts_centre_project_and_rotate() -> None:
    rows = clusters()
    parts = {part.name: part for part in linear_parts(rows, (8, 4, 64))}
    assert [*parts] == [
        *("as it is", "centred", "centred and rotated"),
        *("PCA 8", "PCA 8 rotated", "PCA 8 half-whitened", "PCA 8 half-whitened rotated"),
        *("PCA 4", "PCA 4 rotated", "PCA 4 half-whitened", "PCA 4 half-whitened rotated"),
    ]
    assert np.allclose(parts["as it is"].apply(rows), rows, atol=1e-6)
    for name, part in parts.items():
        moved = part.apply(rows)
        assert moved.dtype == np.float32 and moved.shape == (len(rows), part.dim)
        assert np.allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5), name
    centred, rotated = (parts[name].apply(rows) for name in ("centred", "centred and rotated"))
    assert np.allclose(centred @ centred.T, rotated @ rotated.T, atol=1e-5)  # a rotation keeps every cosine
    pca, turned = (parts[name].apply(rows) for name in ("PCA 8", "PCA 8 rotated"))
    assert np.allclose(pca @ pca.T, turned @ turned.T, atol=1e-5)
    weight, centred = parts["PCA 8"].weight, rows - rows.mean(0)
    assert weight is not None and np.allclose(weight.T @ weight, np.eye(8), atol=1e-5)
    spread = (centred @ weight).var(0)
    values = np.linalg.eigvalsh(np.cov(centred.T))[::-1][:8]
    assert np.allclose(spread, values, rtol=0.01)
    weight = parts["PCA 8 half-whitened"].weight  # each component by the root of its standard deviation
    assert weight is not None
    spread = (centred @ weight).std(0)
    assert np.allclose(spread / spread[0], np.sqrt(np.sqrt(values / values[0])), rtol=0.01)


def test_half_whitened_components_find_what_a_few_large_ones_drown() -> None:
    """Forty products differ in many small components; what light and background do to a photo is large, and alike in
    all of them."""
    random = np.random.default_rng(1)
    products = np.repeat(np.arange(40), 10)
    own, light = random.normal(size=(40, 24))[products], 4 * random.normal(size=(400, 4))
    rows = np.hstack([light, own + 0.7 * random.normal(size=own.shape), 0.05 * random.normal(size=(400, 36))])
    rows = (rows @ np.linalg.qr(random.normal(size=(64, 64)))[0]).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    def right(codec: Codec) -> float:
        near = codec.linear.apply(rows) @ codec.decoded(rows).T
        np.fill_diagonal(near, -np.inf)
        return float((products[near.argmax(1)] == products).mean())

    found = {codec.name: right(codec) for codec in tried(rows, (28,))}
    for quantiser in ("PCA 28{}, float32", "PCA 28{}, int8", "PCA 28{} rotated, 1 bit", "PCA 64{} allotted, PQ 16"):
        plain, half = found[quantiser.format("")], found[quantiser.format(" half-whitened")]
        assert half > plain + 0.05, (quantiser, plain, half)


def test_directions_that_the_index_lacks_do_not_decide_when_half_whitened() -> None:
    """Few photos, each many times: a query has what none of them has."""
    index = np.repeat(clusters(12, 48), 20, axis=0)
    query = clusters(40, 48)[12:]
    parts = {part.name: part for part in linear_parts(index, (32,))}
    half, plain = (parts[name] for name in ("PCA 32 half-whitened", "PCA 32"))
    assert half.weight is not None and np.count_nonzero(np.linalg.norm(half.weight, axis=0)) == 11  # twelve, centred
    near, full = (part.apply(query) @ part.apply(index).T for part in (half, plain))
    assert near.max() > 0.4 and np.corrcoef(near.ravel(), full.ravel())[0, 1] > 0.7


def test_bytes_by_hand() -> None:
    parts = {part.name: part for part in linear_parts(clusters(), (12,))}
    assert [Codec(parts["as it is"], quantiser).bytes for quantiser in BITS] == [128, 64, 32, 16, 4]
    assert [Codec(parts["PCA 12"], quantiser).bytes for quantiser in BITS] == [48, 24, 12, 6, 2]  # 12 bits are 2 bytes
    assert Codec(parts["as it is"], "int8").name == "int8" and Codec(parts["PCA 12"], "int8").name == "PCA 12, int8"


@pytest.mark.parametrize(("quantiser", "levels", "least"), [("int8", 256, 0.9999), ("4 bits", 16, 0.99)])
def test_what_comes_back_has_few_levels_and_nearly_the_same_direction(
    quantiser: str, levels: int, least: float
) -> None:
    rows = linear_parts(clusters(), ())[2].apply(clusters())
    back = quantised(rows, quantiser)
    assert max(len(np.unique(column)) for column in back.T) <= levels
    cosines = (rows * back).sum(1) / np.linalg.norm(back, axis=1)
    assert np.median(cosines) > least and cosines.min() > 0.95  # the ends are clipped
    assert np.array_equal(back, quantised(rows, quantiser))


def test_one_bit_is_a_sign_of_the_dimensions_size() -> None:
    rows = np.array([[1.0, -2.0], [3.0, -4.0], [-5.0, 0.0]], np.float32)
    assert quantised(rows, "1 bit").tolist() == [[3, -2], [3, -2], [-3, -2]]
    positive = clusters()
    assert len(np.unique(quantised(positive, "1 bit"), axis=0)) == 1  # all are alike: centre first
    centred = linear_parts(positive, ())[1].apply(positive)
    assert len(np.unique(quantised(centred, "1 bit"), axis=0)) > 100


def test_constant_dimensions_and_empty_directions_come_back() -> None:
    rows = np.zeros((5, 4), np.float32)
    for quantiser in BITS:
        assert np.isfinite(quantised(rows, quantiser)).all()


def test_components_are_allotted_so_that_parts_are_alike() -> None:
    assert allotted(np.array([8.0, 4.0, 2.0, 1.0]), 2) == [0, 3, 1, 2]  # 8 * 1 and 4 * 2
    variances = np.exp(-np.arange(32.0) / 4)
    order = allotted(variances, 4)
    assert sorted(order) == [*range(32)]
    products = np.log(variances[order]).reshape(4, 8).sum(1)
    plain = np.log(variances).reshape(4, 8).sum(1)
    assert np.ptp(products) < 0.1 * np.ptp(plain)


def test_product_quantisation_is_a_byte_a_part_and_the_same_every_time() -> None:
    rows = linear_parts(clusters(), ())[1].apply(clusters())
    back = quantised(rows, "PQ 16")
    for part in range(16):
        assert len(np.unique(back[:, 2 * part : 2 * part + 2], axis=0)) <= 256
    assert np.array_equal(back, quantised(rows, "PQ 16"))
    assert np.median((rows * back).sum(1) / np.linalg.norm(back, axis=1)) > 0.98
    with pytest.raises(ValueError, match="PQ 16 needs 256 rows or more, not 255"):
        quantised(rows[:255], "PQ 16")


def test_what_is_tried_with_product_quantisation_and_second_passes() -> None:
    by_name = {codec.name: codec for codec in tried(clusters(), (8,))}
    parted = {name: codec.bytes for name, codec in by_name.items() if "PQ" in name}
    # Of 32 dimensions, ten parts have three each: the last two components are left out.
    allotted_to = {
        f"PCA {dim}{kind} allotted, PQ {parts}": parts for dim, parts in ((32, 16), (30, 10)) for kind in KINDS
    }
    assert parted == {"centred, PQ 16": 16, **allotted_to}
    twice = {name: (codec.searched_bytes, codec.bytes) for name, codec in by_name.items() if codec.again}
    assert twice == {
        "centred and rotated, 1 bit; 100 again by int8": (4, 4 + 32),
        **{f"PCA 8{kind} rotated, 1 bit; 100 again by PCA 8{kind}, int8": (1, 1 + 8) for kind in KINDS},
    }
    assert not any("PQ" in codec.name for codec in tried(clusters(200), (8,)))  # fewer than centroids
