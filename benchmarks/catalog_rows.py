"""What so many rows of a catalog take: seconds, and the peak memory of the driver (the process and its JVM).

A table of ``--rows`` photos, of which there are a thousand tiny files in truth, is ingested by ``--layout table``. Then
whatever reads the whole catalog is asked, each command in a process of its own. Vectors are random and short: they are
no part of what is measured.

    python benchmarks/catalog_rows.py --rows 5000000

The first ingest reads every row's photo, which is most of the time. With ``--known``, the catalog is written as that
ingest would leave it, and the first one measured finds nothing new.

The peak is ``VmHWM`` of /proc, the most memory that a process ever held, of the verb's own process and of its JVM,
which on one machine does the executors' work too. Spark's Python workers, of which a machine has as many as cores, are
not in it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.gates.training_set import gate_training_set
from evaluation.retrieval.neighbours import read_items
from evaluation.task import ALL, Task
from vitrine import facts, lake, photo_files
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import backbones, identity
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABELS
from vitrine.vectors import lists

FILES, PHOTOS_A_PRODUCT, PART, DIM, ENCODER = 1_000, 10, 200_000, 16, "efficientnet_lite0"
SETTINGS = f"""
[evaluate]
slices = ["colour"]

[nightly]
encoders = ["{ENCODER}"]

