"""Milvus follows the lake: one collection an encoder version and data set, brought to the lake's Delta version.

Milvus Lite (one folder under the home, one process at a time) unless the settings name a server. A collection notes,
in its own properties, which Delta table and version it holds. Writing comes first, then a flush, then the note: a run
that is killed anywhere leaves an older note or none, and the next run does the same work again, by key.
"""

import hashlib
import logging
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException
from rich.console import Console
from rich.progress import Progress

from vitrine import lake
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings, check_name
from vitrine.tables import EMBEDDINGS

IDENTITY, VERSION = "vitrine.table", "vitrine.version"
COLUMNS = ("image_id", "product_id", "category", "split", "embedding")
MARKS = ("image_id", "_change_type", "_commit_version")
UPSERTS, DELETE = ("insert", "update_postimage"), "delete"
PROGRESS_FROM = 5_000
CONNECT_SECONDS = 20
_VERSION_RULE = re.compile(r"[0-9a-f]{16}")
_MAX_TEXT = 65_535  # bytes, Milvus's longest VARCHAR


@dataclass(frozen=True)
class SyncResult:
    """What ``VectorIndex.sync`` did."""

    upserted: int
    deleted: int
    from_version: int | None
    """The Delta version that Milvus held before; None where it was filled from scratch."""
    to_version: int


def row_key(image_id: str) -> str:
    """The primary key of an image: pymilvus writes keys into filter expressions without escaping them, so
    a quote or a line break in an id would break (or change) a deletion; hex digits cannot."""
    return hashlib.sha256(image_id.encode()).hexdigest()


def collection_name(dataset: str, encoder_version: str) -> str:
    """The collection of one encoder version and data set.

    Raises:
        UserError: ``dataset`` is no name, or ``encoder_version`` not 16 hex digits.
    """
    check_name(dataset, "data set name")
    if not _VERSION_RULE.fullmatch(encoder_version):
        raise UserError(f"bad encoder version {encoder_version!r}: it must be 16 hex digits")
    return f"{dataset}__{encoder_version}"


def alias_name(dataset: str) -> str:
    return f"{check_name(dataset, 'data set name')}_serving"


