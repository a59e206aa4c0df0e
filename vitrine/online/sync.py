"""The online store follows the lake by Delta version.

Each (view, data set) keeps, as a row of the store itself, the version that it holds (``cursor_id``); a sync applies
the change feed since, deletions included, or fills from scratch where there is no such row. Feast deletes no online
row, so what left is overwritten: only ``kind.remains`` stays.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vitrine import facts, feature_store, lake
from vitrine.change_feed import UNREADABLE, ChangeFeed, LastChanges
from vitrine.encoded_set import EncodedSet
from vitrine.errors import one_line
from vitrine.feast_parts import (
    EntityKey,
    FeatureServiceNotFoundException,
    FeatureStore,
    FeatureView,
    FeatureViewNotFoundException,
    Value,
)
from vitrine.feature_store import KINDS, Kind, tags_of
from vitrine.online.values import entity_keys, plain_values, vector_values
from vitrine.settings import Settings
from vitrine.tables import LABELS

BATCH = 1000
_SAY_EVERY = 20_000
_MOMENT = pa.timestamp("us", "UTC")
_FILLING = -1  # noted in place of a version while a fill from scratch is under way

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime]
"""Key, features, event time, creation time."""


@dataclass(frozen=True)
class Synced:
    """What a sync sent to the online store."""

    upserted: int
    deleted: int
    from_version: int | None
    to_version: int


@dataclass(frozen=True)
class Rows:
    """Rows of a data set in the lake, of images or products, and the view that holds them online."""

    settings: Settings
    kind: Kind
    dataset: str
    view: str
    where: str
    """The condition for them."""
    version: str
    """What ``kind.remains`` says of what left."""
    moment: str
    """The column that says when a row was made."""

    @property
    def columns(self) -> list[str]:
        return [self.kind.key, *self.kind.columns]

    @property
    def feed(self) -> ChangeFeed:
        return ChangeFeed(self.settings, self.kind.table, self.where, self.kind.key)


class Source(Rows):
    """The rows of an encoded set."""

    def __init__(self, settings: Settings, kind: Kind, encoded: EncodedSet) -> None:
        view, version = kind.view(encoded.encoder, encoded.encoder_version), encoded.encoder_version
        super().__init__(settings, kind, encoded.dataset, view, encoded.where, version, "created_timestamp")


class TagSource(Rows):
    """The tags of one label."""

    def __init__(self, settings: Settings, kind: Kind, dataset: str, label: str) -> None:
        where = lake.matches(dataset=dataset, label=label)
        super().__init__(settings, kind, dataset, kind.view(dataset, label), where, "", "tagged_at")


def sources(settings: Settings, dataset: str) -> list[Rows]:
    """All of ``dataset`` that belongs online: the vectors of its versions, and the tags of its labels."""
    vectors = [Source(settings, kind, encoded) for encoded in facts.belong_online(settings, dataset) for kind in KINDS]
    labels = [label for _, label in facts.tagged_labels(settings, dataset)]
    tags = [TagSource(settings, kind, dataset, label) for label in labels for kind in tags_of(label)]
    return [*vectors, *tags]


Fill = Callable[[Rows, int], int]
"""Writes all rows of a source as of a Delta version, and says how many: ``spark_jobs.fill_online.fill_online``."""


def sync_all(
    settings: Settings, store: FeatureStore, dataset: str, fresh: bool = False, fill: Fill | None = None
) -> dict[str, Any]:
    """As ``sync``, of all of ``dataset`` that belongs online.

    Returns:
        ``{"upserted": rows, "deleted": rows, "views": names}``.
    """
    figures: dict[str, Any] = {"upserted": 0, "deleted": 0, "views": []}
    for source in sources(settings, dataset):
        synced = sync(store, source, fresh, fill)
        figures["upserted"] += synced.upserted
        figures["deleted"] += synced.deleted
        figures["views"].append(f"{dataset}: {source.view}")
    return figures


def sync(store: FeatureStore, source: Rows, fresh: bool = False, fill: Fill | None = None) -> Synced:
    """Bring the online rows of ``source`` to the lake's version; only what changed is sent.

    Fills from scratch where the store notes no version, one of another lake, or one that the feed no longer reaches;
    ``fresh`` does so whatever it notes, for rows that were damaged behind its back. ``fill`` then writes all rows
    instead of this process.

    Raises:
        VitrineError: a vector has another length than its view.
    """
    settings, table = source.settings, source.kind.table
    held = _read_cursor(store, source)  # before the lake's version, which then is the newer one
    until, identity = lake.version(settings, table), lake.identity(settings, table)
    if held == (identity, until) and not fresh:
        return Synced(0, 0, until, until)
    if held and (held[0] != identity or held[1] > until):
        _empty(store, source.view)  # rows of another lake, of which nobody knows which are there
        held = None
    since = held[1] if held and held[1] != _FILLING and not fresh else None
    batches = None if since is None else _since(source, since, until)
    if batches is None:
        # A fill that was cut short, or a store that is not trusted, may hold rows that left since.
        left = _left_rows(source, until) if held or fresh else iter(())
        since, batches = None, left if fill else chain(_all_rows(source, until), left)
        _write_cursor(store, source, identity, _FILLING)
    filled = fill(source, until) if fill and since is None else 0
    upserted, deleted = _send(store, source, batches)
    _write_cursor(store, source, identity, until)
    return Synced(filled + upserted, deleted, since, until)


def lag(settings: Settings, dataset: str) -> str | None:
    """Why ``vitrine features`` has something to do for ``dataset``; None where it has not. Changes nothing."""
    store = feature_store.open_store(settings)
    try:
        for source in sources(settings, dataset):
            table = source.kind.table
            held, until = _read_cursor(store, source), lake.version(settings, table)
            same = held is not None and held[0] == lake.identity(settings, table) and held[1] != _FILLING
            if held is None or not same or source.feed.last_changes(held[1], until):
                return f"Feast has not the newest rows of {source.view}"
        serves = facts.serving(settings, dataset)
        for kind in KINDS if serves else ():
            points = store.get_feature_service(kind.serving(dataset)).tags.get("encoder_version")
            if serves and points != serves["encoder_version"]:
                return f"Feast's service points to {points}, {serves['encoder_version']} serves"
    except (FeatureServiceNotFoundException, FeatureViewNotFoundException) as error:
        return f"Feast has not all that is served: {error}"
    except UNREADABLE:
        return "the change feed no longer reaches back to what Feast holds"
    return None


def _send(store: FeatureStore, source: Rows, batches: Iterator[pa.RecordBatch]) -> tuple[int, int]:
    """How many rows were written and overwritten."""
    view = store.get_feature_view(source.view)
    upserted = deleted = 0
    for batch in batches:
        for start in range(0, len(batch), BATCH):
            part = batch.slice(start, BATCH)
            write(store, view, feast_rows(source, part, int(view.tags.get("dim", 0))))
            gone = part.column(source.kind.columns[0]).null_count
            upserted, deleted = upserted + len(part) - gone, deleted + gone
            if upserted % _SAY_EVERY < BATCH <= upserted:
                print(f"online {source.view}: {upserted} rows", file=sys.stderr)
    return upserted, deleted


def write(store: FeatureStore, view: FeatureView, rows: list[FeastRow]) -> None:
    """Send rows to the online store."""
    store._get_provider().online_write_batch(store.config, view, rows, None)


def feast_rows(source: Rows, batch: pa.RecordBatch, dim: int) -> list[FeastRow]:
    """Rows of the source's key, columns and ``at`` as Feast's own; a null vector becomes a null value.

    ``FeatureStore.write_to_online_store`` makes the same of a DataFrame, float by float.
    """
    kind, packed = source.kind, source.settings.feast.vectors == "int8"
    keys = entity_keys(kind, batch.column(kind.key).to_pylist())
    columns = [vector_values(batch.column(kind.columns[0]), dim, packed)] if kind.vector else []
    columns += [plain_values(batch.column(name)) for name in kind.columns[len(columns) :]]
    features = [dict(zip(kind.features, values, strict=True)) for values in zip(*columns, strict=True)]
    moments = batch.column("at").to_pylist()
    return list(zip(keys, features, moments, moments, strict=True))


def _empty(store: FeatureStore, view: str) -> None:
    """Drop the view's online rows, those of other data sets and their cursors too: each then fills from scratch."""
    found = store.get_feature_view(view)
    for delete, keep in (([found], []), ([], [found])):
        store._get_provider().update_infra(
            project=store.project,
            tables_to_delete=delete,
            tables_to_keep=keep,
            entities_to_delete=[],
            entities_to_keep=[],
            partial=True,
        )


