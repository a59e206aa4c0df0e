"""The memory of what serves, by hand."""

from typing import Any

import pytest

from vitrine.cli.serving_costs import month_money, vector_bytes
from vitrine.settings import Settings


@pytest.mark.parametrize(
    ("milvus", "vectors", "of_a_photo", "of_a_product"),
    [
        ({}, "float32", 400 + 400, 400),
        ({"index": "IVF_SQ8"}, "int8", 100 + 100, 100),
        ({"index": "HNSW", "hnsw": {"m": 16}}, "float32", 400 + 400 + 128, 400),
        ({"index": "HNSW_SQ", "hnsw_sq": {"sq_type": "SQ8", "refine": "FP32", "m": 4}}, "int8", 100 + 532, 100),
        ({"index": "IVF_PQ", "ivf_pq": {"parts": 20}}, "float32", 400 + 20, 400),
        ({"index": "IVF_RABITQ", "ivf_rabitq": {"refine": ""}}, "float32", 400 + 12.5, 400),
    ],
)
def test_bytes_by_hand(milvus: dict[str, Any], vectors: str, of_a_photo: float, of_a_product: int):
    settings = Settings.model_validate(
        {"milvus": milvus, "feast": {"vectors": vectors}, "prices": {"memory_gb_month": 5.0, "currency": "EUR"}}
    )
    size = vector_bytes(settings, dim=100, photos=1000, products=10)
    assert size == 1000 * of_a_photo + 10 * of_a_product
    assert month_money(settings, 2_000_000_000) == 10.0
    assert month_money(Settings(), size) == 0.0
