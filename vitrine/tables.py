"""Each Delta table: columns, types, key, partitioning. The one place where a column name is spelled for a schema."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vitrine.settings import Settings

_TIME = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()
_TEXTS = pa.map_(_TEXT, _TEXT)


def _column(name: str, kind: pa.DataType = _TEXT, *, null: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=null)


@dataclass(frozen=True)
class Table:
    """One Delta table of the lake: ``schema`` is Arrow's, ``key`` identifies a row."""

    name: str
    about: str
    key: tuple[str, ...]
    schema: pa.Schema
    partition_by: tuple[str, ...]
    properties: dict[str, str]

    def path(self, settings: Settings) -> Path:
        """Its folder, where the lake is a local one; ``uri`` holds everywhere."""
        return settings.lake / self.name

    def uri(self, settings: Settings) -> str:
        """What Spark and delta-rs open: a folder's path, or ``s3://BUCKET[/FOLDER...]/NAME``."""
        return f"{settings.lake_root}/{self.name}"

    def sql(self, settings: Settings) -> str:
        """The table by its place, in Spark's SQL."""
        return "delta.`" + self.uri(settings).replace("`", "``") + "`"


def _table(
    name: str,
    about: str,
    key: tuple[str, ...],
    *columns: pa.Field,
    partition_by: tuple[str, ...] = (),
    properties: dict[str, str] | None = None,
) -> Table:
    return Table(name, about, key, pa.schema(columns), partition_by, properties or {})


CATALOG = _table(
    "catalog",
    "what a data set holds now",
    ("image_id",),
    _column("image_id"),
    _column("dataset"),
    _column("product_id"),
    _column("category", null=True),
    _column("split", null=True),
    _column("uri"),
    _column("size", pa.int64()),
    _column("modified_at", _TIME),
    _column("content_sha256"),
    _column("width", pa.int32()),
    _column("height", pa.int32()),
    _column("content_seen_at", _TIME),  # when this content was first ingested: the embeddings' event time
    _column("updated_at", _TIME),
    _column("attributes", _TEXTS, null=True),  # null where the photo has none; by name
    partition_by=("dataset",),
    properties={"delta.enableChangeDataFeed": "true"},
)

LABEL_COLUMNS = ("product_id", "category", "split")
"""What a photo is said to be, beside ``attributes``: it may change without the photo's content."""

LABELS = _table(
    "labels",
    "product, category and attributes as they were said over time (append-only)",
    ("image_id", "valid_from"),
    _column("image_id"),
    _column("dataset"),
    _column("product_id"),
    _column("category", null=True),
    _column("valid_from", _TIME),
    _column("attributes", _TEXTS, null=True),
    partition_by=("dataset",),
)

LINKS = _table(
    "links",
    "what servers said of photos behind links when they were last asked for them",
    ("image_id",),
    _column("image_id"),
    _column("dataset"),
    _column("uri"),
    _column("content_sha256"),
    _column("etag", null=True),
    _column("last_modified", null=True),
    _column("asked_at", _TIME),
    partition_by=("dataset",),
)

QUARANTINE = _table(
    "quarantine",
    "what could not be read or embedded, and why",
    ("image_id", "stage", "encoder"),
    _column("image_id"),
    _column("dataset"),
    _column("stage"),  # ingest | embed
    _column("encoder"),  # empty at stage ingest
    _column("uri"),
    _column("code"),
    _column("reason"),
    _column("first_seen", _TIME),
    _column("last_seen", _TIME),
    partition_by=("dataset",),
)

EMBEDDINGS = _table(
    "embeddings",
    "one unit-length vector an image and encoder version",
    ("image_id", "encoder_version"),
    _column("image_id"),
    _column("encoder_version"),
    _column("dataset"),
    _column("product_id"),
    _column("category", null=True),
    _column("split", null=True),
    _column("encoder"),
    _column("content_sha256"),
    _column("embedding", pa.list_(pa.float32())),
    _column("event_timestamp", _TIME),
    _column("created_timestamp", _TIME),
    _column("attributes", _TEXTS, null=True),  # the catalog's
    partition_by=("encoder_version",),
    properties={"delta.enableChangeDataFeed": "true"},
)

PRODUCT_EMBEDDINGS = _table(
    "product_embeddings",
    "one unit-length vector a product and encoder version: the mean of its images'",
    ("product_id", "encoder_version"),
    _column("product_id"),
    _column("encoder_version"),
    _column("dataset"),
    _column("category", null=True),
    _column("encoder"),
    _column("n_images", pa.int32()),
    _column("images_md5"),  # of its images' ids and contents: another one means another mean
    _column("embedding", pa.list_(pa.float32())),
    _column("event_timestamp", _TIME),  # the newest of its images'
    _column("created_timestamp", _TIME),
    _column("attributes", _TEXTS, null=True),  # those that its images have one value of
    partition_by=("encoder_version",),
    properties={"delta.enableChangeDataFeed": "true"},
)

