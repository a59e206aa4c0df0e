"""What serving takes by the settings: the memory of its rows online and in Milvus, and its price a month.

What a row takes beside its vector (keys, ids, labels, and what a store needs of its own) was measured of Redis 7.0 and
of the Milvus server 2.3.5 by ``benchmarks/served_bits.py``, on rows whose ids have some twenty characters.
"""

from typing import NamedTuple, get_args

from vitrine.setting_sections import FeastSettings, MilvusSettings
from vitrine.settings import Settings

_LINK = 4
"""Bytes of an edge of HNSW, which has twice ``m`` of them a vector in its lowest layer (arXiv 1603.09320)."""
_OF_A_DIMENSION = {"": 0.0, "SQ6": 0.75, "SQ8": 1.0, "BF16": 2.0, "FP16": 2.0, "FP32": 4.0}
_GB = 1e9
_AROUND = 12
"""Bytes that Feast and Redis write around a vector."""
_BESIDE_ONLINE, _BESIDE_IN_MILVUS = 540, 1_000


def stored_bytes(settings: Settings, dim: int, photos: int, products: int) -> int:
    """Bytes of memory that serving holds by the settings: online a row a photo and a product, in Milvus one a photo."""
    online = online_row(dim, settings.feast.vectors)
    return round((photos + products) * online + photos * milvus_row(settings.milvus, dim))


def online_row(dim: int, kept: str) -> int:
    """Bytes of a row in Redis; ``kept`` is ``[feast] vectors``."""
    return _allocated(dim * (1 if kept == "int8" else 4) + _AROUND) + _BESIDE_ONLINE


def milvus_row(milvus: MilvusSettings, dim: int) -> float:
    """Bytes of a row in the server's memory, by the index that serves."""
    return _indexed(milvus, dim) + _BESIDE_IN_MILVUS


class Stored(NamedTuple):
    """What a store takes for the vectors of a catalog, kept in one way."""

    store: str
    kept: str
    """``[feast] vectors`` or ``[milvus] index``."""
    bytes_a_row: int
    """Of memory, all that the store keeps of a row."""
    money_month: float


def ways(settings: Settings, dim: int, photos: int) -> list[Stored]:
    """Each way in which the stores may keep the vectors of ``photos``, (photos, dim), by the settings of its own."""
    made = [
        ("Redis", kept, online_row(dim, kept)) for kept in get_args(FeastSettings.model_fields["vectors"].annotation)
    ]
    for index in get_args(MilvusSettings.model_fields["index"].annotation):
        made.append(("Milvus", index, round(milvus_row(settings.milvus.model_copy(update={"index": index}), dim))))
    return [Stored(*each, month_money(settings, photos * each[-1])) for each in made]


def _allocated(size: int) -> int:
    """What Redis's allocator, jemalloc, gives for so many bytes: sizes in steps of an eighth of the power of two that
    is not below them, of 16 bytes at least."""
    step = max(16, 2 ** ((size - 1).bit_length() - 3))
    return -(-size // step) * step


def month_money(settings: Settings, size: int) -> float:
    """What ``size`` bytes of memory cost a month, by ``[prices] memory_gb_month``; 0 where that is not set."""
    return size / _GB * settings.prices.memory_gb_month


def _indexed(milvus: MilvusSettings, dim: int) -> float:
    """Bytes of a vector in the index that serves."""
    if milvus.index == "IVF_SQ8":
        return dim
    if milvus.index == "HNSW":
        return 4 * dim + 2 * _LINK * milvus.hnsw.m
    if milvus.index == "HNSW_SQ":
        of = milvus.hnsw_sq
        return dim * (_OF_A_DIMENSION[of.sq_type] + _OF_A_DIMENSION[of.refine]) + 2 * _LINK * of.m
    if milvus.index == "IVF_PQ":
        return milvus.ivf_pq.parts * milvus.ivf_pq.nbits / 8
    if milvus.index == "IVF_RABITQ":
        return dim * (1 / 8 + _OF_A_DIMENSION[milvus.ivf_rabitq.refine])
    return 4 * dim
