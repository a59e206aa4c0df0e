"""How the table of vectors should lie on disk: partitions, clustering, deletion vectors, file size, number format.

A table of so many vectors, generated as data, and a tenth as many of another encoder version, in every layout. On each,
in seconds: a count by category, one image by its id (Spark, and delta-rs without a JVM), the neighbours of a row, a
night's MERGE of one row in a hundred, and OPTIMIZE. MiB are of all files, after the MERGE the older ones included.

    python benchmarks/table_layout.py                              # a million rows
    python benchmarks/table_layout.py --rows 50000 --layouts as_is deletion_vectors
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from pyspark.sql import SparkSession
from pyspark.sql.functions import arrow_udf

from spark_jobs.session import build_session, end_session
from spark_jobs.sql import vector_functions
from spark_jobs.sql.queries import lake_settings
from vitrine.settings import Settings

VERSIONS = ("0123456789abcdef", "fedcba9876543210")  # what a night writes, and another encoder's beside it
PART = 50_000
REPEATS = 2


@dataclass(frozen=True)
class Layout:
    about: str
    clause: str = "PARTITIONED BY (encoder_version)"
    optimize: str = ""
    """What follows OPTIMIZE."""
    properties: dict[str, str] = field(default_factory=dict)
    conf: dict[str, str] = field(default_factory=dict)
    """Of the session that makes and compacts the table."""
    vector: str = "embedding"
    """The vector's expression, of array<float>."""
    dot: str = "dot"


OPTIMIZE = "spark.databricks.delta.optimize"
DELETION_VECTORS = {"delta.enableDeletionVectors": "true"}
LAYOUTS = {
    "as_is": Layout("partitioned by encoder_version, as vitrine/tables.py has it"),
    "unpartitioned": Layout("no partitions", clause=""),
    "z_order": Layout("as it is, OPTIMIZE ZORDER BY (image_id)", optimize="ZORDER BY (image_id)"),
    "clustered": Layout("CLUSTER BY (encoder_version, image_id)", clause="CLUSTER BY (encoder_version, image_id)"),
    "deletion_vectors": Layout("as it is, with deletion vectors", properties=DELETION_VECTORS),
    "clustered_deletion_vectors": Layout(
        "clustered, with deletion vectors",
        clause="CLUSTER BY (encoder_version, image_id)",
        properties=DELETION_VECTORS,
    ),
    "files_of_16_mib": Layout(
        "as it is, files of 16 MiB", conf={f"{OPTIMIZE}.{size}FileSize": "16777216" for size in ("min", "max")}
    ),
    "fp32_bytes": Layout("as it is, a vector as bytes of fp32", vector="fp32_bytes(embedding)", dot="dot_fp32"),
    "fp16_bytes": Layout("as it is, a vector as bytes of fp16", vector="fp16_bytes(embedding)", dot="dot_fp16"),
}