class VectorIndex:
    """Milvus as ``settings`` say, open between ``with VectorIndex(settings) as index:`` and the end of the block.

    Every method raises VitrineError (at the end of the block) where Milvus fails.
    """

    def __init__(self, settings: Settings, wait_seconds: float = 60.0) -> None:
        """``wait_seconds``: how long to wait for another process to let go of Milvus Lite."""
        self._settings = settings
        self._wait_seconds = wait_seconds
        uri = settings.milvus.uri or str(settings.home / "milvus.db")
        self._uri = uri if "://" in uri else str(settings.root / uri)
        self._stack = ExitStack()
        self._client: MilvusClient = None

    def __enter__(self) -> Self:
        # pymilvus logs each refusal with its traceback and then raises it: the exception says it all.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        milvus = self._settings.milvus
        try:
            if "://" not in self._uri:
                self._lock_lite(Path(self._uri))
            token = milvus.token.get_secret_value() if milvus.token else ""
            self._client = MilvusClient(self._uri, token=token, db_name=milvus.database, timeout=CONNECT_SECONDS)
        except MilvusException as error:
            self._stack.close()
            raise VitrineError(f"cannot open Milvus at {self._uri}: {error}") from error
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(self._client.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if isinstance(error, MilvusException):
            raise VitrineError(f"Milvus at {self._uri}: {error}") from error

    def _lock_lite(self, path: Path) -> None:
        """Lite refuses a second process at once, and lives until its process ends: wait before, end it after."""
        from milvus_lite.server_manager import server_manager_instance

        path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + self._wait_seconds
        ours = FileLock(f"{path}.lock")
        self._acquire(ours, until)
        self._stack.callback(ours.release)
        if path.is_dir():  # held by a program that is not ours?
            theirs = FileLock(path / "LOCK")
            self._acquire(theirs, until)
            theirs.release()
        self._stack.callback(server_manager_instance.release_server, str(path))

    def _acquire(self, lock: FileLock, until: float) -> None:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process to let go of {self._uri}", file=sys.stderr)
            try:
                lock.acquire(timeout=max(0.0, until - time.monotonic()), poll_interval=0.2)
            except Timeout:
                raise VitrineError(
                    f"Milvus Lite at {self._uri} was in use by another process for {self._wait_seconds:g} s: "
                    "wait for that to end, or set milvus.uri to a server"
                ) from None

    # Following the lake

    def sync(self, dataset: str, encoder_version: str) -> SyncResult:
        """Bring the collection to the ``embeddings`` table's present version; writes nothing where it is there.

        Applies the change feed since the version that the collection notes; fills from scratch where it notes none,
        notes another table, or the feed is gone.

        Raises:
            UserError: there is no collection and the lake has no vector of this version and data set.
        """
        name = collection_name(dataset, encoder_version)
        to_version = lake.version(self._settings, EMBEDDINGS)
        identity = lake.identity(self._settings, EMBEDDINGS)
        held = self._held(name, identity)
        if held == to_version:
            return SyncResult(0, 0, held, to_version)
        counts = None
        if held is not None and held < to_version:
            try:
                counts = self._apply_changes(dataset, encoder_version, held, to_version)
            except (DeltaError, OSError, pa.ArrowException) as error:  # vacuumed, or never written
                print(
                    f"the change feed of {EMBEDDINGS.name} since {held} cannot be read ({error}): filling afresh",
                    file=sys.stderr,
                )
        if counts is None:
            held, counts = None, self._fill(dataset, encoder_version, to_version)
        if any(counts):
            self._client.flush(name)
        self._client.alter_collection_properties(name, {IDENTITY: identity, VERSION: str(to_version)})
        return SyncResult(*counts, held, to_version)

    def _held(self, name: str, identity: str) -> int | None:
        if not self._client.has_collection(name):
            return None
        noted = self._client.describe_collection(name).get("properties", {})
        return int(noted[VERSION]) if noted.get(IDENTITY) == identity and VERSION in noted else None

    def _apply_changes(self, dataset: str, encoder_version: str, since: int, until: int) -> tuple[int, int]:
        """The last change of each image wins. Two passes over the feed, so that memory holds ids and no vectors."""
        name = collection_name(dataset, encoder_version)
        where = f"encoder_version = {lake.quote(encoder_version)} AND dataset = {lake.quote(dataset)}"

        def feed(columns: list[str]) -> Iterator[pa.RecordBatch]:
            return lake.changes(self._settings, EMBEDDINGS, since, until, where, columns)

        def marks(batch: pa.RecordBatch) -> Iterator[tuple[str, str, int]]:
            return zip(*(batch.column(c).to_pylist() for c in MARKS), strict=True)

        # In one commit a row may be both removed and written (an overwrite): then it is written.
        last: dict[str, tuple[int, bool]] = {}
        for batch in feed(["image_id"]):
            for image_id, kind, commit in marks(batch):
                if kind in (*UPSERTS, DELETE):
                    last[image_id] = max(last.get(image_id, (-1, False)), (commit, kind in UPSERTS))
        if not last:
            return 0, 0
        self._ready(name)
        upserted = 0
        for batch in feed(list(COLUMNS)):
            keep = [kind in UPSERTS and last[image_id] == (commit, True) for image_id, kind, commit in marks(batch)]
            upserted += self._upsert(name, batch.filter(pa.array(keep, pa.bool_())))
        deleted = self._delete(name, [row_key(image_id) for image_id, (_, there) in last.items() if not there])
        return upserted, deleted

    def _fill(self, dataset: str, encoder_version: str, version: int) -> tuple[int, int]:
        """Write all rows as of ``version``, then delete what an earlier, killed or foreign fill left behind."""
        name = collection_name(dataset, encoder_version)
        where = f"encoder_version = {lake.quote(encoder_version)} AND dataset = {lake.quote(dataset)}"
        at = {EMBEDDINGS.name: version}
        source = f"FROM {EMBEDDINGS.name} WHERE {where}"
        total = int(lake.query(self._settings, f"SELECT count(*) AS n {source}", at).column("n")[0].as_py())
        first = lake.query(self._settings, f"SELECT embedding {source} LIMIT 1", at)
        if not self._client.has_collection(name) and not total:
            raise UserError(
                f"data set {dataset!r} has no vector of encoder version {encoder_version}: run `vitrine embed` first"
            )
        if total and not self._client.has_collection(name):
            self._create(name, len(first.column("embedding")[0]))
        self._ready(name)
        leftovers = self._count(name) > 0
        upserted = 0
        with Progress(console=Console(stderr=True), disable=total < PROGRESS_FROM) as progress:
            task = progress.add_task(f"Milvus {name}", total=total)
            for batch in lake.stream(self._settings, f"SELECT {', '.join(COLUMNS)} {source}", at):
                upserted += self._upsert(name, batch)
                progress.update(task, completed=upserted)
        return upserted, self._delete_strangers(name, source, at) if leftovers else 0

    def _create(self, name: str, dim: int) -> None:
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
        for text in ("image_id", "product_id", "category", "split"):
            schema.add_field(text, DataType.VARCHAR, max_length=_MAX_TEXT)
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dim)
        self._clear_half_made(name)
        self._client.create_collection(name, schema=schema, consistency_level="Strong")

    def _clear_half_made(self, name: str) -> None:
        """Lite makes a collection's folder and then its schema: a run killed in between left a folder that is no
        collection, and yet keeps one of that name from being made."""
        if "://" in self._uri:
            return
        database = self._settings.milvus.database
        root = Path(self._uri) if database == "default" else Path(self._uri) / "databases" / database
        folder = root / "collections" / name
        if folder.is_dir() and not (folder / "schema.json").exists():
            shutil.rmtree(folder)

    def _upsert(self, name: str, batch: pa.RecordBatch) -> int:
        if not batch.num_rows:
            return 0
        vectors = as_matrix(batch.column("embedding"))
        texts = {c: pc.fill_null(batch.column(c), "").to_pylist() for c in COLUMNS[:-1]}
        step = max(100, min(2_000, 8_000_000 // vectors[0].nbytes))  # servers take messages of up to 64 MB
        for start in range(0, len(vectors), step):
            rows: list[dict[str, Any]] = [
                {"key": row_key(texts["image_id"][i]), "embedding": vectors[i]}
                | {column: values[i] for column, values in texts.items()}
                for i in range(start, min(start + step, len(vectors)))
            ]
            self._client.upsert(name, rows)
        return len(vectors)

    def _delete(self, name: str, keys: list[str], step: int = 1_000) -> int:
        for start in range(0, len(keys), step):
            self._client.delete(name, ids=keys[start : start + step])
        return len(keys)

    def _delete_strangers(self, name: str, source: str, at: dict[str, int]) -> int:
        known: set[str] = set()
        for batch in lake.stream(self._settings, f"SELECT image_id {source}", at):
            known.update(row_key(image_id) for image_id in batch.column("image_id").to_pylist())
        deleted = 0
        for rows in self._pages(name, "key"):
            deleted += self._delete(name, [row["key"] for row in rows if row["key"] not in known])
        return deleted

    # Reading

    def count(self, dataset: str, encoder_version: str) -> int:
        """Rows of the collection; 0 where there is none."""
        name = collection_name(dataset, encoder_version)
        if not self._client.has_collection(name):
            return 0
        self._ready(name)
        return self._count(name)

    def ids(self, dataset: str, encoder_version: str) -> Iterator[str]:
        """The image ids of the collection, in no order that means anything; none where there is no collection."""
        name = collection_name(dataset, encoder_version)
        if self._client.has_collection(name):
            self._ready(name)
            for rows in self._pages(name, "image_id"):
                yield from (row["image_id"] for row in rows)

    def search(
        self,
        dataset: str,
        encoder_version: str,
        vectors: NDArray[np.float32],
        limit: int,
        split: str | None = None,
    ) -> tuple[list[list[str]], list[list[float]]]:
        """The ``limit`` nearest images of each query, of ``split`` alone where it is given.

        Args:
            vectors: float32, (Q, D), unit length.

        Returns:
            Image ids and their cosine similarities, Q lists each, nearest first, equal ones by id; shorter than
            ``limit`` where the collection holds less.

        Raises:
            VitrineError: the collection is not there.
        """
        name = collection_name(dataset, encoder_version)
        if not self._client.has_collection(name):
            raise VitrineError(f"Milvus has no collection {name!r}: run `vitrine index` first")
        self._ready(name)
        rows = max(1, self._count(name))
        # Lite makes a (queries x rows) array, and an answer may have 256 MB.
        block = int(max(1, min(500, 20_000_000 // rows, 100_000 // limit)))
        flter = f'split == "{check_name(split, "split")}"' if split else ""
        ids: list[list[str]] = []
        similarities: list[list[float]] = []
        for start in range(0, len(vectors), block):
            found = self._client.search(
                name,
                data=vectors[start : start + block],
                limit=limit,
                filter=flter,
                search_params={"metric_type": "IP"},
                output_fields=["image_id"],  # none at all would send every hit's vector
            )
            for hits in found:
                # dict's own look-up: a Hit's is ten times as slow, and there are a hundred hits a query.
                names = [dict.__getitem__(hit, "entity")["image_id"] for hit in hits]
                ranked = sorted(zip((-value for value in hits.distances), names, strict=True))
                ids.append([image_id for _, image_id in ranked])
                similarities.append([-negated for negated, _ in ranked])
        return ids, similarities

    def _ready(self, name: str) -> None:
        """Load the collection, after making its index where a run was killed before that."""
        if not self._client.list_indexes(name):
            # Inner product ranks unit vectors as L2 does, and Lite's L2 builds an array of queries x rows x dim.
            params = self._client.prepare_index_params()
            params.add_index("embedding", index_type="FLAT", metric_type="IP")
            self._client.create_index(name, params)
        self._client.load_collection(name)

    def _count(self, name: str) -> int:
        return int(self._client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def _pages(self, name: str, column: str) -> Iterator[list[dict[str, Any]]]:
        """All rows, some thousands at a time: keys are hashes, so equal ranges of them hold about equally many."""
        parts = self._count(name) // 4_000 + 1
        bounds = [f"{part * 16**8 // parts:08x}" for part in range(parts)] + ["g"]
        for low, high in pairwise(bounds):
            within = f'key >= "{low}" and key < "{high}"'
            yield self._client.query(name, filter=within, output_fields=[column], limit=16_384)

    # What serves

    def alias_target(self, dataset: str) -> str | None:
        """The encoder version that ``<dataset>_serving`` names; None where there is no such alias."""
        alias = alias_name(dataset)
        if alias not in self._client.list_aliases().get("aliases", []):
            return None
        return str(self._client.describe_alias(alias)["collection_name"]).removeprefix(f"{dataset}__")

    def point_alias(self, dataset: str, encoder_version: str) -> bool:
        """Let ``<dataset>_serving`` name the collection of ``encoder_version``; True where that is news.

        Raises:
            VitrineError: the collection is not there.
        """
        name, alias = collection_name(dataset, encoder_version), alias_name(dataset)
        if not self._client.has_collection(name):
            raise VitrineError(f"Milvus has no collection {name!r} for the alias {alias!r}: fill it first")
        target = self.alias_target(dataset)
        if target == encoder_version:
            return False
        if target is None:
            self._client.create_alias(name, alias)
        else:
            self._client.alter_alias(name, alias)
        return True

    def reconcile(self, dataset: str) -> str | None:
        """Let the alias follow ``promotions``: the version that serves, filled first where it is not there."""
        serving = lake.serving(self._settings, dataset)
        if serving is None:
            if self.alias_target(dataset) is not None:
                self._client.drop_alias(alias_name(dataset))
            return None
        encoder_version = str(serving["encoder_version"])
        if not self._client.has_collection(collection_name(dataset, encoder_version)):
            self.sync(dataset, encoder_version)
        self.point_alias(dataset, encoder_version)
        return encoder_version

    def drop(self, dataset: str, encoder_version: str) -> None:
        """Remove the collection, where it is there.

        Raises:
            VitrineError: the alias names it: it serves.
        """
        name = collection_name(dataset, encoder_version)
        if self.alias_target(dataset) == encoder_version:
            raise VitrineError(f"collection {name!r} serves: promote another version before dropping it")
        self._client.drop_collection(name)


def as_matrix(column: pa.Array) -> NDArray[np.float32]:
    """A column of N float lists of one length D as float32, (N, D).

    Raises:
        VitrineError: a row is null or has another length.
    """
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(column) and (len(lengths) != 1 or not lengths[0]):
        raise VitrineError(f"vectors of one encoder version have {len(lengths)} lengths: {sorted(map(str, lengths))}")
    values: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return values.reshape(len(column), -1)