ENCODERS = _table(
    "encoders",
    "every encoder version that ever embedded",
    ("encoder_version",),
    _column("encoder_version"),
    _column("encoder"),
    _column("state"),  # experiment | nightly | retired
    _column("backbone"),
    _column("family"),
    _column("strategy"),  # pretrained | full | top
    _column("source_dataset", null=True),
    _column("base_version", null=True),
    _column("dim", pa.int32()),
    _column("weights_uri"),
    _column("licence"),
    _column("created_at", _TIME),
    _column("cost", null=True),  # of tuning it, JSON: seconds, core- and GPU-seconds, money
    _column("mlflow_run", null=True),  # where tuning it is logged
)

PREDICTIONS = _table(
    "predictions",
    "what classifiers on frozen embeddings said of the split that is reported",
    ("image_id", "encoder_version", "classifier", "label", "seed"),
    _column("image_id"),
    _column("dataset"),
    _column("encoder_version"),  # whose embeddings were classified
    _column("classifier"),  # perceptron | linear_head | discriminants | linear_probe | nearest_neighbours
    _column("label"),  # product_id | category
    _column("seed", pa.int64()),
    _column("truth"),
    _column("predicted", pa.list_(_TEXT)),  # the five likeliest, likeliest first
    _column("probabilities", pa.list_(pa.float32())),
    _column("training_set"),  # fingerprint of what was learned from
    _column("predicted_at", _TIME),
    partition_by=("dataset",),
)

_EVALUATED = ("encoder_version", "dataset", "catalog_version", "query_split", "index_split", "relevant")
"""What one evaluation is of."""

METRICS = _table(
    "metrics",
    "one figure a row",
    (*_EVALUATED, "classifier", "slice", "seed", "metric"),
    _column("encoder_version"),
    _column("encoder"),
    _column("dataset"),
    _column("catalog_version"),
    _column("query_split"),  # 'all' for leave-one-out over the whole set
    _column("index_split"),  # empty for a classifier
    _column("relevant"),  # product_id | category | an attribute
    _column("classifier"),  # empty for retrieval; codec: of shortened vectors
    _column("slice"),  # all | shuffled_labels | macro_product | ... | category=NAME | codec=NAME
    _column("seed", pa.int64()),
    _column("metric"),
    _column("value", pa.float64()),
    _column("queries", pa.int64()),
    _column("queries_left_out", pa.int64()),
    _column("index_size", pa.int64()),
    _column("run_id"),
    _column("computed_at", _TIME),
    _column("low", pa.float64(), null=True),  # the 95 % interval; null where none is defined
    _column("high", pa.float64(), null=True),
    _column("input_version", null=True),  # fingerprint of what the figure was computed from
    partition_by=("dataset",),
)

QUERY_RESULTS = _table(
    "query_results",
    "each query's neighbours: what galleries, paired tests and analysts read",
    (*_EVALUATED, "query_id"),
    _column("encoder_version"),
    _column("dataset"),
    _column("catalog_version"),
    _column("query_split"),
    _column("index_split"),
    _column("relevant"),
    _column("query_id"),
    _column("neighbours", pa.list_(_TEXT)),  # image ids, nearest first
    _column("similarities", pa.list_(pa.float32())),  # cosine
    _column("relevance", pa.list_(pa.bool_())),
    _column("n_relevant", pa.int64()),  # relevant items in the whole index
    partition_by=("dataset", "encoder_version"),
)

PROMOTIONS = _table(
    "promotions",
    "which encoder version serves a data set: its newest row",
    ("dataset", "promoted_at"),
    _column("dataset"),
    _column("promoted_at", _TIME),
    _column("encoder"),
    _column("encoder_version"),
    _column("previous_version", null=True),
    _column("catalog_version"),
    _column("gates"),  # JSON: what each gate said
    _column("forced", pa.bool_()),
    _column("reason", null=True),
)

CLASSIFIERS = _table(
    "classifiers",
    "which classifier tags a label of a data set's photos: its newest row by the encoder version that serves",
    ("dataset", "label", "promoted_at"),
    _column("dataset"),
    _column("label"),
    _column("promoted_at", _TIME),
    _column("classifier_version"),
    _column("encoder"),
    _column("encoder_version"),
    _column("kind"),  # discriminants | ridge | linear_probe | nearest_neighbours | perceptron
    _column("training_set"),
    _column("threshold", pa.float64(), null=True),  # null: it abstains on everything
    _column("previous_version", null=True),
    _column("gate"),  # JSON: what the gate said
)

