"""Bytes of a photo beside its vector: in the lake's files and, where redis-server is installed, online in Redis.

    python benchmarks/row_bytes.py --rows 20000 --dims 512 1280

Rows are generated as data: hex contents, ids and uris of 60 characters, vectors of unit length.
"""

import argparse
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import redis

from feature_repo import definitions
from vitrine import feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.online.sync import Source, sync
from vitrine.setting_sections import FeastSettings
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS
from vitrine.vectors import lists

VERSION = "00000000000000aa"
ONLINE = 2000


def fill(settings: Settings, count: int, dim: int) -> None:
    """``count`` rows of ``catalog`` and ``embeddings``, in one commit each."""
    random, moment = np.random.default_rng(0), lake.now()
    vectors = random.standard_normal((count, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    contents = [random.bytes(32).hex() for _ in range(count)]
    ids = [f"shop/product-{number // 5:08d}/photo-{content[:20]}.jpg" for number, content in enumerate(contents)]
    columns: dict[str, Any] = {
        "image_id": ids,
        "dataset": ["shop"] * count,
        "product_id": [f"shop/product-{number // 5:08d}" for number in range(count)],
        "category": [f"category-{number % 50}" for number in range(count)],
        "split": ["train"] * count,
        "uri": [f"s3://shop-photos/{name[5:]}" for name in ids],
        "size": random.integers(20_000, 200_000, count),
        "content_sha256": contents,
        "width": pa.array(random.integers(300, 2000, count), pa.int32()),
        "height": pa.array(random.integers(300, 2000, count), pa.int32()),
        "encoder_version": [VERSION] * count,
        "encoder": ["efficientnet_lite0"] * count,
        "embedding": lists(vectors),
        **dict.fromkeys(
            ("modified_at", "content_seen_at", "updated_at", "event_timestamp", "created_timestamp"),
            pa.array([moment] * count, pa.timestamp("us", "UTC")),
        ),
    }
    for table in (CATALOG, EMBEDDINGS):
        lake.write(settings, table, pa.table({name: columns[name] for name in table.schema.names}))
    blank: dict[str, Any] = dict.fromkeys(ENCODERS.schema.names, "")
    own = {"encoder_version": VERSION, "encoder": "small", "dim": dim, "state": "nightly", "created_at": moment}
    lake.append(settings, ENCODERS, [blank | own])


def stored(settings: Settings, name: str) -> int:
    """Bytes of the Parquet files of a table."""
    return sum(path.stat().st_size for path in (settings.lake / name).rglob("*.parquet"))


def in_redis(settings: Settings) -> float | None:
    """Bytes that Redis takes for an online row; None without redis-server."""
    if not shutil.which("redis-server"):
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port, retry_on_error=[redis.ConnectionError])
        while not _answers(client):
            time.sleep(0.1)
        block = {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
        online = settings.model_copy(update={"feast": FeastSettings(online_store=block)})
        store = feature_store.open_store(online)
        feature_store.apply(store, definitions.objects(online))
        before = client.info("memory")["used_memory"]
        source = Source(online, feature_store.IMAGES, EncodedSet("shop", "small", VERSION))
        sent = sync(store, source).upserted
        return (client.info("memory")["used_memory"] - before) / sent
    finally:
        server.terminate()
        server.wait(30)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def measure(folder: Path, count: int, dim: int) -> str:
    settings = Settings(root=folder, home=folder / "many")
    fill(settings, count, dim)
    catalog, embedding = (stored(settings, name) / count for name in ("catalog", "embeddings"))
    few = Settings(root=folder, home=folder / "few")
    fill(few, min(count, ONLINE), dim)
    online = in_redis(few)
    beside = [f"{catalog:.0f}", f"{embedding - 4 * dim:.0f}", "" if online is None else f"{online - 4 * dim:.0f}"]
    return f"| {dim} | {' | '.join(beside)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 1280])
    given = parser.parse_args()
    print("bytes a photo, beside the 4 bytes of each number\n")
    print("| numbers | catalog | embeddings | online in Redis |\n|---|---|---|---|")
    for dim in given.dims:
        with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as folder:
            print(measure(Path(folder), given.rows, dim), flush=True)


if __name__ == "__main__":
    main()
