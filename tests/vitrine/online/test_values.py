"""Vectors as Feast's values, in floats and packed."""

import numpy as np
import pyarrow as pa

from vitrine.online.values import PACKED_ERROR, vector_of, vector_values

DIM = 512


def test_what_is_packed_takes_a_quarter_and_is_nearly_the_same():
    rows = np.random.default_rng(0).normal(size=(50, DIM)).astype(np.float32)
    rows[0, 1:] = 0  # a vector of one dimension
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    column = pa.array([*rows, None], pa.list_(pa.float32()))
    plain, packed = (vector_values(column, DIM, packed=packed) for packed in (False, True))
    for whole, short, row in zip(plain, packed, rows, strict=False):
        assert np.array_equal(vector_of(whole, DIM), row)
        found = vector_of(short, DIM)
        assert found is not None and np.abs(found - row).max() < PACKED_ERROR and found @ row > 0.9999
        assert len(short.SerializeToString()) < len(whole.SerializeToString()) / 3.9
    assert vector_of(plain[-1], DIM) is None and vector_of(packed[-1], DIM) is None
