"""A collection follows the lake: brought to the Delta version of ``embeddings``, cut anywhere or not.

Writing comes first, then a flush, then the note of the version: a run that is killed anywhere leaves an older note or
none, and the next run does the same work again, by key. Then the rows are counted, in Milvus and in the lake.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import Progress

from evaluation.milvus.collection import PART, Collection, row_key
from vitrine import lake
from vitrine.change_feed import UNREADABLE, ChangeFeed
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS

PROGRESS_FROM = 5_000


@dataclass(frozen=True)
class SyncResult:
    """What a sync did."""

    upserted: int
    deleted: int
    from_version: int | None
    """The Delta version that Milvus held before; None where it was filled from scratch."""
    to_version: int
    rows: int
    """In Milvus now, and in the lake at ``to_version``."""


@dataclass(frozen=True)
class Source:
    """The vectors of an encoded set, in the lake."""

    settings: Settings
    encoded: EncodedSet

    @property
    def feed(self) -> ChangeFeed:
        return ChangeFeed(self.settings, EMBEDDINGS, self.encoded.where, "image_id")

    def rows(self, columns: str, at: int, tail: str = "") -> Iterator[pa.RecordBatch]:
        """``columns`` of its rows as of Delta version ``at``; ``tail`` ends the statement."""
        sql = f"SELECT {columns} FROM {EMBEDDINGS.name} WHERE {self.encoded.where} {tail}"
        return lake.stream(self.settings, sql, {EMBEDDINGS.name: at})

    def count(self, at: int) -> int:
        return sum(int(batch.column("n")[0].as_py()) for batch in self.rows("count(*) AS n", at))


def sync(source: Source, collection: Collection) -> SyncResult:
    """Bring ``collection`` to the table's present version; writes nothing where it is there.

    Applies the change feed since the version that it notes; fills from scratch where it notes none, notes another
    table, the feed is gone, or the rows do not come out as many as the lake's.

    Raises:
        UserError: there is no collection, and the lake has no vector of this version and data set.
        VitrineError: filled from scratch, it still holds another number of rows than the lake.
    """
    to_version = lake.version(source.settings, EMBEDDINGS)
    identity = lake.identity(source.settings, EMBEDDINGS)
    wanted = source.count(to_version)
    held = collection.held(identity)
    if held is not None and (counts := _caught_up(source, collection, held, to_version)) is not None:
        rows = _settled(collection, written=any(counts))
        if rows == wanted:
            if held != to_version:
                collection.note(identity, to_version)
            return SyncResult(*counts, held, to_version, rows)
        _say(f"Milvus held {rows} rows of {collection.name}, the lake {wanted}: filling afresh")
    counts = _fill(source, collection, identity, to_version, wanted)
    rows = _settled(collection, written=True)
    if rows != wanted:
        raise VitrineError(f"Milvus holds {rows} rows of {collection.name} after a fill, the lake {wanted}")
    collection.note(identity, to_version)
    return SyncResult(*counts, None, to_version, rows)


def behind(source: Source, collection: Collection) -> int | None:
    """How many images changed in the lake since the version that ``collection`` holds; None where it holds none, or
    the change feed does not reach back to it."""
    held = collection.held(lake.identity(source.settings, EMBEDDINGS))
    if held is None:
        return None
    try:
        return len(source.feed.last_changes(held, lake.version(source.settings, EMBEDDINGS)))
    except UNREADABLE:
        return None


def _caught_up(source: Source, collection: Collection, held: int, to_version: int) -> tuple[int, int] | None:
    """How many rows were written and deleted; None where the feed does not lead from ``held`` to ``to_version``."""
    if held >= to_version:
        return (0, 0) if held == to_version else None
    try:
        return _apply_changes(source.feed, collection, held, to_version)
    except UNREADABLE as error:
        _say(f"the change feed of {EMBEDDINGS.name} since {held} cannot be read ({error}): filling afresh")
        return None


def _settled(collection: Collection, written: bool) -> int:
    """How many rows it holds, once all is flushed and indexed."""
    if written:
        collection.settle()
    else:
        collection.load()
    return collection.count()


def _apply_changes(feed: ChangeFeed, collection: Collection, since: int, until: int) -> tuple[int, int]:
    """How many rows were written and deleted: each image's last change alone is applied."""
    last = feed.last_changes(since, until)
    upserted = 0
    for batch in feed.last_rows(collection.columns, since, until, last) if last else ():
        upserted += collection.upsert(batch.filter(pc.not_equal(batch.column("_change_type"), "delete")))
    deleted = collection.delete([row_key(image_id) for image_id, (_, written) in last.items() if not written])
    return upserted, deleted


def _fill(source: Source, collection: Collection, identity: str, version: int, total: int) -> tuple[int, int]:
    """Write all rows as of ``version``, then delete what an earlier, killed or foreign fill left behind."""
    there = collection.exists()
    if not there and not total:
        raise UserError(
            f"data set {source.encoded.dataset!r} has no vector of encoder version {source.encoded.encoder_version}: "
            "run `vitrine embed` first"
        )
    leftovers = False
    if there:
        collection.load()
        leftovers = collection.count() > 0
    else:
        first = next(iter(source.rows("embedding", version, "LIMIT 1")))
        collection.create(len(first.column("embedding")[0]), identity)
    upserted = 0
    with Progress(console=Console(stderr=True), disable=total < PROGRESS_FROM) as progress:
        bar = progress.add_task(f"Milvus {collection.name}", total=total)
        for batch in source.rows(", ".join(collection.columns), version):
            upserted += collection.upsert(batch)
            progress.update(bar, completed=upserted)
    return upserted, _delete_strangers(source, collection, version) if leftovers else 0


def _delete_strangers(source: Source, collection: Collection, version: int) -> int:
    """Delete the rows that the lake has not; how many."""
    deleted = 0
    for low, high in lake.key_ranges(collection.count(), PART):
        known: set[str] = set()
        for batch in source.rows("image_id", version, f"AND {lake.hashed_between('image_id', low, high)}"):
            known.update(row_key(image_id) for image_id in batch.column("image_id").to_pylist())
        for rows in collection.pages("key", low, high):
            deleted += collection.delete([row["key"] for row in rows if row["key"] not in known])
    return deleted


def _say(text: str) -> None:
    print(text, file=sys.stderr)
