"""What serving takes by the settings: the memory of the vectors online and in Milvus, and its price a month."""

from vitrine.setting_sections import MilvusSettings
from vitrine.settings import Settings

_LINK = 4
"""Bytes of an edge of HNSW, which has twice ``m`` of them a vector in its lowest layer (arXiv 1603.09320)."""
_OF_A_DIMENSION = {"": 0.0, "SQ6": 0.75, "SQ8": 1.0, "BF16": 2.0, "FP16": 2.0, "FP32": 4.0}
_GB = 1e9


def vector_bytes(settings: Settings, dim: int, photos: int, products: int) -> int:
    """Bytes of the vectors that serving holds, without ids and what the stores need beside them.

    Online each photo and each product has one, in Milvus each photo.
    """
    online = dim * (1 if settings.feast.vectors == "int8" else 4)
    return round((photos + products) * online + photos * _indexed(settings.milvus, dim))


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
