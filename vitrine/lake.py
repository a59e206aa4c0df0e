"""The Delta tables without a JVM (delta-rs): for everything small, and for the followers' change feed."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, write_deltalake

from vitrine import locks, s3
from vitrine.errors import VitrineError, one_line
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, TABLES, Table

_LARGE = 128 << 20
"""Bytes: at 100,000 rows x 512 a MERGE of 1 % took 8.7 s against 17.0, a search for neighbours 4.0 against 7.4."""
_SMALL = (8 << 20, 20_000)
"""Bytes and rows: Spark asks a table's log for files, by a job, each time that it plans to read it."""
FEED_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")
_ARROWS_NAMES = {pa.string(): "Utf8", pa.float64(): "Float64", pa.int64(): "Int64", pa.int32(): "Int32"}
"""Types of columns that tables may get after they were first made, as DataFusion calls them; maps are the other one."""


def now() -> datetime:
    """The current time, UTC, to the microsecond."""
    return datetime.now(UTC)


def create_tables(settings: Settings, tables: Iterable[Table] = tuple(TABLES.values())) -> None:
    """Make those of ``tables`` that are not there yet; existing ones are left as they are.

    Raises:
        VitrineError: the lake's store cannot be reached, or refuses.
    """
    if not settings.lake_uri:
        settings.lake.mkdir(parents=True, exist_ok=True)
    options = _options(settings)
    try:
        if not (missing := _missing(settings, tables)):
            return
        with locks.held(settings, "tables"):
            for table in _missing(settings, missing):
                DeltaTable.create(
                    table.uri(settings),
                    table.schema,
                    mode="ignore",
                    partition_by=list(table.partition_by),
                    name=table.name,
                    description=table.about,
                    configuration=dict(table.properties),
                    storage_options=options,
                )
    except OSError as error:
        if not settings.lake_uri:
            raise
        raise VitrineError(f"cannot open the lake at {settings.lake_uri}: {one_line(error)}") from error


def _options(settings: Settings) -> dict[str, str] | None:
    return s3.delta_options() if settings.lake_uri else None


def delta(settings: Settings, table: Table, version: int | None = None) -> DeltaTable:
    """``table`` as it is, or was at ``version``; made where there is none yet."""
    create_tables(settings, [table])
    return DeltaTable(table.uri(settings), version=version, storage_options=_options(settings))


def _missing(settings: Settings, tables: Iterable[Table]) -> list[Table]:
    """A killed run may have left a log's folder with no version in it: that is no table."""
    options = _options(settings)
    return [table for table in tables if not DeltaTable.is_deltatable(table.uri(settings), storage_options=options)]


def version(settings: Settings, table: Table) -> int:
    """The Delta version that ``table`` is at."""
    return delta(settings, table).version()


def lacking(settings: Settings, table: Table) -> pa.Schema:
    """The columns of ``table`` that it has not, since an earlier version made it: who reads sees them without values,
    who writes adds them."""
    return _lacking(delta(settings, table), table)


def _lacking(found: DeltaTable, table: Table) -> pa.Schema:
    known = {field.name for field in found.schema().fields}
    return pa.schema([field for field in table.schema if field.name not in known])


def identity(settings: Settings, table: Table) -> str:
    """The id that Delta gave ``table`` when it was made: another one means another table."""
    return str(delta(settings, table).metadata().id)


class Size(NamedTuple):
    """What a table has now, by its log."""

    bytes: int
    """Of its data files."""
    rows: int | None
    """None where the log does not say."""
    properties: dict[str, str]

    @property
    def is_small(self) -> bool:
        """Does handing the rows to Spark take less time than its plan of reading them?"""
        return self.rows is not None and self.bytes < _SMALL[0] and self.rows < _SMALL[1]


def size(settings: Settings, table: Table) -> Size:
    """How large ``table`` is, and its Delta properties."""
    found = delta(settings, table)
    added = found.get_add_actions()  # by column: pyarrow would import pandas to look at the table
    sizes, rows = (added.column(name).to_pylist() for name in ("size_bytes", "num_records"))
    return Size(sum(sizes), None if None in rows else sum(rows), dict(found.metadata().configuration))


