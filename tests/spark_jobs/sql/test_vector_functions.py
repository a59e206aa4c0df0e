"""``dot`` and ``cosine``, row by row, on Arrow arrays."""

import numpy as np
import pyarrow as pa
import pytest

from spark_jobs.sql.vector_functions import cosine, dot

LISTS = pa.list_(pa.float32())


def test_they_are_numpys_of_each_row() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 50, 64)).astype(np.float32)
    a, b = (pa.array(list(rows), LISTS) for rows in (x, y))
    inner = np.einsum("ij,ij->i", x.astype(float), y.astype(float))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    assert dot(a, b).to_numpy() == pytest.approx(inner)
    assert cosine(a, b).to_numpy() == pytest.approx(inner / norms, abs=1e-6)
    assert dot(a[7:9], b[7:9]).to_numpy() == pytest.approx(inner[7:9]), "a part of an array"


def test_what_has_no_answer_is_null() -> None:
    a = pa.array([[1, 2], None, [3, 4], [1], [0, 0], []], LISTS)
    b = pa.array([[3, 4], [1], None, [1, 2], [1, 1], []], LISTS)
    assert dot(a, b).to_pylist() == [11, None, None, None, 0, 0]
    assert cosine(a, b).to_pylist() == [pytest.approx(11 / np.sqrt(5 * 25)), *[None] * 5]


def test_vectors_of_several_lengths_in_one_batch() -> None:
    a, b = pa.array([[1, 2], [3], [1, 1, 1]], LISTS), pa.array([[1, 1], [3], [1, 2, 3]], LISTS)
    assert dot(a, b).to_pylist() == [3, 9, 6]


def test_decimal_numbers_as_sql_spells_them() -> None:
    a = pa.array([[1.5, 2]], pa.list_(pa.float64())).cast(pa.list_(pa.decimal128(4, 1)))
    assert dot(a, a).to_pylist() == [6.25]
