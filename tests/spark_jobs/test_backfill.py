"""A backfill's pieces: which photos come first, what stays in the quarantine, what the rest takes."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from spark_jobs import backfill
from spark_jobs.backfill import Budget
from spark_jobs.backfill_order import BackfillOrder
from spark_jobs.embed_catalog import embed
from spark_jobs.ingest_catalog import ingest
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import GateRefused, UserError
from vitrine.runs import record
from vitrine.setting_sections import EmbedSettings, EncoderSettings, Prices
from vitrine.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    encoder = EncoderSettings(backbone="torchvision/squeezenet1_0", input_size=64, weights="random:0")
    embedding = EmbedSettings(batch_size=3, precision="fp32", task_photos=4)
    return settings.model_copy(update={"encoders": {"small": encoder}, "embed": embedding})


@pytest.mark.long
def test_the_wanted_come_first_then_the_newest(settings: Settings, spark: SparkSession) -> None:
    day = [lake.now() - timedelta(days=days) for days in range(4)]
    photos = [("a2", "a", day[0]), ("b1", "b", day[1]), ("a1", "a", day[3]), ("c1", "c", day[2]), ("b2", "b", day[2])]
    rows = [{"image_id": i, "product_id": f"d/{p}", "content_seen_at": at} for i, p, at in photos]
    missing = spark.createDataFrame(pa.Table.from_pylist(rows))

    def first(count: int, wanted: str | None = None) -> list[str]:
        chosen = BackfillOrder(count, wanted).choose(spark, settings, "d", missing)
        assert chosen.columns == missing.columns
        return sorted(row["image_id"] for row in chosen.collect())

    assert first(3) == ["a1", "a2", "b1"], "a product is as new as its newest photo, and stays together"
    wanted = settings.root / "wanted.csv"
    wanted.write_text("product_id,weight\nc,7\nunheard_of,9\nb,\nb,NaN\n")
    assert first(2, "wanted.csv") == ["a1", "c1"]
    wanted.write_text("product_id;weight\nc;7\na;7,5\n")
    with pytest.raises(UserError, match=r"row 3 .* has weight '7,5', which is no number"):
        first(1, "wanted.csv")
    wanted.write_text("product,weight\na,1\n")
    with pytest.raises(UserError, match="no column product_id"):
        first(1, "wanted.csv")
    with pytest.raises(UserError, match=r"no such table 'unwanted\.csv'"):
        first(1, "unwanted.csv")
    wanted.write_text('product_id,weight\nc,7\na,"8\n')
    with pytest.raises(UserError, match="row 3 cannot be told"):
        first(1, "wanted.csv")
    for ids, name in ((["b", "00"], "text"), ([7.0, 8.5], "real")):
        weights = pa.table({"product_id": ids, "weight": [1.5, 2], "seen": pa.array([1, 2], pa.timestamp("ns"))})
        write_deltalake(settings.root / f"{name} {{delta}}", weights.select(["product_id", "weight"]))
        pq.write_table(weights, settings.root / f"{name} [1].csv")
    for source in ("text {delta}", "text [1].csv"):
        assert first(1, source) == ["b1"]
    for source in ("real {delta}", "real [1].csv"):
        with pytest.raises(UserError, match="product_id is of type double"):
            first(1, source)


@pytest.mark.long
def test_what_cannot_be_embedded_holds_no_piece_up_and_stays_in_the_quarantine(
    settings: Settings, draw: Callable[..., Path], spark: SparkSession
) -> None:
    root = draw(3, 2)
    photos = sorted(root.rglob("*.jpg"))
    ingest(settings, str(root), "d")
    wanted = settings.root / "wanted.csv"
    wanted.write_text(f"product_id,weight\n{photos[4].parent.name},2\n{photos[2].parent.name},1\n")
    photos[4].write_bytes(photos[4].read_bytes()[:-300])

    one = embed(settings, "small", "d", first=BackfillOrder(2, "wanted.csv"))
    assert (one["embedded"], one["quarantined"], one["unchanged"]) == (1, 1, 0)
    assert facts.missing(settings, EncodedSet("d", "small", one["encoder_version"])) == 4
    two = embed(settings, "small", "d", first=BackfillOrder(2, "wanted.csv"))
    assert (two["embedded"], two["quarantined"], two["unchanged"]) == (2, 0, 1)
    ids = [row["image_id"] for row in lake.rows(settings, "SELECT image_id FROM embeddings")]
    assert sorted(ids) == [f"d/{path.relative_to(root)}" for path in (photos[2], photos[3], photos[5])]
    refused = lake.rows(settings, "SELECT code FROM quarantine WHERE stage = 'embed'")
    assert refused == [{"code": "truncated"}]
    assert facts.missing(settings, EncodedSet("d", "small", one["encoder_version"])) == 2


def ran(settings: Settings, **figures: Any) -> None:
    with record(settings, "embed", "d", "small") as run:
        run.encoder_version = "v"
        run.figures |= figures


def test_the_rest_is_estimated_by_the_rate_of_the_backfills_own_runs(settings: Settings) -> None:
    with pytest.raises(UserError, match="a pilot"):
        backfill.estimate(backfill.spent(settings, "v", "one"), 10, 5)
    ran(settings, backfill="one", embedded=90, quarantined=10, seconds=60.0, pass_seconds=50.0, money=2.0)
    ran(settings, backfill="another", embedded=1, seconds=1000.0, pass_seconds=1000.0, money=9.0)
    ran(settings, embedded=1, seconds=1000.0)  # a night's
    done = backfill.spent(settings, "v", "one")
    assert done == {"calls": 1, "photos": 100, "seconds": 60.0, "pass_seconds": 50.0, "money": 2.0}
    # 1,000 photos in 4 pieces: half a second a photo, and Spark's start of 10 seconds a piece.
    assert backfill.estimate(done, 1000, 300) == {"seconds": 540.0, "money": 20.0}
    assert backfill.estimate(done, 0, 300) == {"seconds": 0.0, "money": 0.0}
    assert [piece["rows"] for piece in backfill.chunks({"d": 7, "e": 0, "f": 3}, 3)] == [3, 3, 1, 3]


def test_a_budget_refuses_what_is_beyond_it(settings: Settings) -> None:
    Budget().check(settings, 1e9, 1e9, "it takes")
    Budget(seconds=60).check(settings, 60, 0, "it takes")
    with pytest.raises(GateRefused, match="it takes 61 s, the budget is 60 s"):
        Budget(seconds=60).check(settings, 61, 0, "it takes")
    with pytest.raises(UserError, match="prices"):
        Budget(money=1).check(settings, 1, 0, "it takes")
    priced = settings.model_copy(update={"prices": Prices(core_hour=1, currency="EUR")})
    with pytest.raises(GateRefused, match=r"2\.5000 EUR, the budget is 2 EUR"):
        Budget(money=2).check(priced, 1, 2.5, "it takes")
