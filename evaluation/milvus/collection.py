"""One collection of Milvus: its name, its rows, its index, and what it notes of the lake."""

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient

from evaluation.milvus.connection import MilvusConnection
from vitrine import lake
from vitrine.errors import UserError, VitrineError
from vitrine.names import check_name
from vitrine.setting_sections import MilvusSettings
from vitrine.vectors import matrix

IDENTITY, VERSION = "vitrine.table", "vitrine.version"
TEXTS = ("image_id", "product_id", "category", "split")
ATTRIBUTES, FIELD = "attributes", "embedding"
COLUMNS = (*TEXTS, ATTRIBUTES, FIELD)
Labels = Sequence[tuple[str, str]]
"""Labels and their values: ``category``, ``product_id``, ``split`` or attributes."""
Hits = tuple[list[list[str]], list[list[float]]]
PAGE = 4_000  # rows read at once: a server answers with 16,384 at most
PART = 100_000  # ids held at once
_VERSION_RULE = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"(?P<dataset>.+)__(?P<version>[0-9a-f]{16})(?:__(?:hnsw|ivf)(?:_[a-z0-9]+)+)?")
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
"""Of a text in an expression."""
_MAX_TEXT = 65_535  # bytes, Milvus's longest VARCHAR


@dataclass(frozen=True)
class Index:
    """How a collection is searched; ``build`` and ``search`` are Milvus's own parameters."""

    kind: str = "FLAT"
    build: dict[str, int | str | bool] = field(default_factory=dict)
    search: dict[str, int | float] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        return self.kind == "FLAT"


EXACT = Index()
_BUILD = {
    **{"m": "M", "ef_construction": "efConstruction", "sq_type": "sq_type"},
    **{"nlist": "nlist", "parts": "m", "nbits": "nbits"},
}
_SEARCH = {"ef": "ef", "nprobe": "nprobe", "query_bits": "rbq_query_bits", "refine_k": "refine_k"}
"""Our settings' names, and Milvus's."""


def served_index(settings: MilvusSettings) -> Index:
    """The index that what serves is searched by."""
    if settings.index == "FLAT":
        return EXACT
    given = getattr(settings, settings.index.lower()).model_dump()
    build = {theirs: given[ours] for ours, theirs in _BUILD.items() if ours in given}
    search = {theirs: given[ours] for ours, theirs in _SEARCH.items() if ours in given}
    if given.get("refine"):
        build |= {"refine": True, "refine_type": given["refine"]}
    else:
        search.pop("refine_k", None)
    return Index(settings.index, build, search)


def collection_name(dataset: str, encoder_version: str, index: Index = EXACT) -> str:
    """The collection of one encoder version and data set, searched by ``index``: a collection has one, for good.

    Raises:
        UserError: ``dataset`` is no name, or ``encoder_version`` not 16 hex digits.
    """
    check_name(dataset, "data set name")
    if not _VERSION_RULE.fullmatch(encoder_version):
        raise UserError(f"bad encoder version {encoder_version!r}: it must be 16 hex digits")
    words = (str(value).lower() for value in index.build.values() if value is not True)
    built = "" if index.exact else f"__{index.kind.lower()}_{'_'.join(words)}"
    return f"{dataset}__{encoder_version}{built}"


def parse_name(name: str) -> tuple[str, str] | None:
    """The data set and encoder version of a collection's name; None where it is none of ours."""
    match = _NAME.fullmatch(name)
    return (match["dataset"], match["version"]) if match else None


def row_key(image_id: str) -> str:
    """The primary key of an image: pymilvus writes keys into filter expressions without escaping them, so
    a quote or a line break in an id would break (or change) a deletion; hex digits cannot."""
    return hashlib.sha256(image_id.encode()).hexdigest()


