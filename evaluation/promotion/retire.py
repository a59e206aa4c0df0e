"""An encoder leaves: the nights, Feast, Milvus, and, where that is asked for, the tables of vectors.

The state in ``encoders`` comes first and is the truth: whatever was cut short after it is done by the next call.
"""

from typing import Any

import pyarrow as pa

from evaluation.milvus.vector_index import VectorIndex
from vitrine import facts, feature_store, lake
from vitrine.errors import UserError, unknown
from vitrine.lake import matches
from vitrine.names import split_joined
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, ENCODERS, PRODUCT_EMBEDDINGS


def retire(settings: Settings, encoder: str, delete_rows: bool = False) -> dict[str, Any]:
    """Retire every version of ``encoder`` (a name, or one version).

    Its rows in ``embeddings`` stay, unless ``delete_rows``: they can be brought back without a photo being read.

    Returns:
        ``{"encoder", "versions", "collections_dropped", "feast_removed", "rows_deleted", "still_nightly"}``.

    Raises:
        UserError: no such encoder in the lake, it serves a data set, or one that is not retired is based on it.
    """
    rows = _versions(settings, encoder)
    versions = [row["encoder_version"] for row in rows]
    _refuse_needed(settings, versions)
    for row in rows:
        _set_state(settings, row, facts.RETIRED)
    dropped = _drop_collections(settings, versions)
    store = feature_store.open_store(settings)
    removed = [name for row in rows for name in feature_store.forget(store, row["encoder"], row["encoder_version"])]
    return {
        "encoder": encoder,
        "versions": versions,
        "collections_dropped": dropped,
        "feast_removed": removed,
        "rows_deleted": _delete_rows(settings, versions) if delete_rows else 0,
        "still_nightly": sorted({row["encoder"] for row in rows} & {*settings.nightly.encoders}),
    }


def bring_back(settings: Settings, encoder: str) -> dict[str, Any]:
    """The opposite: the next night, or ``vitrine embed``, ``index`` and ``features``, fill what is missing."""
    rows = _versions(settings, encoder)
    for row in rows:
        _set_state(settings, row, facts.usual_state(settings, row["encoder"]))
    return {"encoder": encoder, "versions": [row["encoder_version"] for row in rows]}


def _set_state(settings: Settings, row: dict[str, Any], state: str) -> None:
    """One commit, none where it is so already."""
    if row["state"] != state:
        data = pa.Table.from_pylist([row | {"state": state}], schema=ENCODERS.schema)
        lake.write(settings, ENCODERS, data, replacing={"encoder_version": row["encoder_version"]})


def _versions(settings: Settings, encoder: str) -> list[dict[str, Any]]:
    where = f"{matches(encoder=encoder)} OR {matches(encoder_version=encoder)}"
    rows = lake.rows(settings, f"SELECT * FROM {ENCODERS.name} WHERE {where}")
    if not rows:
        known = {row["encoder"] for row in lake.rows(settings, f"SELECT encoder FROM {ENCODERS.name}")}
        raise unknown("encoder", encoder, known)
    return rows


def _refuse_needed(settings: Settings, versions: list[str]) -> None:
    for dataset in facts.datasets(settings):
        serves = facts.serving_set(settings, dataset)
        if serves and serves.encoder_version in versions:
            raise UserError(
                f"{serves.encoder!r} ({serves.encoder_version}) serves {dataset!r}: promote another encoder "
                "there, or roll back, before it is retired"
            )
    tuned = lake.rows(
        settings,
        f"SELECT encoder, encoder_version, base_version FROM {ENCODERS.name} WHERE base_version IS NOT NULL "
        f"AND state <> '{facts.RETIRED}'",
    )
    others = [row for row in tuned if row["encoder_version"] not in versions]
    based = {row["encoder"] for row in others if {*versions} & {*split_joined(row["base_version"])}}
    if based:
        names = ", ".join(map(repr, sorted(based)))
        raise UserError(f"{names} computes from it: retire that first")


def _drop_collections(settings: Settings, versions: list[str]) -> list[str]:
    with VectorIndex(settings) as milvus, milvus.writing():
        doomed = [name for name, _, version in milvus.collections() if version in versions]
        for name in doomed:
            milvus.drop(name)
    return doomed


def _delete_rows(settings: Settings, versions: list[str]) -> int:
    """Rows of ``embeddings``; those of the products go along."""
    where = f"encoder_version IN ({', '.join(map(lake.quote, versions))})"
    count = facts.count(settings, EMBEDDINGS, where)
    for table in (PRODUCT_EMBEDDINGS, EMBEDDINGS):
        with lake.committing(settings, table):
            lake.delta(settings, table).delete(where)
    return count
