"""How all that is derived of a data set stands: what differs, and what has to be derived again."""

from typing import Any

from evaluation.consistency import copies, milvus, online, tables, vectors
from evaluation.consistency.differences import Differences
from evaluation.consistency.tables import StoredVersion
from evaluation.milvus.vector_index import VectorIndex
from vitrine import facts
from vitrine.lake import matches
from vitrine.settings import Settings
from vitrine.tables import CATALOG

TABLE_STEPS = ("dedupe", "labels", "vectors", "embed", "products")
"""Of the steps that repair, those that write tables."""


def state(settings: Settings, dataset: str) -> dict[str, Any]:
    """Rows by place (``catalog``; of each version, by its name, ``embeddings``, ``milvus``, ``online``), and
    ``differences`` as ``Differences.as_list`` gives them: none where all agree."""
    differences = Differences()
    rows: dict[str, Any] = {"dataset": dataset, "catalog": facts.count(settings, CATALOG, matches(dataset=dataset))}
    tables.check_catalog(settings, differences, dataset)
    copies.check_copies(settings, differences, dataset)
    tables.check_tags(settings, differences, dataset)
    with VectorIndex(settings) as index:
        milvus.check_alias(settings, differences, index, dataset)
        for version in tables.versions(settings, dataset):
            tables.check_embeddings(settings, differences, version)
            tables.check_products(settings, differences, version)
            rows[version.name] = {"embeddings": facts.embedded(settings, version.encoded)}
            if version.followed:
                rows[version.name] |= _check_followers(settings, differences, index, version)
            else:
                vectors.check_vectors(settings, differences, version, [])
    online.check_services(settings, differences, dataset)
    return rows | {"differences": differences.as_list()}


def _check_followers(
    settings: Settings, differences: Differences, index: VectorIndex, version: StoredVersion
) -> dict[str, int]:
    """How many rows each follower of the version holds."""
    collections = milvus.collections(settings, index, version)
    for collection in collections:
        milvus.check_behind(settings, differences, collection)
    store = online.OnlineStore(settings, version)
    vectors.check_vectors(settings, differences, version, [store, *collections])
    rows = {"milvus_serving" if collection.served else "milvus": collection.count for collection in collections}
    online.check_products(settings, differences, version)
    return rows | {"online": store.there}


def repair_steps(differences: list[dict[str, Any]]) -> set[str]:
    """The steps that mend ``differences``."""
    return {difference["repair"] for difference in differences} - {None}


def to_embed(versions: list[StoredVersion], differences: list[dict[str, Any]]) -> list[StoredVersion]:
    """Those that have to be embedded once more: the ones that nights keep up, whose pass takes away what left for all
    others too; another one only where its own vectors are bad, or where nights keep up none."""
    bad = {each["of"] for each in differences if each["repair"] == "vectors"}
    named = {each["of"] for each in differences if each["repair"] == "embed"}
    followed = any(version.followed for version in versions)
    return [each for each in versions if each.followed or each.name in bad or (not followed and each.name in named)]
