"""``dot`` and ``cosine`` of two vectors as SQL functions, computed by NumPy on Arrow batches.

Spark SQL's own ``aggregate(zip_with(...))`` is interpreted number by number; docs/analysts.md has the times of both.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql.functions import arrow_udf

Pairs = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


def dot(a: pa.Array, b: pa.Array) -> pa.Array:
    """Sum of a_i * b_i, row by row, in float64; null where one is null or their lengths differ."""
    return _by_row(_dot, a, b)


def cosine(a: pa.Array, b: pa.Array) -> pa.Array:
    """a . b / (|a| |b|), row by row, in float64; null where one is null or zero, or their lengths differ."""
    return _by_row(_cosine, a, b)


def _dot(x: NDArray[np.float64], y: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """``x`` and ``y`` hold the rows' numbers one row after the other, ``lengths`` of them each."""
    if lengths.size and lengths.min() == lengths.max() > 0:
        return np.einsum("ij,ij->i", x.reshape(lengths.size, -1), y.reshape(lengths.size, -1))
    rows = np.repeat(np.arange(lengths.size), lengths)
    return np.asarray(np.bincount(rows, weights=x * y, minlength=lengths.size), dtype=np.float64)


def _cosine(x: NDArray[np.float64], y: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    norms = np.sqrt(_dot(x, x, lengths) * _dot(y, y, lengths))
    return np.divide(_dot(x, y, lengths), norms, out=np.full(lengths.size, np.nan), where=norms > 0)


def _by_row(pairs: Pairs, a: pa.Array, b: pa.Array) -> pa.Array:
    alike = pc.fill_null(pc.equal(pc.list_value_length(a), pc.list_value_length(b)), False)
    lengths = pc.list_value_length(a.filter(alike)).to_numpy().astype(np.int64)
    x, y = (_numbers(column.filter(alike)) for column in (a, b))
    values = np.full(len(a), np.nan)
    values[alike.to_numpy(zero_copy_only=False)] = pairs(x, y, lengths)
    return pa.array(values, mask=np.isnan(values))


def _numbers(column: pa.Array) -> NDArray[np.float64]:
    return pc.list_flatten(column).cast(pa.float64()).to_numpy(zero_copy_only=False)


def register(spark: SparkSession) -> None:
    """``dot`` and ``cosine`` in ``spark`` and every session that its process opens later, a Connect client's too.

    Spark keeps functions in Python for one session; the registry that all sessions start from is where its own are.
    """
    registry = spark._jvm.org.apache.spark.sql.catalyst.analysis.FunctionRegistry
    for name, function in (("dot", dot), ("cosine", cosine)):
        spark.udf.register(name, arrow_udf(function, "double"))
        identifier = spark._jvm.org.apache.spark.sql.catalyst.FunctionIdentifier(name)
        builder = spark._jsparkSession.sessionState().functionRegistry().lookupFunctionBuilder(identifier).get()
        registry.builtin().createOrReplaceTempFunction(name, builder, "python_udf")