[[nightly.datasets]]
name = "shop"
layout = "table"
source = "table"
attributes = {{colour = "colour"}}
"""
OF_SHOP = ("--dataset", "shop")
INGEST = ("ingest", "table", *OF_SHOP, "--layout", "table", "--attribute", "colour")


# ---- the catalog ----


def make(home: Path, rows: int) -> None:
    """Photos, and a table of them in Parquet; a file is of one split, so that no picture is in two."""
    (home / "vitrine.toml").write_text(SETTINGS)
    (home / "photos").mkdir()
    (home / "table").mkdir()
    for number in range(FILES):
        (home / "photos" / f"{number}.jpg").write_bytes(draw_photo(product(number), 0, size=32))
    for first in range(0, rows, PART):
        numbers = np.arange(first, min(first + PART, rows))
        files, products = numbers % FILES, numbers // PHOTOS_A_PRODUCT
        splits = np.select([files < 600, files < 700], ["train", "val"], "test")
        columns = {
            "image_id": [f"{number:09d}" for number in numbers],
            "uri": [f"{home}/photos/{file}.jpg" for file in files],
            "product_id": [f"p{number}" for number in products],
            "category": [f"kind {number % 200}" for number in products],
            "split": splits.tolist(),
            "colour": [f"colour {number % 12}" for number in products],
        }
        pq.write_table(pa.table(columns), home / "table" / f"{first:09d}.parquet")


def add_catalog(settings: Settings) -> None:
    """The rows of the table as an ingest would leave them, in ``catalog`` and ``labels``."""
    checked = [photo_files.check(f"{settings.root}/photos/{number}.jpg") for number in range(FILES)]
    moment = lake.now()
    times = dict.fromkeys(("content_seen_at", "updated_at", "valid_from"), moment)
    for part in sorted((settings.root / "table").glob("*.parquet")):
        rows = []
        for row in pq.read_table(part).to_pylist():
            file = asdict(checked[int(row["image_id"]) % FILES])
            own = {"dataset": "shop", "attributes": {"colour": row.pop("colour")}}
            own |= {name: f"shop/{row[name]}" for name in ("image_id", "product_id")}
            rows.append({**row, **file, **own, **times})
        for table in (CATALOG, LABELS):
            lake.write(settings, table, pa.Table.from_pylist(rows, schema=table.schema))


def encoded_set(settings: Settings) -> EncodedSet:
    return EncodedSet(
        "shop", ENCODER, identity.identify(settings, backbones.resolve(settings, ENCODER)).encoder_version
    )


def add_vectors(settings: Settings) -> None:
    """A vector of each photo, as an embed would leave it."""
    encoded, random, moment = encoded_set(settings), np.random.default_rng(0), lake.now()
    about = {"backbone": "drawn", "family": "drawn", "strategy": "pretrained", "weights_uri": "", "licence": ""}
    about |= {"encoder": ENCODER, "encoder_version": encoded.encoder_version, "state": "nightly"}
    lake.append(settings, ENCODERS, [about | {"dim": DIM, "created_at": moment}])
    names = [name for name in EMBEDDINGS.schema.names if name in ("image_id", "dataset", "content_sha256")]
    names += ["product_id", "category", "split", "attributes"]

    def whole(rows: pa.Table) -> pa.Table:
        vectors = random.standard_normal((len(rows), DIM), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        columns = {name: rows.column(name) for name in names} | {"embedding": lists(vectors)}
        columns |= {"encoder": pa.array([ENCODER] * len(rows))}
        columns |= {"encoder_version": pa.array([encoded.encoder_version] * len(rows))}
        times = pa.array([moment] * len(rows), pa.timestamp("us", "UTC"))
        columns |= dict.fromkeys(("event_timestamp", "created_timestamp"), times)
        return pa.table({name: columns[name] for name in EMBEDDINGS.schema.names}).cast(EMBEDDINGS.schema)

    held: list[pa.RecordBatch] = []
    for batch in lake.stream(settings, f"SELECT {', '.join(names)} FROM catalog"):
        held.append(batch)
        if sum(map(len, held)) >= PART:
            lake.write(settings, EMBEDDINGS, whole(pa.Table.from_batches(held)))
            held = []
    if held:
        lake.write(settings, EMBEDDINGS, whole(pa.Table.from_batches(held)))


@dataclass(frozen=True)
class Written:
    """A training set of all that may be learned from, without vectors, as its gate asks for it."""

    folder: str
    train: int
    validation: int
    dataset: str = "shop"
    encoder: str | None = None
    classes: tuple[str, ...] = tuple(f"kind {number}" for number in range(200))
    without_features: int = 0


def write_training_set(settings: Settings) -> Written:
    folder, counts = settings.home / "drawn_set", {}
    shutil.rmtree(folder, ignore_errors=True)
    for part, split in (("train", "train"), ("validation", "val")):
        (folder / part).mkdir(parents=True)
        counts[part] = 0
        with pq.ParquetWriter(
            folder / part / "0.parquet", pa.schema({"image_id": pa.string(), "label": pa.int32()})
        ) as writer:
            sql = f"SELECT image_id, category FROM catalog WHERE {lake.matches(split=split)}"
            for batch in lake.stream(settings, sql):
                labels = pa.array([int(name[5:]) for name in batch.column("category").to_pylist()], pa.int32())
                writer.write_table(pa.table({"image_id": batch.column("image_id"), "label": labels}))
                counts[part] += len(batch)
    (folder / "counts.json").write_text(json.dumps(counts))
    return Written(str(folder), counts["train"], counts["validation"])


# ---- what is asked without a verb of its own ----


def fingerprints(settings: Settings) -> dict[str, Any]:
    encoded = encoded_set(settings)
    first, second = (
        facts.catalog_version(settings, "shop", "colour"),
        facts.embedded_version(settings, encoded, ["colour"]),
    )
    return {"equal": first == second}


def missing(settings: Settings) -> dict[str, Any]:
    return {"missing": facts.missing(settings, encoded_set(settings))}


def labels(settings: Settings) -> dict[str, Any]:
    """What an evaluation knows of all items, before it searches."""
    task = Task(encoded_set(settings), "", ALL, ALL, "colour")
    return {"items": len(read_items(settings, task, {EMBEDDINGS.name: lake.version(settings, EMBEDDINGS)}).ids)}


def training_set(settings: Settings) -> dict[str, Any]:
    folder = settings.home / "drawn_set"
    counts = json.loads((folder / "counts.json").read_text())
    return {"passed": gate_training_set(settings, Written(str(folder), **counts), "benchmark").success}  # type: ignore[arg-type]


PARTS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "fingerprints": fingerprints,
    "missing": missing,
    "labels": labels,
    "training_set": training_set,
}


# ---- the measure ----


def peak(pid: int) -> float:
    """MiB that a process held at most; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def jvms(parents: set[int]) -> set[int]:
    """The processes called java below ``parents``; what is between joins them."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if int(rest.split()[1]) in parents:
            parents.add(int(folder.name))
            if name == "java":
                found.add(int(folder.name))
    return found


def measured(home: Path, what: str, command: list[str]) -> str:
    """One row of the table."""
    started, peaks = time.monotonic(), {"process": 0.0, "jvm": 0.0}
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        family = {child.pid}
        while child.poll() is None:
            peaks["process"] = max(peaks["process"], peak(child.pid))
            peaks["jvm"] = max([peaks["jvm"], *map(peak, jvms(family))])
            time.sleep(0.1)
        assert child.stdout is not None
        said = child.stdout.read().strip().splitlines()
    took = time.monotonic() - started
    if child.returncode:
        raise SystemExit(f"{what} ended with {child.returncode}: {' '.join(command)}")
    figures = {name: value for name, value in json.loads(said[-1]).items() if isinstance(value, bool | int) and value}
    shown = ", ".join(f"{name} {value:,}" for name, value in figures.items() if name != "seconds")
    return f"| {what} | {took:.1f} | {peaks['process']:,.0f} | {peaks['jvm']:,.0f} | {shown} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--known", action="store_true", help="Do without the first ingest.")
    parser.add_argument("--home", type=Path, help="Where it is made, and stays; one that is there is asked again.")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](load_settings(Path.cwd()))))
        return
    if given.home:
        given.home.mkdir(parents=True, exist_ok=True)
        ask_all(given.home.resolve(), given.rows, given.known)
        return
    with tempfile.TemporaryDirectory(prefix="vitrine-rows-") as made:
        ask_all(Path(made), given.rows, given.known)


def ask_all(home: Path, rows: int, known: bool) -> None:
    """Print the table; what ``home`` has of an earlier run is not made again."""
    verb, part = [sys.executable, "-m", "vitrine"], [sys.executable, str(Path(__file__).resolve()), "--part"]
    fresh = not (home / "vitrine.toml").is_file()
    if fresh:
        make(home, rows)
    head = "| | seconds | peak MiB, process | peak MiB, JVM | |\n|---|---|---|---|---|"
    print(f"{rows:,} rows\n\n{head}", flush=True)

    def show(what: str, *command: str) -> None:
        print(measured(home, what, [*verb, *command, "--json"]), flush=True)

    def ask(name: str, what: str) -> None:
        print(measured(home, what, [*part, name]), flush=True)

    settings = load_settings(home)
    if fresh and known:
        add_catalog(settings)
    elif fresh:
        show("ingest, all new", *INGEST)
    show("ingest, unchanged", *INGEST)
    if not facts.count(settings, EMBEDDINGS, encoded_set(settings).where):
        add_vectors(settings)
        write_training_set(settings)
    ask("fingerprints", "fingerprints of catalog and vectors")
    ask("missing", "photos without a vector")
    ask("labels", "labels of all items, for an evaluation")
    show("embed: products' vectors", "embed", "--encoder", ENCODER, *OF_SHOP)
    show("pending", "pending", *OF_SHOP)
    show("gate catalog", "gate", "catalog", *OF_SHOP)
    show("gate embeddings", "gate", "embeddings", *OF_SHOP, "--encoder", ENCODER)
    ask("training_set", "gate on a training set of 70 %")
    show("status", "status")


if __name__ == "__main__":
    main()
