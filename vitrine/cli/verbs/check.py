"""``vitrine check``: do catalog, embeddings, products, Feast, Milvus and promotions agree, and what mends them."""

import sys
from typing import Annotated, Any

import typer

from evaluation.consistency import differences, milvus, tables
from evaluation.milvus import vector_index
from evaluation.promotion import milvus_alias
from spark_jobs import ingest_catalog, session
from spark_jobs import repair as repair_tables
from vitrine import facts, runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoder_and_version
from vitrine.cli.options import Datasets, Json
from vitrine.cli.verbs.embed import embed_named
from vitrine.cli.verbs.features import bring_online
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, PRODUCT_EMBEDDINGS

Found = dict[str, Any]
TABLE_STEPS = ("dedupe", "labels", "vectors", "embed", "products")


def check(
    dataset: Datasets = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Derive again what can be derived, then check once more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Do catalog, embeddings, Feast, Milvus and promotions agree, by id, version and content?

    Names each difference; exit 1 where one remains.
    """
    settings = load_settings()
    results = []
    for chosen in chosen_datasets(settings, dataset):
        found = state(settings, chosen)
        if repair and found["differences"]:
            with runs.record(settings, "repair", chosen) as run:
                run.figures["repaired"] = repaired = mend(settings, chosen, found["differences"])
            found = state(settings, chosen) | {"repaired": repaired, "found": found["differences"]}
        results.append(found)
    if as_json:
        output.show_each("checked", results, True)
    for found in results if not as_json else []:
        plain = {name: value for name, value in found.items() if name not in ("differences", "found")}
        output.emit_figures(f"checked {found['dataset']}", plain)
        for difference in found["differences"]:
            output.emit(f"  {differences.sentence(difference)}")
    wrong = [f"{found['dataset']}: {differences.sentence(each)}" for found in results for each in found["differences"]]
    if wrong:
        tail = "what is left needs a person" if repair else "vitrine check --repair mends what can be derived again"
        raise VitrineError(f"{'; '.join(wrong)}: {tail}")


def state(settings: Settings, dataset: str) -> Found:
    """Counts by store and the list of differences, as ``Differences.told`` gives it; empty where all agree."""
    found = differences.Differences()
    report: Found = {"dataset": dataset, "catalog": tables.count(settings, "catalog", tables.of(dataset))}
    tables.check_catalog(settings, found, dataset)
    with vector_index.VectorIndex(settings) as index:
        milvus.check_alias(settings, found, index, dataset)
        for version in tables.versions(settings, dataset):
            tables.check_embeddings(settings, found, version)
            tables.check_products(settings, found, version)
            counts = report[version.name] = {
                "embeddings": facts.embedded(settings, EncodedSet(dataset, version.encoder, version.version))
            }
            if not version.followed:
                tables.check_vectors(settings, found, version, [])
                continue
            milvus.check_versions(found, index, version)
            online, collections = tables.OnlineStore(version), milvus.followers(index, version)
            tables.check_vectors(settings, found, version, [online, *collections])
            for rows in collections:
                held = index.count(dataset, version.version, rows.served)
                counts["milvus_serving" if rows.served else "milvus"] = held
            counts["online"] = online.there
            tables.check_online_products(settings, found, version)
    tables.check_service(settings, found, dataset)
    return report | {"differences": found.told()}


def mend(settings: Settings, dataset: str, found: list[Found]) -> list[str]:
    """Derive again what ``found`` says, first what others are derived from; the steps that were taken."""
    asked = {difference["repair"] for difference in found} - {None}
    if asked & set(TABLE_STEPS):
        _mend_tables(settings, dataset, found, asked)
    if asked - {"labels"}:  # what follows the tables
        versions = [version for version in tables.versions(settings, dataset) if version.followed]
        if versions:
            bring_online(settings, [dataset], fresh="features" in asked)
        _mend_milvus(settings, dataset, versions, fresh="index" in asked)
    return sorted(asked)


def _mend_tables(settings: Settings, dataset: str, found: list[Found], asked: set[str]) -> None:
    spark = session.build_session(settings, f"repair {dataset}")
    for table in (CATALOG, EMBEDDINGS, PRODUCT_EMBEDDINGS) if "dedupe" in asked else ():
        repair_tables.dedupe(spark, settings, table, dataset)
    if "labels" in asked:
        ingest_catalog.append_labels(spark, settings, dataset)
    versions = tables.versions(settings, dataset)
    for version in versions:
        if "vectors" in asked:
            repair_tables.drop_bad_vectors(spark, settings, dataset, version.version, version.dim)
    if asked & {"embed", "vectors", "dedupe"}:
        for version in _to_embed(versions, found):
            _embed_again(settings, dataset, version)
    if asked & {"products", "vectors", "dedupe"}:
        for version in versions:
            repair_tables.products_again(spark, settings, dataset, version.version)


def _to_embed(versions: list[Any], found: list[Found]) -> list[Any]:
    """Those that nights keep up, whose pass takes away what left for all others too; another one only where its own
    vectors are bad, or where there is no such version."""
    bad = {each["of"] for each in found if each["repair"] == "vectors"}
    named = {each["of"] for each in found if each["repair"] == "embed"}
    followed = [version for version in versions if version.followed]
    return [each for each in versions if each.followed or each.name in bad or (not followed and each.name in named)]


def _embed_again(settings: Settings, dataset: str, version: Any) -> None:
    """By the name, where that still means this version: another one's vectors cannot be derived any more."""
    try:
        _, named = encoder_and_version(settings, version.encoder)
    except UserError as error:
        print(f"{version.name} cannot be derived again: {error}", file=sys.stderr)
        return
    if named == version.version:
        embed_named(settings, [version.encoder], dataset)
    else:
        print(f"{version.name} cannot be derived again: {version.encoder} is {named} now", file=sys.stderr)


def _mend_milvus(settings: Settings, dataset: str, versions: list[Any], fresh: bool) -> None:
    with vector_index.VectorIndex(settings) as index:
        for version in versions:
            if fresh:
                index.forget(dataset, version.version)
            index.sync(dataset, version.version)
        milvus_alias.follow(settings, index, dataset)
