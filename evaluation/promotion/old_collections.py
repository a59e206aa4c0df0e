"""Which collections of Milvus stay, and which `vitrine maintain` drops: docs/milvus.md states the rule."""

from datetime import timedelta
from typing import Any

from evaluation.milvus.collection import collection_name, served_index
from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion.promote import standing
from vitrine import facts, lake
from vitrine.encoders import kept_bundles
from vitrine.settings import Settings

USES = ("index", "evaluate", "promote", "rollback")


def drop_old(settings: Settings) -> dict[str, Any]:
    """Drop what nothing names and nobody used for ``[milvus] keep_days``; collections of other lakes are left alone.
    The bundle by which photos are searched goes with the last collection of its version.

    Returns:
        ``{"collections_kept": how many, "collections_dropped": their names, "bundles_dropped": their versions}``.
    """
    kept, dropped, versions = 0, [], set[str]()
    with VectorIndex(settings) as milvus, milvus.writing():
        for name, dataset, version in milvus.collections():
            if milvus.alias_collection(dataset) == name or _wanted(settings, name, dataset, version):
                kept += 1
                versions.add(version)
            else:
                milvus.drop(name)
                dropped.append(name)
    bundles = kept_bundles.drop_others(settings, versions)
    return {"collections_kept": kept, "collections_dropped": dropped, "bundles_dropped": bundles}


def _wanted(settings: Settings, name: str, dataset: str, version: str) -> bool:
    """Is it of a version that serves, served before, is embedded every night or was used lately, and of an index that
    is still asked for?"""
    indexes = {collection_name(dataset, version), collection_name(dataset, version, served_index(settings.milvus))}
    if name not in indexes:
        return False
    needed = {row["encoder_version"] for row in standing(settings, dataset)[-2:]}
    needed |= {encoded.encoder_version for encoded in facts.belong_online(settings, dataset)}
    return version in needed or version in _used(settings, dataset)


def _used(settings: Settings, dataset: str) -> set[str]:
    """The encoder versions that a run used in the last ``[milvus] keep_days``."""
    verbs = ", ".join(map(lake.quote, USES))
    where = f"{lake.matches(dataset=dataset)} AND verb IN ({verbs}) AND encoder_version IS NOT NULL"
    last = lake.rows(settings, f"SELECT encoder_version, max(started_at) AS at FROM runs WHERE {where} GROUP BY 1")
    since = lake.now() - timedelta(days=settings.milvus.keep_days)
    return {row["encoder_version"] for row in last if row["at"] >= since}
