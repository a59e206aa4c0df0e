"""Whatever the zones are in which rows were written and are read, a moment is the same one."""

import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from tests.support.served_home import V1, add, follow, promote, register
from tests.support.store_servers import PASSWORD
from vitrine import feature_store, lake
from vitrine.feature_store import PRODUCTS
from vitrine.online.lookup import OnlineFeatures
from vitrine.settings import Settings, load_settings

ZONES = ("Asia/Kolkata", "UTC", "America/St_Johns")
MOMENT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # in Berlin's spring the hour from two to three is none


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


def live_in(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TZ", name)
    time.tzset()


def moments_online(settings: Settings) -> set[datetime]:
    """Of the only product: as Feast's own answer has it, and as a lookup reads it."""
    store = feature_store.open_store(settings)
    view = PRODUCTS.view("small", V1)
    answer = store.get_online_features(features=[f"{view}:n_images"], entity_rows=[{"product_id": "d/0"}])
    (seconds,) = answer.to_dict(include_event_timestamps=True)["n_images__ts"]
    online = OnlineFeatures(settings, store)
    ((moment, _),) = online._read(online.serving("d", PRODUCTS).view, ["d/0"], PRODUCTS)
    return {datetime.fromtimestamp(seconds, UTC), moment}


@pytest.mark.parametrize("written_in", [*ZONES, "Europe/Berlin"])
def test_online_rows_have_the_moment_that_the_lake_has(
    settings: Settings, zone: pytest.MonkeyPatch, written_in: str
) -> None:
    zone.setattr(lake, "now", lambda: MOMENT)
    live_in(zone, written_in)
    register(settings, V1)
    add(settings, V1, {"d/0": 1})
    promote(settings, V1)
    follow(settings, feature_store.open_store(settings))
    with sqlite3.connect(settings.home / "feast" / "online.db") as database:
        table = f"vitrine_{PRODUCTS.view('small', V1)}"
        stored = {row[0] for row in database.execute(f'SELECT event_ts FROM "{table}"')}
    assert stored == {int(MOMENT.timestamp())}  # what Feast alone reads elsewhere
    for read_in in ZONES:
        live_in(zone, read_in)
        assert moments_online(settings) == {MOMENT}, read_in


@pytest.mark.slow
def test_a_postgres_of_another_zone_keeps_the_moment(
    settings: Settings, zone: pytest.MonkeyPatch, postgres_port: int
) -> None:
    how = {"host": "127.0.0.1", "port": postgres_port, "user": "vitrine", "dbname": "vitrine", "password": PASSWORD}
    with psycopg.connect(**how) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute("ALTER ROLE vitrine SET timezone = 'Asia/Kolkata'")
    try:
        for name, value in (("ONLINE_STORE", "postgres"), ("PASSWORD", PASSWORD), ("POSTGRES__SSLMODE", "disable")):
            zone.setenv(f"VITRINE_FEAST__{name}", value)
        zone.setenv("VITRINE_FEAST__POSTGRES__PORT", str(postgres_port))
        stored = load_settings(settings.root)
        zone.setattr(lake, "now", lambda: MOMENT)
        live_in(zone, "America/St_Johns")
        register(stored, V1)
        add(stored, V1, {"d/0": 1})
        promote(stored, V1)
        follow(stored, feature_store.open_store(stored))
        assert moments_online(stored) == {MOMENT}
    finally:
        with psycopg.connect(**how) as connection:
            connection.execute("ALTER ROLE vitrine RESET timezone")


@pytest.mark.parametrize("name", ZONES)
def test_what_sql_prints_is_utc_with_its_offset(
    spark: object, settings: Settings, zone: pytest.MonkeyPatch, name: str
) -> None:
    from spark_jobs.sql import queries

    zone.setattr(lake, "now", lambda: MOMENT)
    register(settings, V1)
    live_in(zone, name)
    query = """
        SELECT created_at, array(created_at) AS several, map('at', created_at) AS named,
               struct(created_at AS at) AS one,
               TIMESTAMP '2026-10-25 00:30:00' AS first, TIMESTAMP '2026-10-25 01:30:00' AS second,
               DATE '2026-01-01' AS day, TIMESTAMP_NTZ '2026-01-01 00:00:00' AS wall
        FROM encoders
    """
    columns, ((moment, several, named, one, first, second, day, wall),) = queries.ask(settings, query, 10, held=True)
    assert columns[0] == "created_at" and str(moment) == str(MOMENT) == "2026-03-29 01:30:00+00:00"
    assert (several, named, one["at"]) == ([MOMENT], {"at": MOMENT}, MOMENT)
    assert [str(first), str(second)] == ["2026-10-25 00:30:00+00:00", "2026-10-25 01:30:00+00:00"]
    assert (str(day), str(wall)) == ("2026-01-01", "2026-01-01 00:00:00")  # neither is a moment


@pytest.mark.parametrize("name", ZONES)
def test_pages_and_tables_say_utc(settings: Settings, zone: pytest.MonkeyPatch, name: str) -> None:
    from vitrine.cli.verbs.status import read_status
    from vitrine.runs import record

    live_in(zone, name)
    zone.setattr(lake, "now", lambda: MOMENT)
    with record(settings, "ingest", "d"):
        pass
    assert read_status(settings)["last_runs"][0]["started_at"] == "2026-03-29 01:30:00+00:00"
    assert os.environ["TZ"] == name
