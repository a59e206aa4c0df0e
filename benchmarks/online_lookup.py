"""Feast online: how fast rows are brought in, and how long a lookup of 100 products takes, on each store.

Real servers of Redis and PostgreSQL, started here; products of random unit vectors, generated as data.

    python benchmarks/online_lookup.py --rows 200000 --lookups 400

First table: rows a second of a first fill, by ``vitrine features`` in one process and with ``--spark`` on this
machine's cores, and by Feast's own Spark engine (``FeatureStore.materialize``); the session is warm.

Second table: milliseconds of a lookup of 100 products at 1 and 4 concurrent clients, each a process; in brackets the
ratio of the medians to the raw read. ``raw`` reads the same four features by the store's own driver, its keys made
before, and decodes the vectors into NumPy; ``Feast`` is ``get_online_features`` and ``to_dict``; ``lookup`` is
``OnlineFeatures``; ``JSON`` and ``Arrow`` ask ``vitrine serve`` (one process) by Feast's route and by its own, and
parse the answer. Clients take turns in blocks of one method, so what else the machine does falls on all of them.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo import definitions
from spark_jobs.fill_online import fill_online
from spark_jobs.session import build_session
from vitrine import feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.feature_store import open_store
from vitrine.online import sync as online_sync
from vitrine.online.lookup import OnlineFeatures
from vitrine.online.values import entity_keys, plain_of, vector_of
from vitrine.settings import load_settings
from vitrine.tables import EMBEDDINGS, ENCODERS, PRODUCT_EMBEDDINGS, PROMOTIONS, Table
from vitrine.vectors import lists

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support import store_servers  # the tests' own: they are no part of the package

PRODUCTS, BLOCK, METHODS = 100, 20, ("raw", "Feast", "lookup", "Arrow", "JSON")
STORES = ("sqlite", "redis", "postgres")
VERSION, VIEW, SERVICE = "00000000000000aa", "products_small_00000000000000aa", "shop_products_serving"
Lookup = Callable[[list[str]], Any]


def fill_lake(count: int, dim: int) -> None:
    """Products with vectors, promoted; nothing online."""
    settings, moment, random = load_settings(), datetime.now(UTC), np.random.default_rng(0)
    same = {"dataset": "shop", "encoder": "small", "encoder_version": VERSION, "dim": dim, "n_images": 5}

    def rows(table: Table, first: int, vectors: np.ndarray) -> pa.Table:
        n = len(vectors)
        own = {
            "product_id": pa.array([f"shop/p{number:08d}" for number in range(first, first + n)]),
            "embedding": lists(vectors),
        }
        fill = {"string": "cup", "timestamp[us, tz=UTC]": moment, "int32": 0, "bool": False}
        plain = {field.name: same.get(field.name, fill.get(str(field.type))) for field in table.schema}
        columns = [
            own[field.name] if field.name in own else pa.array([plain[field.name]] * n, field.type)
            for field in table.schema
        ]
        return pa.table(columns, schema=table.schema)

    nothing = np.ones((1, dim), np.float32)
    for table in (ENCODERS, PROMOTIONS, EMBEDDINGS):
        lake.write(settings, table, rows(table, 0, nothing))
    for first in range(0, count, 50_000):
        vectors = random.standard_normal((min(50_000, count - first), dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        lake.write(settings, PRODUCT_EMBEDDINGS, rows(PRODUCT_EMBEDDINGS, first, vectors))


@contextmanager
def server(store: str) -> Iterator[dict[str, str]]:
    """The environment in which Feast's online store is ``store``, running."""
    env = {"VITRINE_FEAST__ONLINE_STORE": store}
    with ExitStack() as stack:
        if store != "sqlite":
            start = store_servers.redis_server if store == "redis" else store_servers.postgres_server
            env[f"VITRINE_FEAST__{store.upper()}__PORT"] = str(stack.enter_context(start()))
            env["VITRINE_FEAST__PASSWORD"] = store_servers.PASSWORD
            env["VITRINE_FEAST__POSTGRES__SSLMODE"] = "disable"
        os.environ.update(env)
        yield env


