"""Arrow's lists of floats as NumPy's matrices, and back: a column of vectors, one a row."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vitrine.errors import VitrineError

Floats = NDArray[np.float32]


def matrix(column: pa.Array | pa.ChunkedArray) -> Floats:
    """A column of N float lists of one length D as float32, (N, D).

    Raises:
        VitrineError: a row is null or has another length.
    """
    column = _whole(column)
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(column) and (len(lengths) != 1 or not lengths[0]):
        raise VitrineError(f"vectors of one encoder version have {len(lengths)} lengths: {sorted(map(str, lengths))}")
    return _floats(column).reshape(len(column), -1)


def lists(rows: NDArray[Any]) -> pa.ListArray:
    """A matrix, (N, D), as a column of N lists of D float32."""
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(rows.reshape(-1), pa.float32()))


def lengths(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """How many floats each row has, int64 (N,); a null row has none."""
    counts = pc.fill_null(pc.list_value_length(_whole(column)), 0)
    return np.asarray(counts.to_numpy(zero_copy_only=False), dtype=np.int64)


def ragged(column: pa.Array | pa.ChunkedArray) -> list[Floats]:
    """Each row's floats, float32, whatever their number."""
    column = _whole(column)
    return np.split(_floats(column), np.cumsum(lengths(column))[:-1]) if len(column) else []


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _floats(column: pa.Array) -> Floats:
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).astype(np.float32, copy=False)