class Collection:
    """A collection that may or may not be there."""

    def __init__(self, connection: MilvusConnection, client: MilvusClient, name: str, index: Index) -> None:
        self._connection, self._client = connection, client
        self.name, self.index = name, index

    def exists(self) -> bool:
        return bool(self._client.has_collection(self.name))

    def noted(self) -> dict[str, str]:
        """What ``note`` wrote; empty where there is no collection."""
        return dict(self._client.describe_collection(self.name).get("properties", {})) if self.exists() else {}

    def held(self, identity: str) -> int | None:
        """The version of the lake's table ``identity`` that it holds, wholly; None where it does not."""
        noted = self.noted()
        known = noted.get(IDENTITY) == identity and noted.get(VERSION, "").isdigit()
        return int(noted[VERSION]) if known else None

    def note(self, identity: str, version: int | None) -> None:
        """That it holds this version of the lake's table ``identity``; None: nobody knows."""
        # Milvus 2.3.5 loses the last change of properties at its restart (milvus-io/milvus issue 30144).
        for _ in range(1 if self._connection.lite else 2):
            self._client.alter_collection_properties(self.name, {IDENTITY: identity, VERSION: str(version)})

    @cached_property
    def has_attributes(self) -> bool:
        """Those that an earlier version made hold none: a collection has its fields for good."""
        return any(each["name"] == ATTRIBUTES for each in self._client.describe_collection(self.name)["fields"])

    @property
    def columns(self) -> list[str]:
        """Those of ``COLUMNS`` that it has."""
        return [name for name in COLUMNS if name != ATTRIBUTES or self.has_attributes]

    def create(self, dim: int, identity: str) -> None:
        """Make it, empty, for the lake's table ``identity``.

        Raises:
            UserError: the vectors cannot be parted as the index's settings say.
        """
        if dim % (parts := int(self.index.build.get("m", 1))):
            raise UserError(
                f"[milvus.ivf_pq] parts = {parts} does not divide the {dim} dimensions of {self.name!r}: choose one "
                "that does"
            )
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
        for text in TEXTS:
            schema.add_field(text, DataType.VARCHAR, max_length=_MAX_TEXT)
        schema.add_field(ATTRIBUTES, DataType.JSON)
        schema.add_field(FIELD, DataType.FLOAT_VECTOR, dim=dim)
        self._connection.clear_half_made(self.name)
        properties = {IDENTITY: identity}
        self._client.create_collection(self.name, schema=schema, consistency_level="Strong", properties=properties)

    def drop(self) -> None:
        self._client.drop_collection(self.name)

    # Writing

    def upsert(self, batch: pa.RecordBatch) -> int:
        """Write rows of ``COLUMNS``; how many."""
        if not batch.num_rows:
            return 0
        vectors = matrix(batch.column(FIELD))
        values = {c: pc.fill_null(batch.column(c), "").to_pylist() for c in TEXTS}
        if self.has_attributes:
            values[ATTRIBUTES] = [dict(said or ()) for said in batch.column(ATTRIBUTES).to_pylist()]
        step = max(100, min(2_000, 8_000_000 // vectors[0].nbytes))  # servers take messages of up to 64 MB
        for start in range(0, len(vectors), step):
            rows: list[dict[str, Any]] = [
                {"key": row_key(values["image_id"][i]), FIELD: vectors[i]}
                | {column: own[i] for column, own in values.items()}
                for i in range(start, min(start + step, len(vectors)))
            ]
            self._client.upsert(self.name, rows)
        return len(vectors)

    def delete(self, keys: list[str]) -> int:
        for start in range(0, len(keys), 1_000):
            self._client.delete(self.name, ids=keys[start : start + 1_000])
        return len(keys)

    def settle(self) -> None:
        """Flush; where the index is not exact, wait until it covers the new rows and is what searches them: a server
        compares each vector until then, and its recall would be taken for the index's."""
        self._client.flush(self.name)
        self.load()
        if self.index.exact:
            return
        if self._connection.lite:  # builds as it loads, and never says that a load was refreshed
            self._client.release_collection(self.name)
            self._client.load_collection(self.name)
            return
        (built,) = self._client.list_indexes(self.name)
        while (state := self._client.describe_index(self.name, built)).get("pending_index_rows"):
            if state["state"] == "Failed":
                raise VitrineError(f"Milvus could not build the index of {self.name!r}: see its own log")
            time.sleep(0.2)
        self._client.refresh_load(self.name)

    # Reading

    def load(self) -> None:
        """Make it searchable, after making its index where a run was killed before that."""
        if not self._client.list_indexes(self.name):
            # Inner product ranks unit vectors as L2 does, and Lite's L2 builds an array of queries x rows x dim.
            params = self._client.prepare_index_params()
            build = {"params": self.index.build}  # pymilvus flattens one level, Lite reads what is below two
            params.add_index(FIELD, index_type=self.index.kind, metric_type="IP", params=build)
            self._client.create_index(self.name, params)
        self._client.load_collection(self.name)

    def count(self) -> int:
        return int(self._client.query(self.name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def pages(self, column: str, low: str = "", high: str = "g") -> Iterator[list[dict[str, Any]]]:
        """All rows with keys in [low, high), some thousands at a time."""
        for start, end in lake.key_ranges(self.count(), PAGE):
            if (first := max(start, low)) < (last := min(end, high)):
                within = f'key >= "{first}" and key < "{last}"'
                yield self._client.query(self.name, filter=within, output_fields=[column], limit=16_384)

    def nearest(self, vector: NDArray[np.float32], limit: int, where: Labels = ()) -> list[tuple[str, str, float]]:
        """(product, image, cosine similarity) of the ``limit`` images nearest to ``vector`` (D,), nearest first, of
        those that ``where`` says alone."""
        (hits,) = self._client.search(
            self.name,
            data=vector[None],
            limit=limit,
            filter=self._filter(where),
            search_params={"metric_type": "IP", "params": self._tuned(limit)},
            output_fields=["product_id", "image_id"],
        )
        rows = [dict.__getitem__(hit, "entity") for hit in hits]
        return [(row["product_id"], row["image_id"], value) for row, value in zip(rows, hits.distances, strict=True)]

    def _tuned(self, limit: int) -> dict[str, int | float]:
        """Of the index: HNSW looks at no fewer candidates than it has to find."""
        tuned = dict(self.index.search)
        return tuned | ({"ef": max(tuned["ef"], limit)} if "ef" in tuned else {})

    def _filter(self, where: Labels) -> str:
        """Milvus's expression for the rows with these labels.

        Raises:
            VitrineError: it holds no attributes, and one is asked for.
        """
        fields = {name: name if name in TEXTS else f'{ATTRIBUTES}["{check_name(name, "label")}"]' for name, _ in where}
        if any(name not in TEXTS for name in fields) and not self.has_attributes:
            raise VitrineError(
                f"Milvus's collection {self.name!r} was made before collections held attributes: "
                "run `vitrine index --fresh`, which makes it anew"
            )
        return " and ".join(f'{fields[name]} == "{value.translate(_ESCAPED)}"' for name, value in where)

    def rows(self, image_ids: list[str]) -> list[dict[str, Any]]:
        """``columns`` of those images that it has."""
        keys = [row_key(image_id) for image_id in image_ids]
        return [dict(row) for row in self._client.get(self.name, ids=keys, output_fields=self.columns)]

    def search(self, vectors: NDArray[np.float32], limit: int, where: Labels) -> Hits:
        """As ``VectorIndex.search``."""
        rows = max(1, self.count())
        # Lite makes a (queries x rows) array, and an answer may have 256 MB.
        block = int(max(1, min(500, 20_000_000 // rows, 100_000 // limit)))
        flter, tuned = self._filter(where), self._tuned(limit)
        ids: list[list[str]] = []
        similarities: list[list[float]] = []
        for start in range(0, len(vectors), block):
            answers = self._client.search(
                self.name,
                data=vectors[start : start + block],
                limit=limit,
                filter=flter,
                search_params={"metric_type": "IP", "params": tuned},
                output_fields=["image_id"],  # none at all would send every hit's vector
            )
            for hits in answers:
                # dict's own look-up: a Hit's is ten times as slow, and there are a hundred hits a query.
                names = [dict.__getitem__(hit, "entity")["image_id"] for hit in hits]
                ranked = sorted(zip((-value for value in hits.distances), names, strict=True))
                ids.append([image_id for _, image_id in ranked])
                similarities.append([-negated for negated, _ in ranked])
        return ids, similarities
