"""Photos as bytes in a column: binary, or a struct of ``bytes`` and ``path`` as Hugging Face's data sets have.

They are kept in the photo store when they are listed, since no uri reads them again by itself.
"""

import hashlib
from collections.abc import Collection
from typing import NamedTuple

import pyarrow as pa

from vitrine import photo_store
from vitrine.datasets.columns import Columns, TableFault

IMAGE = "image"
"""Our name of the column."""
ROWS_AT_ONCE = 64
"""Of such a table, since each may have a photo in it."""


class Picture(NamedTuple):
    """One photo in a column."""

    data: bytes | None
    path: str | None
    """What its file was called; where there are no bytes, a uri."""


def find(schema: pa.Schema, columns: Columns, elsewhere: Collection[str]) -> str | None:
    """The column that has the photos: the one that is given; else, where no column has uris, ``image`` or the only one
    of bytes.

    Raises:
        TableFault: the one that is given has no bytes.
    """
    if IMAGE not in columns.names:
        return None
    names = list(schema.names)
    places = columns.found(names, elsewhere)
    named = names[places[IMAGE]] if IMAGE in places else None
    if IMAGE in columns.given:
        if named is not None and not _has_bytes(schema.field(named).type):
            kind = schema.field(named).type
            raise TableFault(f"column {named} is of type {kind}: photos are binary, or a struct of bytes and path")
        return named
    if "uri" in places or "uri" in elsewhere:
        return None
    candidates = [field.name for field in schema if _has_bytes(field.type)]
    return named if named in candidates else candidates[0] if len(candidates) == 1 else None


def of(values: pa.Array) -> list[Picture]:
    """The photos of such a column, row by row."""
    if not pa.types.is_struct(values.type):
        return [Picture(data, None) for data in values.to_pylist()]
    return [Picture((value or {}).get("bytes"), (value or {}).get("path")) for value in values.to_pylist()]


def keep(store: str, data: bytes) -> str:
    """Keep the photo in the store; its SHA-256."""
    sha = hashlib.sha256(data).hexdigest()
    photo_store.put(store, sha, data)
    return sha


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _has_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