# What is sent: batches of the key, the features, and ``at``, the online store's clock. That is the commit's, so that
# stores which skip rows that are not newer skip none.


def _all_rows(source: Rows, until: int) -> Iterator[pa.RecordBatch]:
    table = source.kind.table.name
    sql = f"SELECT {', '.join(source.columns)}, {source.moment} AS at FROM {table} WHERE {source.where}"
    return lake.stream(source.settings, sql, {table: until})


def _left_rows(source: Rows, until: int) -> Iterator[pa.RecordBatch]:
    """A deletion for every image (or product) that the data set ever had and that has no vector now."""
    key, table = source.kind.key, source.kind.table.name
    sql = (
        f"SELECT DISTINCT l.{key} FROM {LABELS.name} l LEFT ANTI JOIN "
        f"(SELECT {key} FROM {table} WHERE {source.where}) e ON l.{key} = e.{key} "
        f"WHERE l.dataset = {lake.quote(source.dataset)}"
    )
    for batch in lake.stream(source.settings, sql, {table: until}):
        yield _deletions(source, batch.column(key), pa.array([lake.now()] * len(batch), _MOMENT))


def _since(source: Rows, since: int, until: int) -> Iterator[pa.RecordBatch] | None:
    """Each row as it was changed last; None where the feed cannot be read."""
    try:
        last = source.feed.last_changes(since, until)
    except UNREADABLE as error:
        table = source.kind.table.name
        why = one_line(error)
        print(f"the change feed of {table} since {since} cannot be read ({why}): filling afresh", file=sys.stderr)
        return None
    return _changed_rows(source, since, until, last)


