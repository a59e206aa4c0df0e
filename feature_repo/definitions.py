"""What Feast serves: the only file that Feast scans in this folder.

A view and a service for each encoder version in the lake, views of the catalog and of its labels over time, and the
services that say what serves each data set. Importing the file as part of the package does nothing; Feast imports it
under its bare name.
"""

from datetime import timedelta
from typing import Any

from vitrine import facts, lake
from vitrine.feast_parts import (
    Array,
    Bool,
    DeltaFormat,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    Float32,
    Int32,
    Int64,
    SparkSource,
    String,
    ValueType,
)
from vitrine.feature_store import KINDS, Kind, encoder_service, tags_of
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, ENCODERS, LABELS, PROMOTIONS

IMAGE = Entity(name="image", join_keys=["image_id"], value_type=ValueType.STRING, description="one photo")
PRODUCT = Entity(name="product", join_keys=["product_id"], value_type=ValueType.STRING, description="one product")
_ENTITIES = {"image_id": IMAGE, "product_id": PRODUCT}
_TYPES = {"string": String, "int32": Int32, "float": Float32, "bool": Bool}


def catalog_view(settings: Settings) -> FeatureView:
    """Where a photo is, what it shows and which split it is in."""
    return FeatureView(
        name="catalog",
        entities=[IMAGE],
        source=SparkSource(
            name="catalog",
            path=CATALOG.uri(settings),
            table_format=DeltaFormat(),
            timestamp_field="updated_at",
        ),
        schema=[
            *(Field(name=name, dtype=String) for name in ("dataset", "product_id", "category", "split", "uri")),
            *(Field(name=name, dtype=Int64) for name in ("width", "height")),
        ],
        online=False,
        description=CATALOG.about,
    )


def labels_view(settings: Settings) -> FeatureView:
    """Product, category and attributes as they were said over time: what a training set of then has to be joined
    with."""
    own = facts.attributes(settings)
    columns = ", ".join(f"{facts.label_in_sql(name)} AS `{name}`" for name in own)
    of_map = f"SELECT image_id, valid_from, product_id, category, {columns} FROM {LABELS.sql(settings)}"
    where: dict[str, Any] = {"path": LABELS.uri(settings), "table_format": DeltaFormat()}
    return FeatureView(
        name="labels",
        entities=[IMAGE],
        source=SparkSource(name="labels", timestamp_field="valid_from", **({"query": of_map} if own else where)),
        schema=[Field(name=name, dtype=String) for name in ("product_id", "category", *own)],
        online=False,
        description=LABELS.about,
    )


def encoder_view(settings: Settings, kind: Kind, row: dict[str, Any]) -> FeatureView:
    """The vectors of one encoder version, a ``row`` of ``encoders``: float32 of unit length, with the labels of now,
    attributes among them (then: ``labels_view``)."""
    encoder, version, dim = row["encoder"], row["encoder_version"], row["dim"]
    name, days = kind.view(encoder, version), settings.feast.ttl_days
    own = [each for each in facts.attributes(settings) if each not in kind.features]
    columns = ", ".join(("*", *(f"{facts.label_in_sql(each)} AS `{each}`" for each in own)))
    if lake.lacking(settings, kind.table).names:  # until the next commit adds the column, Spark knows of none
        columns = ", ".join(("*", *(f"CAST(NULL AS STRING) AS `{each}`" for each in own)))
    return FeatureView(
        name=name,
        entities=[_ENTITIES[kind.key]],
        ttl=timedelta(days=days) if days else timedelta(0),  # 0: none
        source=SparkSource(
            name=name,
            query=f"SELECT {columns} FROM {kind.table.sql(settings)} WHERE {lake.matches(encoder_version=version)}",
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        ),
        schema=[
            Field(name=kind.features[0], dtype=Array(Float32), vector_length=dim),
            *(Field(name=name, dtype=_TYPES[str(kind.table.schema.field(name).type)]) for name in kind.features[1:]),
            *(Field(name=name, dtype=String) for name in own),
        ],
        tags={"encoder": encoder, "encoder_version": version, "dim": str(dim)},
        description=f"embeddings of {kind.name} by {encoder}, version {version}",
    )


