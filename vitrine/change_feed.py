"""What changed in a table since a version of it, by key: Delta's change feed, read the way those who follow need it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError

from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import Table

UNREADABLE = (DeltaError, OSError, pa.ArrowException)
"""What reading raises where the feed does not reach back so far: vacuumed, or never written."""
_MARKS = ("_change_type", "_commit_version")
_WRITTEN = ("insert", "update_postimage")

LastChanges = dict[str, tuple[int, bool]]
"""Of each changed key the commit that changed it last, and whether that wrote the row or removed it."""


@dataclass(frozen=True)
class ChangeFeed:
    """The changes of the rows of ``table`` that are as ``where`` says, by the column ``key``."""

    settings: Settings
    table: Table
    where: str
    key: str

    def last_changes(self, since: int, until: int) -> LastChanges:
        """What happened last to each key after version ``since``, up to ``until``.

        In one commit a row may be both removed and written (an overwrite): then it is written.

        Raises:
            UNREADABLE: the feed does not reach back to ``since``.
        """
        last: LastChanges = {}
        for batch in self._batches([self.key], since, until):
            for key, written, commit in self._marks(batch):
                last[key] = max(last.get(key, (-1, False)), (commit, written))
        return last

    def last_rows(self, columns: list[str], since: int, until: int, last: LastChanges) -> Iterator[pa.RecordBatch]:
        """The rows that ``last`` tells of, once each, with ``lake.FEED_COLUMNS``; those removed as they were.

        A second pass over the feed, so that memory holds keys and no vectors.
        """
        for batch in self._batches(columns, since, until):
            is_last = [last[key] == (commit, written) for key, written, commit in self._marks(batch)]
            yield batch.filter(pa.array(is_last, pa.bool_()))

    def _batches(self, columns: list[str], since: int, until: int) -> Iterator[pa.RecordBatch]:
        for batch in lake.changes(self.settings, self.table, since, until, self.where, columns):
            yield batch.filter(pc.not_equal(batch.column("_change_type"), "update_preimage"))

    def _marks(self, batch: pa.RecordBatch) -> Iterator[tuple[str, bool, int]]:
        """Key, whether the row was written, and the commit, of each row."""
        keys, kinds, commits = (batch.column(name).to_pylist() for name in (self.key, *_MARKS))
        return zip(keys, [kind in _WRITTEN for kind in kinds], commits, strict=True)
