"""The memory of what serves: by hand, and as stores were measured."""

from typing import Any

import pytest

from vitrine.cli.serving_costs import month_money, online_row, stored_bytes, ways
from vitrine.settings import Settings

ONLINE, INDEXED = 540, 1_000


@pytest.mark.parametrize(
    ("milvus", "vectors", "in_milvus", "online"),
    [
        ({}, "float32", 400, 448),
        ({"index": "IVF_SQ8"}, "int8", 100, 112),
        ({"index": "HNSW", "hnsw": {"m": 16}}, "float32", 400 + 128, 448),
        ({"index": "HNSW_SQ", "hnsw_sq": {"sq_type": "SQ8", "refine": "FP32", "m": 4}}, "int8", 532, 112),
        ({"index": "IVF_PQ", "ivf_pq": {"parts": 20}}, "float32", 20, 448),
        ({"index": "IVF_RABITQ", "ivf_rabitq": {"refine": ""}}, "float32", 12.5, 448),
    ],
)
def test_bytes_by_hand(milvus: dict[str, Any], vectors: str, in_milvus: float, online: int):
    settings = Settings.model_validate(
        {"milvus": milvus, "feast": {"vectors": vectors}, "prices": {"memory_gb_month": 5.0, "currency": "EUR"}}
    )
    size = stored_bytes(settings, dim=100, photos=1000, products=10)
    assert size == 1000 * (in_milvus + INDEXED) + 1010 * (online + ONLINE)
    assert month_money(settings, 2_000_000_000) == 10.0
    assert month_money(Settings(), size) == 0.0


@pytest.mark.parametrize(
    ("dim", "kept", "measured"),
    [
        (512, "float32", 3097),
        (512, "int8", 1177),
        (1280, "float32", 6689),
        (1280, "int8", 2080),
        (768, "float32", 4131),
        (768, "int8", 1444),
        (80, "float32", 928),
        (80, "int8", 640),
    ],
)
def test_a_row_online_takes_what_redis_said_by_served_bits(dim: int, kept: str, measured: int):
    assert online_row(dim, kept) == pytest.approx(measured, rel=0.02)


def test_each_way_of_each_store_is_told():
    settings = Settings.model_validate({"prices": {"memory_gb_month": 5.0}})
    told = {(each.store, each.kept): each for each in ways(settings, 512, 1_000_000)}
    assert told["Redis", "int8"].bytes_a_row == 1180 and told["Redis", "int8"].money_month == pytest.approx(5.9)
    assert told["Milvus", "FLAT"].bytes_a_row == 3048 and told["Milvus", "IVF_SQ8"].bytes_a_row == 1512
    assert told["Milvus", "IVF_PQ"].bytes_a_row == 1032 and len(told) == 9
