"""Feast's protobuf values from Arrow columns and back, vectors as blocks of bytes instead of float by float.

A ``Value`` that holds a ``FloatList`` ends with the floats themselves, little-endian (protobuf packs repeated scalars:
https://protobuf.dev/programming-guides/encoding/#packed), and before them come a few bytes that depend on their number
alone.

A vector may be packed instead (``[feast] vectors = "int8"``): bytes that hold its scale, a float32, and then a signed
byte for each dimension, x / scale rounded, where the scale is its greatest absolute value / 127.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vitrine.errors import VitrineError
from vitrine.feast_parts import EntityKey, FloatList, Value
from vitrine.feature_store import Kind

_FLOAT = np.dtype("<f4")
_MOST = 127
PACKED_ERROR = 0.005
"""How far a dimension of a vector of unit length may lie from what was packed."""


def entity_keys(kind: Kind, keys: Iterable[str]) -> list[EntityKey]:
    return [EntityKey(join_keys=[kind.key], entity_values=[Value(string_val=key)]) for key in keys]


def vector_values(column: pa.Array, dim: int, packed: bool = False) -> list[Value]:
    """A column of N lists of ``dim`` floats, or null, as N values; ``packed``: in about a quarter of the bytes.

    Raises:
        VitrineError: a list has another length.
    """
    lengths = pc.unique(pc.list_value_length(column)).drop_null().to_pylist()
    if lengths not in ([], [dim]):
        raise VitrineError(f"vectors of a view of {dim} floats have the lengths {sorted(lengths)}")
    if packed:
        return _packed(column, dim)
    head = Value(float_list_val=FloatList(val=[0.0] * dim)).SerializeToString()[: -dim * _FLOAT.itemsize]
    floats = column.flatten().to_numpy(zero_copy_only=False).astype(_FLOAT, copy=False).tobytes()
    size, start, values = dim * _FLOAT.itemsize, 0, []
    for there in column.is_valid().to_pylist():
        values.append(Value.FromString(head + floats[start : start + size]) if there else Value())
        start += size if there else 0
    return values


def _packed(column: pa.Array, dim: int) -> list[Value]:
    floats = column.flatten().to_numpy(zero_copy_only=False).astype(_FLOAT, copy=False).reshape(-1, dim)
    scales = np.maximum(np.abs(floats).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / _MOST
    codes = np.rint(floats / scales).astype(np.int8)
    rows = iter(zip(scales.astype(_FLOAT), codes, strict=True))
    return [
        Value(bytes_val=b"".join(part.tobytes() for part in next(rows))) if there else Value()
        for there in column.is_valid().to_pylist()
    ]


def vector_of(value: Value, dim: int) -> NDArray[np.float32] | None:
    """The vector of a value, float32, (``dim``,), read-only, packed ones of unit length; None where it holds none."""
    if value.WhichOneof("val") == "bytes_val":
        codes = np.frombuffer(value.bytes_val, np.int8, dim, _FLOAT.itemsize).astype(np.float32)
        return np.asarray(codes / max(float(np.linalg.norm(codes)), 1.0), np.float32)
    message = value.SerializeToString()
    return np.frombuffer(message, _FLOAT, dim, len(message) - dim * _FLOAT.itemsize) if message else None


_FIELDS = {pa.string(): "string_val", pa.int32(): "int32_val", pa.float32(): "float_val", pa.bool_(): "bool_val"}


def plain_values(column: pa.Array) -> list[Value]:
    """Strings, 32-bit numbers or truths, or null, as values."""
    field = _FIELDS[column.type]
    return [Value() if item is None else Value(**{field: item}) for item in column.to_pylist()]


def plain_of(value: Value) -> str | int | float | bool | None:
    """The string, number or truth of a value; None where it holds none."""
    field = value.WhichOneof("val")
    return getattr(value, field) if field else None