def is_large(settings: Settings) -> bool:
    """Are the photos or vectors so many that compiling Spark's plans pays? It takes two seconds more to start."""
    return any(size(settings, table).bytes >= _LARGE for table in (EMBEDDINGS, CATALOG))


def quote(value: str) -> str:
    """``value`` as an SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def matches(table: str = "", /, **values: str | int) -> str:
    """The condition that each named column has its value; ``table`` is the rows' alias in the statement."""
    prefix = f"{table}." if table else ""
    literals = {name: quote(value) if isinstance(value, str) else str(value) for name, value in values.items()}
    return " AND ".join(f"{prefix}{name} = {literal}" for name, literal in literals.items())


def key_ranges(rows: int, most: int) -> list[tuple[str, str]]:
    """Ranges [low, high) of SHA-256, in hexadecimal, that together hold all of ``rows`` rows, about ``most`` or fewer
    each: equal ranges hold about equally many."""
    parts = rows // most + 1
    bounds = [""] + [f"{part * 16**8 // parts:08x}" for part in range(1, parts)] + ["g"]
    return list(pairwise(bounds))


def hashed_between(column: str, low: str, high: str) -> str:
    """The rows whose ``column`` has a SHA-256 in [low, high), hexadecimal: a part of the table of a known share."""
    return f"encode(sha256({column}), 'hex') >= {quote(low)} AND encode(sha256({column}), 'hex') < {quote(high)}"