def _changed_rows(source: Rows, since: int, until: int, last: LastChanges) -> Iterator[pa.RecordBatch]:
    for batch in source.feed.last_rows(source.columns, since, until, last):
        batch = batch.append_column("at", batch.column("_commit_timestamp").cast(_MOMENT))
        gone = pc.equal(batch.column("_change_type"), "delete")
        there, left = batch.filter(pc.invert(gone)), batch.filter(gone)
        yield there.select([*source.columns, "at"])
        yield _deletions(source, left.column(source.kind.key), left.column("at"))


def _deletions(source: Rows, keys: pa.Array, moments: pa.Array) -> pa.RecordBatch:
    """Nulls but for ``kind.remains``: a batch of rows without any value is not stored."""
    schema = source.kind.table.schema
    nulls = {name: pa.nulls(len(keys), schema.field(name).type) for name in source.kind.columns}
    nulls[source.kind.columns[-1]] = pa.array([source.version] * len(keys), pa.string())
    return pa.RecordBatch.from_pydict({source.kind.key: keys, **nulls, "at": moments})


def cursor_id(dataset: str) -> str:
    """The key of the row that notes which version of the lake a view holds of ``dataset``."""
    return f"__lake__/{dataset}"  # no data set's name starts with an underscore


def _read_cursor(store: FeatureStore, source: Rows) -> tuple[str, int] | None:
    """The table's identity and the version of it that the store holds."""
    view, keys = store.get_feature_view(source.view), entity_keys(source.kind, [cursor_id(source.dataset)])
    remains = source.kind.remains
    ((_, row),) = store._get_provider().online_read(store.config, view, keys, [remains])
    text = row[remains].string_val if row else ""
    noted = json.loads(text) if text else None
    return (noted["table"], noted["version"]) if noted else None


def _write_cursor(store: FeatureStore, source: Rows, table: str, version: int) -> None:
    noted = json.dumps({"table": table, "version": version})
    values = {name: Value() for name in source.kind.features} | {source.kind.remains: Value(string_val=noted)}
    (key,) = entity_keys(source.kind, [cursor_id(source.dataset)])
    write(store, store.get_feature_view(source.view), [(key, values, lake.now(), lake.now())])
