"""``vitrine check``: do catalog, embeddings, products, Feast, Milvus and promotions agree, and what mends them."""

import sys
from typing import Annotated, Any

import typer

from evaluation.consistency.check import TABLE_STEPS, repair_steps, state, to_embed
from evaluation.consistency.differences import sentence
from evaluation.consistency.tables import StoredVersion
from evaluation.consistency.tables import versions as stored_versions
from vitrine import runs
from vitrine.cli import options, output
from vitrine.cli.options import Datasets, Json, chosen_datasets, show_each
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
        found = state(settings, chosen)
        if repair and found["differences"]:
            with runs.record(settings, "repair", chosen) as run:
                run.figures["repaired"] = repaired = mend(settings, chosen, found["differences"])
            found = state(settings, chosen) | {"repaired": repaired, "found": found["differences"]}
        results.append(found)
    if as_json:
        show_each("checked", results, True)
    for found in results if not as_json else []:
        plain = {name: value for name, value in found.items() if name not in ("differences", "found")}
        output.emit_figures(f"checked {found['dataset']}", plain)
        for difference in found["differences"]:
            output.emit(f"  {sentence(difference)}")
    wrong = [f"{found['dataset']}: {sentence(each)}" for found in results for each in found["differences"]]
    if wrong:
        tail = "what is left needs a person" if repair else "vitrine check --repair mends what can be derived again"
        raise VitrineError(f"{'; '.join(wrong)}: {tail}")


def mend(settings: Settings, dataset: str, differences: list[Found]) -> list[str]:
    """Derive again what ``differences`` say, first what others are derived from; the steps that were taken."""
    asked = repair_steps(differences)
    if asked & set(TABLE_STEPS):
        _mend_tables(settings, dataset, differences, asked)
    if asked - {"labels"}:  # what follows the tables
        versions = [version for version in stored_versions(settings, dataset) if version.followed]
        if versions:
            options.features(settings, [dataset], fresh="features" in asked)
        _mend_milvus(settings, dataset, versions, fresh="index" in asked)
    return sorted(asked)


def _mend_tables(settings: Settings, dataset: str, differences: list[Found], asked: set[str]) -> None:
    from spark_jobs import repair
    from spark_jobs.ingest_catalog import append_labels
    from spark_jobs.session import build_session

    spark = build_session(settings, f"repair {dataset}")
    for table in (CATALOG, EMBEDDINGS, PRODUCT_EMBEDDINGS) if "dedupe" in asked else ():
        repair.dedupe(spark, settings, table, dataset)
    if "labels" in asked:
        append_labels(spark, settings, dataset)
    versions = stored_versions(settings, dataset)
    for version in versions:
        if "vectors" in asked:
            repair.drop_bad_vectors(spark, settings, dataset, version.encoded.encoder_version, version.dim)
    if asked & {"embed", "vectors", "dedupe"}:
        for version in to_embed(versions, differences):
            _embed_again(settings, dataset, version)
    if asked & {"products", "vectors", "dedupe"}:
        for version in versions:
            repair.products_again(spark, settings, dataset, version.encoded.encoder_version)


def _embed_again(settings: Settings, dataset: str, version: StoredVersion) -> None:
    """By the name, where that still means this version: another one's vectors cannot be derived any more."""
    encoder = version.encoded.encoder
    try:
        _, named = options.version_of(settings, encoder)
    except UserError as error:
        print(f"{version.name} cannot be derived again: {error}", file=sys.stderr)
        return
    if named == version.encoded.encoder_version:
        options.embed_named(settings, [encoder], dataset)
    else:
        print(f"{version.name} cannot be derived again: {encoder} is {named} now", file=sys.stderr)


def _mend_milvus(settings: Settings, dataset: str, versions: list[StoredVersion], fresh: bool) -> None:
    from evaluation.milvus.vector_index import VectorIndex
    from evaluation.promotion.milvus_alias import follow

    with VectorIndex(settings) as milvus:
        for version in versions:
            if fresh:
                milvus.forget(version.encoded)
            milvus.sync(version.encoded)
        follow(settings, milvus, dataset)