def stream(settings: Settings, sql: str, versions: dict[str, int] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of ``sql`` (DataFusion's dialect), batch by batch; all tables are there by their names.

    ``versions`` reads a table as of an older Delta version.
    """
    for batch in _reader(settings, sql, versions):
        yield _plain(batch)


def _reader(settings: Settings, sql: str, versions: dict[str, int] | None) -> pa.RecordBatchReader:
    builder = QueryBuilder()
    for name in _tables_named_in(sql):
        found = delta(settings, TABLES[name], (versions or {}).get(name))
        if not (nulls := [_null(field) for field in _lacking(found, TABLES[name])]):
            builder.register(name, found)
            continue
        builder.register(f"stored_{name}", found)
        view = f"CREATE VIEW {name} AS SELECT *, {', '.join(nulls)} FROM stored_{name}"
        pa.RecordBatchReader.from_stream(builder.execute(view)).read_all()
    return pa.RecordBatchReader.from_stream(builder.execute(sql))


def _null(field: pa.Field) -> str:
    """A column without values, in DataFusion's SQL, whose casts know no maps."""
    if pa.types.is_map(field.type):
        return f"CASE WHEN false THEN map([''], ['']) END AS {field.name}"
    return f"arrow_cast(NULL, {quote(_ARROWS_NAMES[field.type])}) AS {field.name}"


def _tables_named_in(sql: str) -> set[str]:
    """The tables whose names are words of ``sql`` outside its string literals."""
    return TABLES.keys() & set(re.findall(r"\w+", re.sub(r"'(?:[^']|'')*'", "", sql)))


def digest(
    settings: Settings, columns: Iterable[str], found: str, versions: dict[str, int] | None = None
) -> tuple[bytes, int]:
    """Of ``columns``, texts without nulls, of the rows ``found``, what follows FROM: 16 bytes that are equal where the
    rows are, in whatever order, and how many there are. Rows that are alike cancel out in pairs. Memory holds a batch.
    """
    md5 = f"arrow_cast(digest(concat_ws('\x1f', {', '.join(columns)}), 'md5'), 'FixedSizeBinary(16)')"
    total, count = np.zeros(16, np.uint8), 0
    for batch in stream(settings, f"SELECT {md5} AS digest FROM {found}", versions):
        column = batch.column("digest")
        digests = np.frombuffer(column.buffers()[1], np.uint8)[16 * column.offset :][: 16 * len(column)]
        total ^= np.bitwise_xor.reduce(digests.reshape(-1, 16), axis=0)
        count += len(batch)
    return total.tobytes(), count


def columns(
    settings: Settings, sql: str, encoded: Collection[str] = (), versions: dict[str, int] | None = None
) -> dict[str, pa.ChunkedArray]:
    """The columns of ``sql``, however many rows there are; those of ``encoded``, texts, as dictionaries, whose indices
    are int32: memory holds each of their texts about once."""
    found = _reader(settings, sql, versions)
    numbered = pa.dictionary(pa.int32(), pa.string())
    kinds = {field.name: numbered if field.name in encoded else field.type for field in _plain_schema(found.schema)}
    chunks: dict[str, list[pa.Array]] = {name: [] for name in kinds}
    for batch in map(_plain, found):
        for name, made in chunks.items():
            column = batch.column(name)
            made.append(column.dictionary_encode() if name in encoded else column)
    whole = {name: pa.chunked_array(chunks.pop(name), kind) for name, kind in kinds.items()}
    return {name: each.unify_dictionaries() if name in encoded else each for name, each in whole.items()}


def query(settings: Settings, sql: str, versions: dict[str, int] | None = None) -> pa.Table:
    """All rows of ``sql``, for results that are small whatever the catalog's size."""
    found = _reader(settings, sql, versions)
    return pa.Table.from_batches(map(_plain, found), schema=_plain_schema(found.schema))


def rows(settings: Settings, sql: str) -> list[dict[str, Any]]:
    """As ``query``, as a list of dicts."""
    return query(settings, sql).to_pylist()


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """DataFusion's view types as the plain ones that every library takes."""
    return batch.cast(_plain_schema(batch.schema))


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if kind in (pa.string_view(), pa.large_string()):
        return pa.string()
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    return kind


@contextmanager
def committing(settings: Settings, table: Table, always: bool = False) -> Iterator[None]:
    """Around a commit to ``table``: on S3 one process of the home at a time, elsewhere only where that is asked for.

    delta-rs commits by a conditional put. Spark's log store for S3 (Delta 4.4) checks and then puts: of two commits of
    one version the second would replace the first.
    """
    if always or settings.lake_uri:
        with locks.held(settings, f"table__{table.name}"):
            yield
    else:
        yield


def append(settings: Settings, table: Table, new: Iterable[dict[str, Any]]) -> None:
    """Add rows in one commit."""
    write(settings, table, pa.Table.from_pylist(list(new), schema=table.schema))


def write(
    settings: Settings,
    table: Table,
    data: pa.Table | pa.RecordBatchReader,
    replacing: dict[str, str | int] | str | None = None,
    since: int | None = None,
) -> None:
    """Write ``data`` in one commit; ``replacing`` first removes the rows with these values, or of this condition, in
    the same commit: those who replace rows of one table do so one after the other. ``data`` is of such rows, and may
    follow from what was there at the version ``since``.

    A table that was made before its schema grew gains the columns that it lacks, null in its older rows.

    Raises:
        CommitFailedError: another writer changed such rows, or those beside them, since then.
    """
    predicate = matches(**replacing) if isinstance(replacing, dict) else replacing
    rows, retries = data.cast(table.schema), CommitProperties(max_commit_retries=20)
    how: dict[str, Any] = {"schema_mode": "merge", "commit_properties": retries}
    with committing(settings, table, always=bool(predicate)):
        if predicate:
            write_deltalake(delta(settings, table, since), rows, mode="overwrite", predicate=predicate, **how)
        else:
            write_deltalake(delta(settings, table, since), rows, mode="append", **how)


def changes(
    settings: Settings, table: Table, since: int, until: int, predicate: str, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """The change feed of ``table``, versions ``since + 1`` to ``until``, with ``FEED_COLUMNS`` added."""
    if until <= since:
        return
    found = delta(settings, table)
    absent = [field for field in _lacking(found, table) if field.name in columns]
    there = [name for name in columns if all(name != field.name for field in absent)]
    feed = found.load_cdf(
        starting_version=since + 1,
        ending_version=until,
        predicate=predicate,
        columns=[*there, *FEED_COLUMNS],
    )
    for batch in pa.RecordBatchReader.from_stream(feed):
        plain = _plain(batch)
        for field in absent:
            plain = plain.append_column(field, pa.nulls(len(plain), field.type))
        yield plain