TAGS = _table(
    "tags",
    "what a classifier says a photo is, where it has no label or --all was asked",
    ("image_id", "label"),
    _column("image_id"),
    _column("label"),  # product_id | category
    _column("dataset"),
    _column("value"),
    _column("probability", pa.float32()),
    _column("runner_up"),
    _column("abstained", pa.bool_()),  # true: nobody may take the value for a label
    _column("reason", null=True),  # unsure | unlike anything learned
    _column("classifier_version"),
    _column("encoder_version"),
    _column("content_sha256"),
    _column("tagged_at", _TIME),
    partition_by=("dataset",),
    properties={"delta.enableChangeDataFeed": "true"},
)

PRODUCT_TAGS = _table(
    "product_tags",
    "what the photos of a product say together: by the mean of their log-probabilities",
    ("product_id", "label"),
    _column("product_id"),
    _column("label"),
    _column("dataset"),
    _column("value"),
    _column("probability", pa.float32()),
    _column("runner_up"),
    _column("abstained", pa.bool_()),
    _column("reason", null=True),
    _column("classifier_version"),
    _column("encoder_version"),
    _column("images_md5"),  # of its tagged photos' ids and contents
    _column("tagged_at", _TIME),
    partition_by=("dataset",),
    properties={"delta.enableChangeDataFeed": "true"},
)

ADVICE = _table(
    "advice",
    "what vitrine advise found of each encoder, as it is and tuned",
    ("run_id", "encoder", "strategy"),
    _column("run_id"),
    _column("dataset"),
    _column("catalog_version"),
    _column("use"),  # search | tagging | cost
    _column("advised_at", _TIME),
    _column("encoder"),
    _column("encoder_version", null=True),  # null where it was left out before it was identified, or is not made yet
    _column("strategy"),  # pretrained | linear; of what was probed another one of vitrine tune; empty: left out
    _column("verdict"),  # chosen | undecided | as good | worse | worth it | not worth it | unclear | left out
    _column("why"),
    _column("metric"),  # mMP@5 | accuracy of the nearest photo of another product
    _column("measured", pa.float64(), null=True),  # on the sample
    _column("value", pa.float64(), null=True),  # expected on the whole catalog
    _column("low", pa.float64(), null=True),  # the 90 % interval
    _column("high", pa.float64(), null=True),
    _column("products", pa.int64(), null=True),  # of the sample
    _column("photos", pa.int64(), null=True),
    _column("confirmed_by", pa.int64(), null=True),  # products that the race did not ask, and the value is told by
    _column("photos_per_second", pa.float64(), null=True),
    _column("first_night_seconds", pa.float64(), null=True),
    _column("first_night_money", pa.float64(), null=True),  # 0 where no prices are set
    _column("night_seconds", pa.float64(), null=True),
    _column("night_money", pa.float64(), null=True),
    _column("serving_bytes", pa.int64(), null=True),  # of the vectors online and in Milvus
    _column("serving_money", pa.float64(), null=True),  # of their memory, a month
    _column("logme", pa.float64(), null=True),  # of the encoder's vectors of the sample; decides nothing
    _column("h_score", pa.float64(), null=True),  # regularised; the same
    _column("currency"),
    _column("codec", null=True),  # of the chosen one: the fewest bytes shown to be good enough
    _column("codec_bytes", pa.int64(), null=True),  # of a vector
    _column("over", null=True),  # of what was probed: the strategy that it was held against
    _column("gain", pa.float64(), null=True),  # of the figure, over that
    _column("gain_low", pa.float64(), null=True),
    _column("gain_high", pa.float64(), null=True),
    _column("probe_seconds", pa.float64(), null=True),
    _column("tuning_seconds", pa.float64(), null=True),  # of the whole catalog, about
    _column("tuning_money", pa.float64(), null=True),
    partition_by=("dataset",),
)

RUNS = _table(
    "runs",
    "every job: what it did and what it cost",
    ("run_id",),
    _column("run_id"),
    _column("verb"),
    _column("dataset", null=True),
    _column("encoder", null=True),
    _column("encoder_version", null=True),
    _column("catalog_version", null=True),
    _column("state"),  # done | failed | refused
    _column("started_at", _TIME),
    _column("seconds", pa.float64()),
    _column("peak_mib", pa.float64()),
    _column("figures"),  # JSON object, as --json prints
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *(CATALOG, LABELS, LINKS, QUARANTINE, EMBEDDINGS, PRODUCT_EMBEDDINGS, ENCODERS),
        *(PREDICTIONS, METRICS, QUERY_RESULTS, PROMOTIONS, CLASSIFIERS, TAGS, PRODUCT_TAGS, ADVICE, RUNS),
    )
}