def tag_view(settings: Settings, kind: Kind, dataset: str, label: str) -> FeatureView:
    """The tags of one label of a data set, and how sure they are: a value that is abstained on is no label."""
    name, columns = kind.view(dataset, label), dict(zip(kind.features, kind.columns, strict=True))
    renamed = ", ".join(f"{column} AS {feature}" for feature, column in columns.items())
    where = lake.matches(dataset=dataset, label=label)
    return FeatureView(
        name=name,
        entities=[_ENTITIES[kind.key]],
        ttl=timedelta(0),
        source=SparkSource(
            name=name,
            query=f"SELECT {kind.key}, {renamed}, tagged_at FROM {kind.table.sql(settings)} WHERE {where}",
            timestamp_field="tagged_at",
        ),
        schema=[
            Field(name=feature, dtype=_TYPES[str(kind.table.schema.field(column).type)])
            for feature, column in columns.items()
        ],
        tags={"dataset": dataset, "label": label},
        description=f"{kind.table.about}: {label} in {dataset}",
    )


def tag_views(settings: Settings) -> dict[tuple[str, str], list[FeatureView]]:
    """The views of all labels that are tagged, by data set and the name of the service that has them."""
    views: dict[tuple[str, str], list[FeatureView]] = {}
    for dataset, label in facts.tagged_labels(settings):
        for kind in tags_of(label):
            views.setdefault((dataset, kind.serving(dataset)), []).append(tag_view(settings, kind, dataset, label))
    return views


def tag_services(settings: Settings) -> list[FeatureService]:
    """``<dataset>_image_tags_serving`` and ``<dataset>_product_tags_serving``: all labels that are tagged."""
    return [
        FeatureService(name=name, features=list(of), tags={"dataset": dataset}, description=f"what {dataset} is tagged")
        for (dataset, name), of in tag_views(settings).items()
    ]


def objects(settings: Settings) -> list[Entity | FeatureView | FeatureService]:
    """Every entity and view, and every encoder version's service."""
    used = f"state <> {lake.quote(facts.RETIRED)}"
    rows = lake.rows(settings, f"SELECT * FROM {ENCODERS.name} WHERE {used} ORDER BY encoder_version")
    images, products = ([encoder_view(settings, kind, row) for row in rows] for kind in KINDS)
    services = [
        FeatureService(name=encoder_service(row["encoder"], row["encoder_version"]), features=[view])
        for row, view in zip(rows, images, strict=True)
    ]
    tags = [view for views in tag_views(settings).values() for view in views]
    return [IMAGE, PRODUCT, catalog_view(settings), labels_view(settings), *images, *products, *services, *tags]


def serving_services(settings: Settings) -> list[FeatureService]:
    """``<dataset>_images_serving`` and ``<dataset>_products_serving`` for each data set that was promoted: each points
    to a version's view; and those of ``tag_services``."""
    promoted = lake.rows(settings, f"SELECT DISTINCT dataset FROM {PROMOTIONS.name} ORDER BY dataset")
    services = []
    for dataset in (row["dataset"] for row in promoted):
        serves = facts.serving_set(settings, dataset)
        assert serves is not None
        # Views go by the name that the version was registered under.
        registered = facts.encoder_row(settings, serves.encoder_version)
        services += [
            FeatureService(
                name=kind.serving(dataset),
                features=[encoder_view(settings, kind, registered)],
                tags={"dataset": dataset, "encoder": registered["encoder"], "encoder_version": serves.encoder_version},
                description=f"what serves the {kind.name} of {dataset}",
            )
            for kind in KINDS
        ]
    return [*services, *tag_services(settings)]


if __name__ == "definitions":  # Feast's own command line
    _settings = load_settings()
    (_settings.home / "feast").mkdir(parents=True, exist_ok=True)  # where its registry comes next
    lake.create_tables(_settings)  # Feast asks of a source that it is there
    globals().update({f"_{type(item).__name__}_{item.name}": item for item in objects(_settings)})
    globals().update({f"_serving_{item.name}": item for item in serving_services(_settings)})
