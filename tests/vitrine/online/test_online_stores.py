"""The online stores that settings name, each a real server: the same answers after a fill, changes, deletions, another
version, and time."""

from functools import partial
from urllib.parse import quote

import numpy as np
import psycopg
import pytest
import redis
import yaml
from feast import FeatureStore
from pyspark.sql import SparkSession

from evaluation.consistency.differences import Differences
from evaluation.consistency.online import check_products
from evaluation.consistency.tables import StoredVersion
from feature_repo import definitions
from spark_jobs.fill_online import fill_online
from tests.support.served_home import V1, V2, add, follow, promote, register, remove, vector
from tests.support.store_servers import PASSWORD
from vitrine import feature_store
from vitrine.encoded_set import EncodedSet
from vitrine.feature_store import PRODUCTS
from vitrine.online import sync as online_sync
from vitrine.online.lookup import OnlineFeatures
from vitrine.online.sync import Source
from vitrine.settings import Settings, load_settings

STORES = ("sqlite", "redis", "postgres")


def database(port: int) -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=port, user="vitrine", dbname="vitrine", password=PASSWORD)


@pytest.fixture(params=STORES)
def stored(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an empty home whose online store is empty, too."""
    monkeypatch.setenv("VITRINE_FEAST__ONLINE_STORE", request.param)
    if request.param == "redis":
        port = request.getfixturevalue("redis_port")
        redis.Redis(port=port, password=PASSWORD).flushall()
        monkeypatch.setenv("VITRINE_FEAST__REDIS__PORT", str(port))
    if request.param == "postgres":
        port = request.getfixturevalue("postgres_port")
        with database(port) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        monkeypatch.setenv("VITRINE_FEAST__POSTGRES__PORT", str(port))
        monkeypatch.setenv("VITRINE_FEAST__POSTGRES__SSLMODE", "disable")
    if request.param != "sqlite":
        monkeypatch.setenv("VITRINE_FEAST__PASSWORD", PASSWORD)
    return load_settings(settings.root)


def seeds_online(settings: Settings, keys: list[str]) -> dict[str, tuple[str | None, int | None]]:
    """What a recommender is told: the version, and the seed of the vector, which product and image agree on."""
    online = OnlineFeatures(settings)
    products = online.lookup("d", keys, PRODUCTS)
    images = online.lookup("d", [f"{key}.jpg" for key in keys])
    for product, image in zip(products, images, strict=True):
        assert product["encoder_version"] == image["encoder_version"]
        if product["embedding"] is not None:
            assert product["embedding"].tolist() == image["embedding"].tolist() == vector(product["n_images"])
            assert (image["product_id"], image["category"]) == (product["product_id"], "cup")
    return {row["product_id"]: (row["encoder_version"], row["n_images"]) for row in products}


def test_fill_change_delete_promote_and_time_to_live(stored: Settings, monkeypatch: pytest.MonkeyPatch):
    register(stored, V1, V2)
    keys = ["d/0", "d/ü 💡", "d/it's", "d/nobody"]
    store = feature_store.open_store(stored)
    add(stored, V1, {"d/0": 1, "d/ü 💡": 2, "d/it's": 3})
    promote(stored, V1)
    assert follow(stored, store) == (6, 0)
    assert seeds_online(stored, keys) == {
        "d/0": (V1, 1),
        "d/ü 💡": (V1, 2),
        "d/it's": (V1, 3),
        "d/nobody": (None, None),
    }
    assert follow(stored, store) == (0, 0)

    remove(stored, "d/0", "d/it's")  # embedded again with an older event time, and deleted
    add(stored, V1, {"d/0": 9})
    assert follow(stored, store) == (2, 2)
    assert seeds_online(stored, keys[:3]) == {"d/0": (V1, 9), "d/ü 💡": (V1, 2), "d/it's": (None, None)}

    add(stored, V2, {"d/0": 11, "d/it's": 13})  # another version fills beside what serves
    promote(stored, V2)
    client = OnlineFeatures(stored, store)
    client.serving("d", PRODUCTS)
    assert follow(stored, store) == (4, 0)
    assert seeds_online(stored, keys[:3]) == {"d/0": (V2, 11), "d/ü 💡": (None, None), "d/it's": (V2, 13)}
    (old,) = client.lookup("d", ["d/ü 💡"], PRODUCTS)  # it saw the old version, which still answers
    assert (old["encoder_version"], old["n_images"]) == (V1, 2)

    monkeypatch.setenv("VITRINE_FEAST__TTL_DAYS", "2")  # rows live from when they were last written
    living = load_settings(stored.root)
    add(living, V2, {"d/old": 14}, days_ago=3)
    add(living, V2, {"d/new": 15}, days_ago=1)
    fresh = feature_store.open_store(living)
    feature_store.apply(fresh, definitions.objects(living))
    online_sync.sync(fresh, Source(living, PRODUCTS, EncodedSet("d", "small", V2)), fresh=True)
    feature_store.apply(fresh, definitions.serving_services(living))
    found = OnlineFeatures(living).lookup("d", ["d/old", "d/new", "d/0"], PRODUCTS)
    assert [row["n_images"] for row in found] == [None, 15, 11]


def test_packed_vectors_are_floats_again_and_either_kind_is_read(stored: Settings, monkeypatch: pytest.MonkeyPatch):
    register(stored, V1)
    add(stored, V1, {"d/0": 1})
    promote(stored, V1)
    follow(stored, feature_store.open_store(stored))
    monkeypatch.setenv("VITRINE_FEAST__VECTORS", "int8")
    packing = load_settings(stored.root)
    add(packing, V1, {"d/1": 2, "d/2": 3})
    assert follow(packing, feature_store.open_store(packing)) == (4, 0)  # what was sent stays as it is
    online, seeds = OnlineFeatures(packing), {"d/0": 1, "d/1": 2, "d/2": 3}
    for row in online.lookup("d", [*seeds], PRODUCTS):
        wanted, found = np.array(vector(seeds[row["product_id"]]), np.float32), row["embedding"]
        assert found.dtype == np.float32 and np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
        assert float(found @ wanted) > 0.9999
        assert (found.tolist() == wanted.tolist()) == (row["product_id"] == "d/0")
    store = feature_store.open_store(packing)
    online_sync.sync(store, Source(packing, PRODUCTS, EncodedSet("d", "small", V1)), fresh=True)
    (first,) = OnlineFeatures(packing).lookup("d", ["d/0"], PRODUCTS)
    assert first["embedding"].tolist() != vector(1)  # now it is packed too
    differences = Differences()
    check_products(packing, differences, StoredVersion(EncodedSet("d", "small", V1), len(vector(1)), followed=True))
    assert differences.as_list() == []


@pytest.mark.parametrize("stored", ["redis", "postgres"], indirect=True)
def test_a_connection_that_broke_is_made_anew(stored: Settings):
    register(stored, V1)
    add(stored, V1, {"d/0": 1})
    promote(stored, V1)
    follow(stored, feature_store.open_store(stored))
    online = OnlineFeatures(stored)
    for _ in range(2):
        assert online.lookup("d", ["d/0"], PRODUCTS)[0]["n_images"] == 1
        if stored.feast.online_store == "redis":
            redis.Redis(port=stored.feast.redis.port, password=PASSWORD).client_kill_filter(_type="normal", skipme=True)
        else:
            with database(stored.feast.postgres.port) as connection:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                connection.execute(f"{others} AND datname = 'vitrine'")


@pytest.mark.parametrize("stored", ["postgres"], indirect=True)
def test_the_registry_may_be_there_too(stored: Settings, monkeypatch: pytest.MonkeyPatch):
    where = f"vitrine:{quote(PASSWORD)}@127.0.0.1:{stored.feast.postgres.port}/vitrine"
    monkeypatch.setenv("VITRINE_FEAST__REGISTRY", f"postgresql+psycopg://{where}")
    settings = load_settings(stored.root)
    register(settings, V1)
    add(settings, V1, {"d/0": 1})
    promote(settings, V1)
    assert follow(settings, feature_store.open_store(settings)) == (2, 0)
    assert seeds_online(settings, ["d/0"]) == {"d/0": (V1, 1)}
    assert not list((settings.home / "feast").iterdir())  # no file with the password


@pytest.mark.parametrize("stored", ["postgres"], indirect=True)  # Feast parts Redis's at this one's comma
def test_the_file_for_plain_feast_has_no_password_and_works(stored: Settings):
    register(stored, V1)
    add(stored, V1, {"d/0": 1})
    promote(stored, V1)
    follow(stored, feature_store.open_store(stored))
    path = stored.home / "feast" / "feature_store.yaml"
    assert PASSWORD not in path.read_text() and PASSWORD not in str(yaml.safe_load(path.read_text()))
    plain = FeatureStore(fs_yaml_file=path)
    found = plain.get_online_features(
        features=plain.get_feature_service("d_products_serving"), entity_rows=[{"product_id": "d/0"}]
    ).to_dict()
    assert found["embedding"] == [vector(1)] and found["encoder_version"] == [V1]


@pytest.mark.long
@pytest.mark.parametrize("stored", ["redis"], indirect=True)
def test_sparks_executors_fill_what_one_process_would(spark: SparkSession, stored: Settings):
    register(stored, V1)
    seeds = {f"d/{number}": number for number in range(30)}
    add(stored, V1, seeds)
    promote(stored, V1)
    store = feature_store.open_store(stored)
    feature_store.apply(store, definitions.objects(stored))
    found = online_sync.sync_all(stored, store, "d", fill=partial(fill_online, spark))
    assert (found["upserted"], found["deleted"]) == (60, 0)
    remove(stored, "d/3")
    assert follow(stored, store) == (0, 2)  # from the version that it noted
    expected = {key: (V1, seed) for key, seed in seeds.items()} | {"d/3": (None, None)}
    assert seeds_online(stored, list(seeds)) == expected