def bring_online(count: int, spark: bool) -> dict[str, float]:
    """Rows a second of each way; the store holds the rows of the last, the change feed's."""
    settings = load_settings()
    store = open_store(settings)
    feature_store.apply(store, definitions.objects(settings))
    source = online_sync.Source(settings, feature_store.PRODUCTS, EncodedSet("shop", "small", VERSION))
    ways: dict[str, Callable[[], object]] = {}
    if spark:
        session = build_session(settings, "benchmark")
        session.range(10).count()
        span = (datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC))
        if settings.feast.online_store != "sqlite":  # whose file Feast's tasks would lock each other out of
            ways["Feast's Spark engine"] = lambda: store.materialize(*span, feature_views=[VIEW])
        ways["vitrine features --spark"] = lambda: online_sync.sync(store, source, fill=partial(fill_online, session))
    ways["vitrine features"] = lambda: online_sync.sync(store, source)
    rates = {}
    for way, bring in ways.items():
        online_sync._empty(store, VIEW)
        started = time.monotonic()
        bring()
        rates[way] = count / (time.monotonic() - started)
    online_sync.sync_all(settings, store, "shop")
    feature_store.apply(store, definitions.serving_services(settings))
    return rates


def raw_reader(count: int) -> Lookup:
    """The store's own driver: the same four features, the vectors decoded; keys are made before the clock runs."""
    settings = load_settings()
    store = open_store(settings)
    config, dim = store.config, int(store.get_feature_view(VIEW).tags["dim"])
    ids = [f"shop/p{number:08d}" for number in range(count)]
    made = dict(zip(ids, entity_keys(feature_store.PRODUCTS, ids), strict=True))
    if settings.feast.online_store == "redis":
        import redis

        feast, secret = settings.feast, settings.feast.password
        client = redis.Redis(port=feast.redis.port, password=secret.get_secret_value() if secret else None)
        fields = [_mmh3(f"{VIEW}:{name}") for name in feature_store.PRODUCTS.features]
        keys = {name: _redis_key("vitrine", key, 3) for name, key in made.items()}

        def read_redis(asked: list[str]) -> Any:
            with client.pipeline(transaction=False) as pipe:
                for name in asked:
                    pipe.hmget(keys[name], fields)
                return [[decode(blob) for blob in row] for row in pipe.execute()]

    def decode(blob: bytes) -> Any:
        value = Value.FromString(blob)
        return vector_of(value, dim) if value.HasField("float_list_val") else plain_of(value)

    if settings.feast.online_store == "redis":
        return read_redis
    bytes_of = {name: serialize_entity_key(key, 3) for name, key in made.items()}
    columns = f'SELECT entity_key, feature_name, value FROM "vitrine_{VIEW}" WHERE entity_key'
    if settings.feast.online_store == "sqlite":
        database = sqlite3.connect(settings.home / "feast" / "online.db")
        query = f"{columns} IN ({','.join('?' * PRODUCTS)})"

        def read_sqlite(asked: list[str]) -> Any:
            rows = database.execute(query, [bytes_of[name] for name in asked])
            return [(key, name, decode(value)) for key, name, value in rows]

        return read_sqlite
    from feast.infra.utils.postgres.connection_utils import _get_conn

    connection = _get_conn(config.online_store)
    connection.autocommit = True

    def read_postgres(asked: list[str]) -> Any:
        rows = connection.execute(f"{columns} = ANY(%s)", ([bytes_of[name] for name in asked],))
        return [(key, name, decode(value)) for key, name, value in rows]

    return read_postgres


