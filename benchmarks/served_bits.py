"""What vectors of fewer bits take where they serve, in memory and milliseconds, beside what ``vitrine compress`` says.

Milvus: the server of the PyPI wheel ``milvus``, started here, holds the rows of the lake by each index of ``[milvus]``,
as ``vitrine promote`` fills it. It is started again before memory is read, so that what filling left is not counted:
the anonymous memory of its processes, less that of an empty server. Milliseconds are of one search for the 10 nearest
by pymilvus, median, of the rows as they are (``Eventually``: by default, Milvus first waits for what is being written);
beside it, the same of a collection of ten rows, which is what a call costs before anything is compared.

Redis: what ``vitrine features`` writes of products, in floats and packed to bytes (``[feast] vectors = "int8"``): its
``used_memory_dataset`` a row.

"Said" is what ``vitrine compress`` says: bytes of a row by arithmetic, milliseconds by Faiss.

    python benchmarks/served_bits.py --rows 100000 --dim 512
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import online_lookup
import pyarrow as pa
import redis
import yaml
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from evaluation.compression import speed
from evaluation.milvus.vector_index import VectorIndex
from vitrine import lake
from vitrine.cli import serving_costs
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.codecs import Codec, as_it_is
from vitrine.settings import load_settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import Floats, lists

SHOP = EncodedSet("shop", "drawn", "00000000000000aa")
INDEXES = ("FLAT", "IVF_SQ8", "IVF_PQ")
PART, CLUSTERS, ASKED = 50_000, 1_000, 200


def vectors(count: int, dim: int, seed: int) -> Floats:
    """Unit vectors, float32 (count, dim), around common centres."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, dim), dtype=np.float32)
    made = centres[random.integers(CLUSTERS, size=count)] + random.standard_normal((count, dim), dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def fill_lake(count: int, dim: int) -> None:
    """Photos with vectors; nothing else of a catalog."""
    settings, moment = load_settings(), lake.now()
    same = {"product_id": "shop/p", "category": "cup", "split": "train", "content_sha256": "0", "dataset": "shop"}
    same |= {"encoder": SHOP.encoder, "encoder_version": SHOP.encoder_version, "attributes": None}
    for first in range(0, count, PART):
        n = min(PART, count - first)
        own = {
            "image_id": pa.array([f"shop/{number:08d}.jpg" for number in range(first, first + n)]),
            "embedding": lists(vectors(n, dim, 1 + first)),
        }
        columns = [
            own[field.name] if field.name in own else pa.array([same.get(field.name, moment)] * n, field.type)
            for field in EMBEDDINGS.schema
        ]
        lake.write(settings, EMBEDDINGS, pa.table(columns, schema=EMBEDDINGS.schema))


# ---- Milvus ----


@contextmanager
def milvus_server(folder: Path) -> Iterator[int]:
    """The server on the data of ``folder``, told to Vitrine by the environment; its process group."""
    with (folder / "said.log").open("ab") as log:
        command = [sys.executable, "-c", "import milvus; milvus.main()", "--data", str(folder / "data")]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        os.environ["VITRINE_MILVUS__URI"] = answering(process, folder)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # it flushes, and its children end
        time.sleep(5)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def answering(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    """The server's URI, once it answers."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            config = yaml.safe_load((folder / "data" / "configs" / "milvus.yaml").read_text())
            uri = f"http://127.0.0.1:{config['proxy']['port']}"
            MilvusClient(uri, timeout=5, dedicated=True).close()
            return uri
        except (OSError, MilvusException):
            time.sleep(0.5)
    raise SystemExit(f"the server did not start: see {folder}")


def held(group: int) -> float:
    """Bytes of anonymous memory of the processes of ``group``."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[2]) != group:
                continue
            lines = (stat.parent / "status").read_text().splitlines()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    return total


def steady(group: int) -> float:
    """The same, once it has hardly moved for six seconds; after half a minute, as it is."""
    seen = [held(group)]
    while len(seen) < 15 and (len(seen) < 4 or max(seen[-4:]) > 1.02 * min(seen[-4:])):
        time.sleep(2)
        seen.append(held(group))
    return float(np.median(seen[-4:]))


def in_milvus(kind: str, asked: Floats) -> dict[str, float]:
    """Bytes that the server holds of all rows, and milliseconds, by the index ``kind``."""
    os.environ["VITRINE_MILVUS__INDEX"] = kind
    with tempfile.TemporaryDirectory(prefix="vitrine-milvus-") as made:
        folder = Path(made)
        with milvus_server(folder) as group:
            empty = steady(group)
            with VectorIndex(load_settings()) as index:
                started = time.monotonic()
                index.sync(SHOP, served=True)
                filled = time.monotonic() - started
        with milvus_server(folder) as group, VectorIndex(load_settings()) as index:
            index.count(SHOP, served=True)  # loads it
            collection = index.collection(SHOP, served=True)
            client = MilvusClient(os.environ["VITRINE_MILVUS__URI"], dedicated=True)
            held_now = steady(group) - empty  # by then it is done with loading
            searched = median_ms(client, collection.name, collection.index.search, asked)
            client.create_collection("round_trip", dimension=asked.shape[1], metric_type="IP")
            client.insert("round_trip", [{"id": number, "vector": query} for number, query in enumerate(asked[:10])])
            round_trip = median_ms(client, "round_trip", {}, asked)
            client.close()
            return {"bytes": held_now, "ms": searched, "round trip": round_trip, "filled": filled}


def median_ms(client: MilvusClient, collection: str, params: dict[str, Any], asked: Floats) -> float:
    how, took = {"metric_type": "IP", "params": params}, []
    for query in asked:
        started = time.perf_counter()
        client.search(collection, [query], limit=10, search_params=how, consistency_level="Eventually")
        took.append(1000 * (time.perf_counter() - started))
    return float(np.median(took))


# ---- Redis ----


def in_redis(rows: int, dim: int, packed: str) -> float:
    """Bytes of Redis's memory, of all products."""
    os.environ["VITRINE_FEAST__VECTORS"] = packed
    with online_lookup.server("redis"):
        settings = load_settings()
        secret = settings.feast.password
        client = redis.Redis(port=settings.feast.redis.port, password=secret.get_secret_value() if secret else None)

        def used() -> int:
            said: dict[str, Any] = client.info("memory")
            return int(said["used_memory_dataset"])

        empty = used()
        online_lookup.bring_online(rows, spark=False)
        return used() - empty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--parts", type=int, default=64, help="of IVF_PQ, bytes a vector")
    parser.add_argument("--indexes", nargs="*", choices=INDEXES, default=INDEXES, help="of Milvus; none: Redis alone")
    asked = parser.parse_args()
    os.environ["VITRINE_MILVUS__IVF_PQ__PARTS"] = str(asked.parts)
    quantisers = dict(zip(INDEXES, (None, "int8", f"PQ {asked.parts}"), strict=True))
    with tempfile.TemporaryDirectory(prefix="vitrine-bits-") as home:
        os.chdir(home)
        stores = serving_costs.ways(load_settings(), asked.dim, asked.rows)
        a_row = {(each.store, each.kept): each.bytes_a_row for each in stores}
        print("| Milvus | bytes a row | said | ms a search | of ten rows | said | s to fill |\n" + "|---" * 7 + "|")
        fill_lake(asked.rows, asked.dim)
        parts = range(0, asked.rows, PART)
        index = np.concatenate([vectors(min(PART, asked.rows - at), asked.dim, 1 + at) for at in parts])
        queries = vectors(ASKED, asked.dim, 0)
        for kind in asked.indexes:
            codec = Codec(as_it_is(asked.dim), quantisers[kind]) if quantisers[kind] else None
            said = speed.speed(lambda c=codec: speed.over(c, index) if c else speed.in_full(index), queries)
            found = in_milvus(kind, queries)
            ms = said.lists_latency_ms if codec else said.latency_ms
            row = f"| {kind} | {found['bytes'] / asked.rows:,.0f} | {a_row['Milvus', kind]:,} | {found['ms']:.2f} "
            print(f"{row}| {found['round trip']:.2f} | {ms:.2f} | {found['filled']:.0f} |", flush=True)
    with tempfile.TemporaryDirectory(prefix="vitrine-bits-") as home:
        os.chdir(home)
        print("\n| Redis | bytes a row | said |\n|---|---|---|")
        online_lookup.fill_lake(asked.rows, asked.dim)
        for packed in ("float32", "int8"):
            took = in_redis(asked.rows, asked.dim, packed) / asked.rows
            print(f"| {packed} | {took:,.0f} | {a_row['Redis', packed]:,} |", flush=True)


if __name__ == "__main__":
    main()
