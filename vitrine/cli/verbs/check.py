"""``vitrine check``: do catalog, embeddings, products, Feast, Milvus and promotions agree, and what mends them."""

import sys
from typing import Annotated, Any

import typer

from evaluation.consistency import check as consistency
from evaluation.consistency import differences, tables
from evaluation.milvus import vector_index
from evaluation.promotion import milvus_alias
from spark_jobs import ingest_catalog, session
from spark_jobs import repair as repair_tables
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoder_and_version
from vitrine.cli.options import Datasets, Json
from vitrine.cli.verbs.embed import embed_named
from vitrine.cli.verbs.features import bring_online
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, PRODUCT_EMBEDDINGS

Found = dict[str, Any]


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
        found = consistency.state(settings, chosen)
        if repair and found["differences"]:
            with runs.record(settings, "repair", chosen) as run:
                run.figures["repaired"] = repaired = mend(settings, chosen, found["differences"])
            found = consistency.state(settings, chosen) | {"repaired": repaired, "found": found["differences"]}
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


def mend(settings: Settings, dataset: str, found: list[Found]) -> list[str]:
    """Derive again what ``found`` says, first what others are derived from; the steps that were taken."""
    asked = consistency.repair_steps(found)
    if asked & set(consistency.TABLE_STEPS):
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
            repair_tables.drop_bad_vectors(spark, settings, dataset, version.encoded.encoder_version, version.dim)
    if asked & {"embed", "vectors", "dedupe"}:
        for version in consistency.to_embed(versions, found):
            _embed_again(settings, dataset, version)
    if asked & {"products", "vectors", "dedupe"}:
        for version in versions:
            repair_tables.products_again(spark, settings, dataset, version.encoded.encoder_version)


def _embed_again(settings: Settings, dataset: str, version: "tables.StoredVersion") -> None:
    """By the name, where that still means this version: another one's vectors cannot be derived any more."""
    encoder = version.encoded.encoder
    try:
        _, named = encoder_and_version(settings, encoder)
    except UserError as error:
        print(f"{version.name} cannot be derived again: {error}", file=sys.stderr)
        return
    if named == version.encoded.encoder_version:
        embed_named(settings, [encoder], dataset)
    else:
        print(f"{version.name} cannot be derived again: {encoder} is {named} now", file=sys.stderr)


def _mend_milvus(settings: Settings, dataset: str, versions: "list[tables.StoredVersion]", fresh: bool) -> None:
    with vector_index.VectorIndex(settings) as milvus:
        for version in versions:
            if fresh:
                milvus.forget(version.encoded)
            milvus.sync(version.encoded)
        milvus_alias.follow(settings, milvus, dataset)
