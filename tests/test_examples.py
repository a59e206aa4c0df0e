"""examples/training_set_from_events.py; the other examples ask a server: tests/test_serve.py."""

import runpy
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from tests.support.project import PROJECT
from tests.support.served_home import V1, add, blank, follow, promote, register, vector
from vitrine import feature_store, lake
from vitrine.settings import Settings
from vitrine.tables import PRODUCT_EMBEDDINGS

EXAMPLE = PROJECT / "examples" / "training_set_from_events.py"


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_a_later_vector_does_not_leak_to_an_earlier_event(settings: Settings, tmp_path: Path):
    register(settings, V1)
    add(settings, V1, {})
    start = lake.now().replace(microsecond=0) - timedelta(days=10)
    days = [start + timedelta(days=day) for day in range(10)]
    of = {"dataset": "d", "encoder": "small", "encoder_version": V1, "category": "cup"}
    known = {"d/old": (days[1], 1), "d/new": (days[5], 2)}
    rows = [
        blank(PRODUCT_EMBEDDINGS, **of, product_id=key, embedding=vector(seed), n_images=seed, event_timestamp=moment)
        for key, (moment, seed) in known.items()
    ]
    lake.append(settings, PRODUCT_EMBEDDINGS, rows)
    add(settings, V1, {"d/other": 7})
    promote(settings, V1)
    follow(settings, feature_store.open_store(settings))

    asked = [("d/old", 0), ("d/old", 3), ("d/new", 3), ("d/new", 7), ("d/nobody", 7), ("d/other", 9)]
    events = pd.DataFrame(
        [{"product_id": key, "event_timestamp": days[day].isoformat(), "clicked": day} for key, day in asked]
    )
    events.to_csv(tmp_path / "events.csv", index=False)
    example = runpy.run_path(str(EXAMPLE))
    example["main"](["d", str(tmp_path / "events.csv"), str(tmp_path / "all.parquet"), "--keep-unknown"])
    example["main"](["d", str(tmp_path / "events.csv"), str(tmp_path / "known.parquet")])
    found = pd.read_parquet(tmp_path / "all.parquet")
    vectors = {
        (row.product_id, row.clicked): None if row.embedding is None else list(row.embedding)
        for row in found.itertuples()
    }
    expected = dict.fromkeys(asked, None) | {("d/old", 3): vector(1), ("d/new", 7): vector(2)}
    assert vectors == expected  # d/other's photo came after its event
    assert set(pd.read_parquet(tmp_path / "known.parquet")["clicked"]) == {3, 7}