def readers(count: int, port: int) -> dict[str, Lookup]:
    settings = load_settings()
    store, online = open_store(settings), OnlineFeatures(settings)
    service, connection = store.get_feature_service(SERVICE), http.client.HTTPConnection("127.0.0.1", port)

    def feast(ids: list[str]) -> Any:
        return store.get_online_features(features=service, entity_rows=[{"product_id": key} for key in ids]).to_dict()

    def post(path: str, body: dict[str, Any]) -> bytes:
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
        except ConnectionError:  # the server closes what is idle for five seconds
            connection.close()
            return post(path, body)
        assert answer.status == 200
        return answer.read()

    def as_json(ids: list[str]) -> Any:
        return json.loads(post("/get-online-features", {"feature_service": SERVICE, "entities": {"product_id": ids}}))

    def as_arrow(ids: list[str]) -> Any:
        return pa.ipc.open_stream(post("/datasets/shop/products", {"ids": ids})).read_all()

    return {
        "raw": raw_reader(count),
        "Feast": feast,
        "lookup": lambda ids: online.lookup("shop", ids, feature_store.PRODUCTS),
        "Arrow": as_arrow,
        "JSON": as_json,
    }


def client(seed: int, count: int, port: int, lookups: int, barrier: Any, results: Any) -> None:
    """One client's milliseconds, by method."""
    random, ways = np.random.default_rng(seed), readers(count, port)
    took: dict[str, list[float]] = {method: [] for method in METHODS}
    for block in range(-1, lookups // BLOCK):  # the first warms up
        for method in METHODS:
            barrier.wait(60)
            for _ in range(BLOCK):
                ids = [f"shop/p{number:08d}" for number in random.choice(count, PRODUCTS, replace=False)]
                started = time.perf_counter()
                ways[method](ids)
                if block >= 0:
                    took[method].append((time.perf_counter() - started) * 1000)
    results.put(took)


@contextmanager
def served(env: dict[str, str]) -> Iterator[int]:
    """``vitrine serve``; its port."""
    port = store_servers.free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "vitrine", "serve", "--port", str(port)],
        env=os.environ | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                asked.request("GET", "/health")
                assert asked.getresponse().status == 200
                break
            except OSError:
                assert process.poll() is None, "vitrine serve ended"
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def measure(clients: int, count: int, lookups: int, port: int) -> dict[str, tuple[float, float]]:
    """(p50, p99) of each method, over all clients' lookups."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(clients), context.Queue()
    running = [
        context.Process(target=client, args=(seed, count, port, lookups, barrier, results)) for seed in range(clients)
    ]
    for process in running:
        process.start()
    found = [results.get(timeout=420) for _ in running]
    for process in running:
        process.join()
    pooled = {method: np.concatenate([took[method] for took in found]) for method in METHODS}
    return {method: tuple(np.percentile(values, [50, 99])) for method, values in pooled.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--lookups", type=int, default=400, help="of each client and method; 0 leaves them out")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--stores", nargs="+", default=list(STORES), choices=STORES)
    parser.add_argument("--no-spark", action="store_true", help="leave Feast's Spark engine out")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the blocks end the servers
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as folder:
        os.chdir(folder)
        Path("vitrine.toml").touch()
        fill_lake(given.rows, given.dim)
        fills, tables = [], []
        for store in given.stores:
            with server(store) as env:
                for way, rate in bring_online(given.rows, not given.no_spark).items():
                    fills.append(f"| {store} | {way} | {rate:,.0f} |")
                    print(fills[-1], file=sys.stderr, flush=True)
                for clients in given.clients if given.lookups else ():
                    with served(env) as port:
                        found = measure(clients, given.rows, given.lookups, port)
                    base = found["raw"][0]
                    cells = [f"{p50:.2f} / {p99:.2f} ({p50 / base:.1f})" for p50, p99 in found.values()]
                    tables.append(f"| {store} | {clients} | {' | '.join(cells)} |")
                    print(tables[-1], file=sys.stderr, flush=True)
        print(f"\n| store | {given.rows} x {given.dim} brought online by | rows/s |\n|---|---|---|")
        print("\n".join(fills))
        print(
            f"\n| store | clients | {' | '.join(f'{method}: p50 / p99 ms' for method in METHODS)} |\n|---|---|"
            + "---|" * len(METHODS)
        )
        print("\n".join(tables))


if __name__ == "__main__":
    main()
