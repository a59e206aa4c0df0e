"""Two jobs at once on one home: one waits, or Delta's conflict is tried again; the state is that of one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from evaluation.consistency.check import state
from spark_jobs.backfill_order import BackfillOrder
from spark_jobs.delta_tables import merge_table, read_table
from spark_jobs.embed_catalog import embed, embed_together
from spark_jobs.ingest_catalog import ingest
from spark_jobs.maintain_tables import maintain
from vitrine import lake
from vitrine.encoders import by_name
from vitrine.setting_sections import EncoderSettings
from vitrine.settings import Settings
from vitrine.tables import CATALOG


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """All of them started at once, in one JVM: Delta's transactions and the locks are those of processes."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def encoder(seed: int) -> EncoderSettings:
    return EncoderSettings(backbone="torchvision/squeezenet1_0", weights=f"random:{seed}", input_size=64)


@pytest.mark.usefixtures("spark")
def test_two_nights_and_a_maintenance_end_as_one_night(settings: Settings, draw: Callable[..., Path]):
    settings = settings.model_copy(update={"encoders": {"small": encoder(1), "other": encoder(2)}})
    for name in ("small", "other"):
        by_name.version(settings, name)  # drawn weights are of the process's one random state: not two at once
    root = str(draw(3, 3))
    first, second = together(lambda: ingest(settings, root, "d"), lambda: ingest(settings, root, "d"))
    assert sorted((first["added"], second["added"])) == [0, 9]
    for path in sorted(Path(root).rglob("*.jpg"))[:2]:
        path.unlink()
    both = ("small", "other")
    together(
        lambda: ingest(settings, root, "d"),
        lambda: embed_together(settings, both, "d"),
        lambda: embed_together(settings, both[::-1], "d"),
        lambda: maintain(settings, 7),
    )
    done = together(lambda: embed_together(settings, both, "d"), lambda: embed_together(settings, both[:1], "d"))
    assert len(done) == 2
    for table, key in (("catalog", "image_id"), ("labels", "image_id"), ("encoders", "encoder_version")):
        rows = lake.rows(settings, f"SELECT {key} FROM {table}")
        assert len(rows) == len({row[key] for row in rows}) == {"catalog": 7, "labels": 9, "encoders": 2}[table]
    rows = lake.rows(settings, "SELECT image_id, encoder_version FROM embeddings")
    assert len(rows) == len({tuple(row.values()) for row in rows}) == 14
    assert len(lake.rows(settings, "SELECT * FROM product_embeddings")) == 6
    assert not list((settings.home / "staging").iterdir())
    assert state(settings, "d")["differences"] == []


@pytest.mark.long
@pytest.mark.usefixtures("spark")
def test_a_night_and_a_backfill_of_another_backbone_end_as_one_after_the_other(
    settings: Settings, draw: Callable[..., Path]
):
    settings = settings.model_copy(update={"encoders": {"small": encoder(1), "other": encoder(2)}})
    for name in ("small", "other"):
        by_name.version(settings, name)
    root = draw(4, 3)
    ingest(settings, str(root), "d")
    draw(5, 3)  # a product more comes in between
    sorted(root.rglob("*.jpg"))[0].unlink()

    def night() -> None:
        ingest(settings, str(root), "d")
        embed(settings, "small", "d")

    def backfill() -> None:
        for _ in range(3):
            embed(settings, "other", "d", first=BackfillOrder(4))

    together(night, backfill, night)
    assert embed(settings, "small", "d")["embedded"] == 0, "the nights embedded all"
    embed(settings, "other", "d")  # the backfill's last step
    rows = lake.rows(settings, "SELECT image_id, encoder_version FROM embeddings")
    assert len(rows) == len({tuple(row.values()) for row in rows}) == 28
    assert len(lake.rows(settings, "SELECT * FROM product_embeddings")) == 10
    assert state(settings, "d")["differences"] == []


def test_a_merge_that_loses_the_race_is_done_again(
    spark: SparkSession, settings: Settings, draw: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    ingest(settings, str(draw(2, 2)), "d")

    def relabel(category: str) -> None:
        rows = read_table(spark, settings, CATALOG).withColumns({"category": F.lit(category), "gone": F.lit(False)})
        merge_table(spark, settings, CATALOG, rows, "t.dataset = 'd'")

    together(*(lambda category=category: relabel(category) for category in ("a", "b", "c")))  # type: ignore[misc]
    (found,) = lake.rows(settings, "SELECT count(*) AS n, count(DISTINCT category) AS categories FROM catalog")
    assert found == {"n": 4, "categories": 1}
    assert "another writer was quicker" in capsys.readouterr().err