def fill(path: Path, rows: int, dim: int) -> None:
    """``rows`` unit vectors, and a tenth as many of another version; ids in no order, as a MERGE leaves them."""
    random = np.random.default_rng(0)
    for version, count in zip(VERSIONS, (rows, rows // 10), strict=True):
        numbers = random.permutation(count)
        for first in range(0, count, PART):
            part = numbers[first : first + PART]
            vectors = random.standard_normal((len(part), dim), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            offsets = np.arange(0, vectors.size + 1, dim, dtype=np.int32)
            columns = {
                "image_id": pa.array([f"shop/{number:09d}.jpg" for number in part]),
                "encoder_version": pa.repeat(version, len(part)),
                "product_id": pa.array([f"shop/{number // 10:08d}" for number in part]),
                "category": pa.array([f"kind {number % 20}" for number in part]),
                "content_sha256": pa.array([f"{number:064x}" for number in part]),
                "embedding": pa.ListArray.from_arrays(offsets, vectors.reshape(-1)),
            }
            write_deltalake(str(path), pa.table(columns), mode="append")


def to_bytes(kind: type[np.floating[Any]]) -> Callable[[pa.Array], pa.Array]:
    def convert(column: pa.Array) -> pa.Array:
        numbers = column.flatten().to_numpy(zero_copy_only=False).astype(kind)
        return pa.array([row.tobytes() for row in numbers.reshape(len(column), -1)], pa.binary())

    return convert


def dot_of_bytes(kind: type[np.floating[Any]]) -> Callable[[pa.Array, pa.Array], pa.Array]:
    def numbers(column: pa.Array) -> Any:
        return np.frombuffer(b"".join(column.to_pylist()), kind).reshape(len(column), -1).astype(np.float64)

    def dot(a: pa.Array, b: pa.Array) -> pa.Array:
        return pa.array(np.einsum("ij,ij->i", numbers(a), numbers(b)))

    return dot


def register(spark: SparkSession) -> None:
    vector_functions.register(spark)
    for name, kind in (("fp16", np.float16), ("fp32", np.float32)):
        spark.udf.register(f"{name}_bytes", arrow_udf(to_bytes(kind), "binary"))
        spark.udf.register(f"dot_{name}", arrow_udf(dot_of_bytes(kind), "double"))


def timed(work: Callable[[], Any], repeats: int = 1) -> float:
    """The least seconds of ``repeats``."""
    taken = []
    for _ in range(repeats):
        started = time.monotonic()
        work()
        taken.append(time.monotonic() - started)
    return min(taken)


def mib(path: Path) -> float:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20


def measure(spark: SparkSession, layout: Layout, base: Path, path: Path, rows: int) -> list[float]:
    """One row of the table: seconds and MiB, in the order of ``COLUMNS``."""
    table, one = f"delta.`{path}`", f"shop/{rows // 2:09d}.jpg"
    properties = ", ".join(f"'{name}' = '{value}'" for name, value in layout.properties.items())
    options = f"TBLPROPERTIES ({properties})" if properties else ""
    other = "image_id, encoder_version, product_id, category, content_sha256"
    select = f"SELECT {other}, {layout.vector} AS embedding FROM delta.`{base}`"
    for name, value in layout.conf.items():
        spark.conf.set(name, value)
    made = timed(lambda: spark.sql(f"CREATE TABLE {table} USING delta {layout.clause} {options} AS {select}"))
    optimized = timed(lambda: spark.sql(f"OPTIMIZE {table} {layout.optimize}"))
    for name in layout.conf:
        spark.conf.unset(name)
    spark.sql("SET spark.databricks.delta.retentionDurationCheck.enabled = false")
    spark.sql(f"VACUUM {table} RETAIN 0 HOURS")
    size = mib(path)
    here = f"{table} WHERE encoder_version = '{VERSIONS[0]}'"
    nearest = (
        f"SELECT /*+ BROADCAST(q) */ e.image_id, {layout.dot}(e.embedding, q.embedding) AS similarity "
        f"FROM (SELECT * FROM {here}) e, "
        f"(SELECT * FROM {here} AND image_id = '{one}') q ORDER BY similarity DESC LIMIT 10"
    )
    queries = (
        f"SELECT category, count(*) FROM {here} GROUP BY category",
        f"SELECT * FROM {here} AND image_id = '{one}'",
        nearest,
    )
    asked = [timed(asking(spark, query), REPEATS) for query in queries]
    without_jvm = timed(lambda: lookup(path, one), REPEATS)
    merged = timed(lambda: merge(spark, table))
    again = timed(asking(spark, nearest), REPEATS)
    return [size, made, optimized, *asked, without_jvm, merged, mib(path), again]


def asking(spark: SparkSession, query: str) -> Callable[[], Any]:
    """A new plan each time: one that ran before would take what its shuffles left."""
    return lambda: spark.sql(query).collect()


COLUMNS = (
    *("MiB", "written", "OPTIMIZE", "count", "one id", "neighbours", "one id, delta-rs"),
    *("MERGE of 1 %", "MiB after it", "neighbours after it"),
)


def lookup(path: Path, image_id: str) -> None:
    builder = QueryBuilder().register("t", DeltaTable(str(path)))
    found = builder.execute(f"SELECT * FROM t WHERE encoder_version = '{VERSIONS[0]}' AND image_id = '{image_id}'")
    assert len(pa.RecordBatchReader.from_stream(found).read_all()) == 1


def merge(spark: SparkSession, table: str) -> None:
    """What a night does that relabelled one photo in a hundred, spread over the whole table."""
    spark.sql(
        f"""
        MERGE INTO {table} t
        USING (SELECT * FROM {table} WHERE encoder_version = '{VERSIONS[0]}' AND abs(hash(image_id)) % 100 = 0) s
        ON t.encoder_version = '{VERSIONS[0]}' AND t.image_id = s.image_id
        WHEN MATCHED THEN UPDATE SET category = 'another'
        WHEN NOT MATCHED THEN INSERT *
        """
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the encoder version that is asked")
    parser.add_argument("--dim", type=int, default=512, help="of the vectors")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), metavar="LAYOUT")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        folder = Path(made)
        fill(folder / "base", given.rows, given.dim)
        spark = build_session(lake_settings(Settings(root=folder, home=folder / "home")), "table layout", large=True)
        register(spark)
        print(f"{given.rows} rows x {given.dim}; seconds and MiB\n")
        print(f"| layout | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
        for name in given.layouts:
            figures = measure(spark, LAYOUTS[name], folder / "base", folder / name, given.rows)
            shutil.rmtree(folder / name)
            shown = " | ".join(
                f"{figure:.0f}" if "MiB" in what else f"{figure:.2f}"
                for what, figure in zip(COLUMNS, figures, strict=True)
            )
            print(f"| {LAYOUTS[name].about} | {shown} |", flush=True)
        end_session()


if __name__ == "__main__":
    main()
