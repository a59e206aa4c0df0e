"""A head on stored embeddings: NumPy's rate beside the bare matrix product, and Delta to Delta beside reading and
writing alone.

The first table is of one core: a head of one hidden layer (D -> K, then unit length) against ``x @ w`` of the same
sizes. The second is of whole commands on a lake of generated vectors: ``vitrine embed --encoder HEAD``, and a plain
Spark job that reads the base's rows and writes as many rows of the head's width to a Delta table of its own. The
command also makes the products' vectors, from the rows it wrote: the last line is without those.

    python benchmarks/apply_head.py --rows 200000 --inputs 768 --units 512
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from growth import fill_lake
from pyspark.sql import functions as F

from spark_jobs.delta_tables import read_table
from spark_jobs.session import build_session
from vitrine import lake, runs
from vitrine.encoders import backbones, heads, identity, tuned
from vitrine.settings import load_settings
from vitrine.tables import EMBEDDINGS

ROUNDS, BATCH = 5, 10_000
ENCODER, HEAD = "efficientnet_lite0", "head"


def draw_head(inputs: int, units: int) -> heads.Head:
    random = np.random.default_rng(0)

    def layer(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        return random.standard_normal((rows, columns), np.float32), random.standard_normal(columns, np.float32)

    return heads.Head((layer(inputs, units),), layer(units, 2), ("a", "b"))


def rates(inputs: int, units: int) -> None:
    """One core's, in turns; in a process of its own, whose BLAS has one thread."""
    head = draw_head(inputs, units)
    x = np.random.default_rng(1).standard_normal((BATCH, inputs), np.float32)
    weight = head.layers[0][0]
    best = {"x @ w": 0.0, "head": 0.0}
    for _ in range(ROUNDS):
        for name, work in (("x @ w", lambda: x @ weight), ("head", lambda: head.embed(x))):
            started = time.perf_counter()
            for _ in range(5):
                work()
            best[name] = max(best[name], 5 * len(x) / (time.perf_counter() - started))
    print(f"vectors a second and core, {inputs} -> {units}\n\n| | vectors/s | of the bare product |\n|---|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {rate:.0f} | {rate / best['x @ w']:.2f} |")


def fill(home: Path, rows: int, inputs: int, units: int) -> None:
    """A home whose data set has a vector of the base for each image, and a head registered on that."""
    fill_lake(home, rows, inputs, ENCODER)
    settings = load_settings(home)
    head = draw_head(inputs, units)
    folder = settings.home / "models" / "top" / "drawn"
    folder.mkdir(parents=True)
    heads.save(head, folder)
    version = identity.identify(settings, backbones.resolve(settings, ENCODER)).encoder_version
    made: dict[str, Any] = asdict(backbones.resolve(settings, ENCODER))
    tuned.register(
        settings,
        tuned.Tuned(
            **{"name": HEAD, "strategy": "top", "base": ENCODER, "base_version": version, "source_dataset": "shop"},
            **{"encoder_version": heads.version(version, head), "label": "product_id", "training_set": "", "seed": 0},
            **{"folder": str(folder.relative_to(settings.home)), "dim": units, "backbone": made["name"]},
            **{"family": made["family"], "licence": made["licence"], "cost": {}},
        ),
    )


def read_and_write(home: Path, units: int) -> None:
    """The least that a job from Delta to Delta does: every base vector read, a row of the head's width written."""
    settings = load_settings(home)
    rows = read_table(build_session(settings, "read and write"), settings, EMBEDDINGS)
    rows = rows.withColumn("embedding", F.slice("embedding", 1, units))
    rows.write.format("delta").mode("overwrite").partitionBy("encoder_version").save(str(home / "copy"))


def run(home: Path, *command: str) -> float:
    started = time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=home, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--inputs", type=int, default=768)
    parser.add_argument("--units", type=int, default=512)
    given = parser.parse_args()
    sizes = json.dumps([given.inputs, given.units])
    one = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    subprocess.run([sys.executable, __file__, "--rates", sizes], env=one, check=True)
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        home = Path(made)
        fill(home, given.rows, given.inputs, given.units)
        embed = ("-m", "vitrine", "embed", "--dataset", "shop", "--encoder")
        run(home, *embed, ENCODER)  # the products' vectors of the base are not the head's work
        plain = run(home, __file__, "--copy", json.dumps([made, given.units]))
        ours = run(home, *embed, HEAD)
        (embedding,) = runs.read(load_settings(home), lake.matches(encoder=HEAD))
        products = embedding.figures["products_seconds"]
        print(f"\nseconds of the whole command, {given.rows} rows\n\n| | seconds | rows/s | times |\n|---|---|---|---|")
        shown = {"reading and writing": plain, "vitrine embed": ours, "without the products": ours - products}
        for name, seconds in shown.items():
            print(f"| {name} | {seconds:.1f} | {given.rows / seconds:.0f} | {seconds / plain:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rates"]:
        rates(*json.loads(sys.argv[2]))
    elif sys.argv[1:2] == ["--copy"]:
        home, units = json.loads(sys.argv[2])
        read_and_write(Path(home), units)
    else:
        main()
