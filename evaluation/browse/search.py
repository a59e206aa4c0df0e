"""The nearest photos by an encoder's stored vectors: exact, by NumPy, in memory.

Not Milvus: Lite lets one process in, so that a page that stays open would keep the nightly jobs out, and the
collection of a candidate may not be there. 20,000 vectors of 512 dimensions take 40 MB and a search of them
milliseconds; what is searched is the lake's newest version, which is the truth that Milvus follows.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.browse.catalog import Catalog, Ints, Mask
from evaluation.browse.table_cache import TableVersions
from vitrine import lake
from vitrine.lake import matches
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import Floats, matrix


@dataclass(frozen=True)
class Vectors:
    """M vectors of unit length of one encoder version and data set."""

    ids: NDArray[np.object_]
    """(M,): image ids, sorted."""
    matrix: Floats
    """(M, D)."""

    def of(self, image_id: str) -> Floats | None:
        """(D,): the vector of one photo; None where there is none."""
        at = int(np.searchsorted(self.ids, image_id)) if len(self.ids) else 0
        return self.matrix[at] if at < len(self.ids) and self.ids[at] == image_id else None


def read_vectors(settings: Settings, at: TableVersions, dataset: str, encoder_version: str) -> Vectors:
    """All vectors of ``encoder_version`` in ``dataset`` as of ``at``."""
    where = matches(dataset=dataset, encoder_version=encoder_version)
    ids: list[str] = []
    parts: list[Floats] = []
    for batch in lake.stream(settings, f"SELECT image_id, embedding FROM {EMBEDDINGS.name} WHERE {where}", at):
        ids += batch.column("image_id").to_pylist()
        parts.append(matrix(batch.column("embedding")))
    named = np.array(ids, dtype=object)
    order = np.argsort(named)
    return Vectors(named[order], np.concatenate(parts)[order] if parts else np.empty((0, 0), np.float32))


@dataclass(frozen=True)
class Near:
    """The nearest photos of a query, nearest first, equal ones by id."""

    positions: Ints
    """In the catalog."""
    similarities: Floats
    """Cosines."""
    seconds: float
    searched: int
    """Photos that were compared."""


def nearest(catalog: Catalog, vectors: Vectors, query: Floats, within: Mask, most: int, without: str = "") -> Near:
    """The ``most`` photos of ``within`` (N,) nearest to ``query`` (D,), without the photo ``without``.

    A vector whose photo has left the catalog is passed over.
    """
    started = time.perf_counter()
    positions = np.array([catalog.positions.get(image_id, -1) for image_id in vectors.ids], dtype=np.int64)
    itself = catalog.positions.get(without, -2)
    rows = np.flatnonzero((positions >= 0) & within[positions] & (positions != itself))
    cosines = (vectors.matrix @ query)[rows]
    if len(rows) > most:
        least = np.partition(cosines, len(rows) - most)[len(rows) - most]
        best = np.flatnonzero(cosines >= least)  # with all that are as near as the last: their ids decide
    else:
        best = np.arange(len(rows))
    best = best[np.argsort(-cosines[best], kind="stable")][:most]
    return Near(positions[rows[best]], cosines[best], time.perf_counter() - started, len(rows))
