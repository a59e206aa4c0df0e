"""Clocks that jump: the order of the commits says what is newest, not the time that a machine says."""

import datetime as dt
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from feast import FeatureStore, FeatureView

from feature_repo import definitions
from spark_jobs import ingest_catalog
from tests.support.store_servers import PASSWORD
from vitrine import feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.feature_store import IMAGES, open_store
from vitrine.online import sync as online_sync
from vitrine.online.sync import Source, sync
from vitrine.settings import Settings, load_settings
from vitrine.tables import EMBEDDINGS, ENCODERS

VERSION = "0123456789abcdef"
NOW = dt.datetime(2026, 10, 25, 2, 30, tzinfo=dt.UTC)


def row(first: float, at: dt.datetime) -> dict[str, Any]:
    blank: dict[str, Any] = dict.fromkeys(EMBEDDINGS.schema.names, "")
    vector = [first, (1 - first**2) ** 0.5]
    own = {"image_id": "d/1", "encoder_version": VERSION, "dataset": "d", "product_id": "d/p", "encoder": "small"}
    return blank | own | {"embedding": vector, "event_timestamp": at, "created_timestamp": at}


def replace(settings: Settings, first: float, at: dt.datetime) -> None:
    """One commit that writes the photo's vector anew."""
    import pyarrow as pa

    table = pa.Table.from_pylist([row(first, at)], schema=EMBEDDINGS.schema)
    lake.write(settings, EMBEDDINGS, table, replacing={"image_id": "d/1"})


def first_of(settings: Settings) -> float:
    view = IMAGES.view("small", VERSION)
    found = open_store(settings).get_online_features(
        features=[f"{view}:embedding"], entity_rows=[{"image_id": "d/1"}]
    ).to_dict()  # fmt: skip
    return round(found["embedding"][0][0], 3)


@pytest.fixture(params=["sqlite", "redis"])
def home(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with a registered version; its online store is SQLite or Redis."""
    if request.param == "redis":
        port = request.getfixturevalue("redis_port")
        redis.Redis(port=port, password=PASSWORD).flushall()
        monkeypatch.setenv("VITRINE_FEAST__ONLINE_STORE", "redis")
        monkeypatch.setenv("VITRINE_FEAST__REDIS__PORT", str(port))
        monkeypatch.setenv("VITRINE_FEAST__PASSWORD", PASSWORD)
        settings = load_settings(settings.root)
    blank: dict[str, Any] = dict.fromkeys(ENCODERS.schema.names, "")
    own = {"encoder_version": VERSION, "encoder": "small", "state": "experiment", "dim": 2, "created_at": lake.now()}
    lake.append(settings, ENCODERS, [blank | own])
    feature_store.apply(open_store(settings), definitions.objects(settings))
    return settings


def test_the_newest_commit_is_online_whatever_the_clock_says(home: Settings, monkeypatch: pytest.MonkeyPatch):
    store = open_store(home)
    replace(home, 0.1, NOW)
    sync(store, Source(home, IMAGES, EncodedSet("d", "small", VERSION)))
    replace(home, 0.2, NOW)  # two updates at one instant
    replace(home, 0.3, NOW)
    sync(store, Source(home, IMAGES, EncodedSet("d", "small", VERSION)))
    assert first_of(home) == 0.3
    back = NOW - dt.timedelta(days=1)
    monkeypatch.setattr(lake, "now", lambda: back)  # the clock was set back by a day
    send = online_sync.write

    def sent_then(store: FeatureStore, view: FeatureView, rows: list[online_sync.FeastRow]) -> None:
        send(store, view, [(key, values, back, back) for key, values, _, _ in rows])

    monkeypatch.setattr(online_sync, "write", sent_then)  # and so are the commits
    replace(home, 0.4, back)
    sync(store, Source(home, IMAGES, EncodedSet("d", "small", VERSION)))
    assert first_of(home) == 0.4
    assert sync(store, Source(home, IMAGES, EncodedSet("d", "small", VERSION))).upserted == 0  # the note was taken
    sync(store, Source(home, IMAGES, EncodedSet("d", "small", VERSION)), fresh=True)
    assert first_of(home) == 0.4


def test_the_hour_that_comes_twice_is_two_hours(home: Settings, monkeypatch: pytest.MonkeyPatch):
    """In Berlin 02:30 comes twice that night: what is stored and sent is UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        store = open_store(home)
        for number, hour in enumerate((0, 1)):  # 02:30 CEST, 02:30 CET
            at = dt.datetime(2026, 10, 25, hour, 30, tzinfo=dt.UTC)
            replace(home, 0.1 * (number + 1), at)
            sync(store, Source(home, IMAGES, EncodedSet("d", "small", VERSION)))
            stored = lake.rows(home, "SELECT event_timestamp FROM embeddings")
            assert [found["event_timestamp"] for found in stored] == [at]
        assert first_of(home) == 0.2
    finally:
        monkeypatch.undo()
        os.environ.pop("TZ", None)
        time.tzset()


@pytest.mark.long
@pytest.mark.usefixtures("spark")
def test_labels_said_after_the_clock_was_set_back_are_the_last(
    settings: Settings, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    root = draw(2, 1)
    source = root / "photos.csv"

    def night(product: str) -> None:
        photo = next(root.rglob("*.jpg"))
        source.write_text(f"uri,product_id\n{photo},{product}\n")
        ingest_catalog.ingest(settings, str(source), "d", "table")

    night("a")
    monkeypatch.setattr(lake, "now", lambda: NOW - dt.timedelta(days=4000))
    night("b")
    night("b")
    said = lake.rows(settings, "SELECT product_id FROM labels ORDER BY valid_from")
    assert [row["product_id"] for row in said] == ["d/a", "d/b"]
