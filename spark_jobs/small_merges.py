"""Merges of a few rows into a small table, committed by delta-rs: Spark plans seconds for a MERGE of whatever size.

What is written is what ``delta_tables.merge_table`` would write by Spark, and the change feed tells the same of each
key; there an updated row is one that was removed and written in one commit.
"""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import Table

_MOST_ROWS = 2000
_SMALL = 64 << 20
"""Bytes of a table whose touched files are written anew in less time than Spark plans."""
MARKS_ROWS = "delta.enableDeletionVectors"


def fits(settings: Settings, table: Table, rows: int | None) -> bool:
    """May a change of ``rows`` rows, None where nobody counted them, be committed to ``table`` without Spark?"""
    if rows is None or rows > _MOST_ROWS:
        return False
    size = lake.size(settings, table)
    return size.bytes < _SMALL and MARKS_ROWS not in size.properties


def commit(
    settings: Settings, table: Table, source: pa.Table, within: str, keep: Sequence[str] = (), known: Sequence[str] = ()
) -> None:
    """As ``delta_tables.merge_table``, of rows that are here: ``source`` has the table's columns and ``gone``.

    Raises:
        CommitFailedError: another writer came between.
    """
    since = lake.version(settings, table)
    there = _stored(settings, table, source, within, since)
    number = {key: at for at, key in enumerate(_keys(table, there))}
    found = pa.array([number.get(key) for key in _keys(table, source)], pa.int64())
    merged = _merged(table, source, there.take(found), pc.is_valid(found), keep, known)
    if number:
        lake.write(settings, table, merged, _condition(table, source, there, found), since)
    elif len(merged):
        lake.write(settings, table, merged)


def _stored(settings: Settings, table: Table, source: pa.Table, within: str, version: int) -> pa.Table:
    """The rows of ``table`` at ``version`` that ``source`` is about."""
    if not len(source):
        return table.schema.empty_table()
    names = ", ".join(table.schema.names)
    sql = f"SELECT {names} FROM {table.name} t WHERE {within} AND {_among(table, source[table.key[0]].to_pylist())}"
    return lake.query(settings, sql, {table.name: version})


def _among(table: Table, ids: list[str]) -> str:
    return f"{table.key[0]} IN ({', '.join(map(lake.quote, ids))})"


def _keys(table: Table, rows: pa.Table) -> list[tuple[str, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in table.key), strict=True))


def _merged(
    table: Table, source: pa.Table, before: pa.Table, matched: pa.Array, keep: Sequence[str], known: Sequence[str]
) -> pa.Table:
    """The rows that ``table`` has afterwards of those that ``source`` is about; ``before`` are the rows that it has of
    them, null where it has none."""
    stays = pc.invert(source["gone"])
    columns = {name: source[name].cast(table.schema.field(name).type) for name in table.schema.names}
    for name in keep:
        columns[name] = pc.if_else(matched, before[name], columns[name])
    for name in known:
        columns[name] = pc.if_else(pc.is_valid(columns[name]), columns[name], before[name])
        stays = pc.and_(stays, pc.is_valid(columns[name]))
    return pa.table(columns).filter(stays)


def _condition(table: Table, source: pa.Table, there: pa.Table, found: pa.Array) -> str:
    """The condition that a row of ``table`` is one that ``source`` is about, by partition: a row that leaves need not
    say in which partition it is."""
    names = dict.fromkeys((*table.partition_by, *table.key[1:]))
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    mine, theirs = ({name: rows[name].to_pylist() for name in (table.key[0], *names)} for rows in (source, there))
    for row, at in enumerate(found.to_pylist()):
        if at is not None or not source["gone"][row].as_py():
            values = {name: mine[name][row] if at is None else theirs[name][at] for name in (table.key[0], *names)}
            groups[tuple(values[name] for name in names)].append(values[table.key[0]])
    conditions = (
        " AND ".join(
            [*(lake.matches(**{name: value}) for name, value in zip(names, group, strict=True)), _among(table, ids)]
        )
        for group, ids in groups.items()
    )
    return " OR ".join(f"({condition})" for condition in conditions)
