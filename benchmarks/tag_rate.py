"""Drawn vectors tagged: whole commands on a lake of generated vectors, beside reading and writing alone.

``vitrine tag --all`` by a drawn classifier of 80 classes, and a plain Spark job that reads the same vectors and writes
as many rows of tags to a Delta table of its own. The command also makes the products' tags, ten photos each, counts
what became of all tags, and asks what is new; the second command finds nothing to do. Each of the ``--rounds`` begins
without tags.

    python benchmarks/tag_rate.py --rows 1000000 --dim 512
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from growth import fill_lake
from pyspark.sql import functions as F

from spark_jobs.delta_tables import read_table, spark_schema
from spark_jobs.session import build_session
from vitrine import lake
from vitrine.encoders import backbones, classifiers, heads, identity
from vitrine.encoders.classifiers import COSINE, About, Classifier, Space
from vitrine.settings import load_settings
from vitrine.tables import CLASSIFIERS, EMBEDDINGS, PRODUCT_TAGS, TAGS

ENCODER, CLASSES = "efficientnet_lite0", 80


def draw_classifier(dim: int, version: str) -> Classifier:
    """Discriminants of drawn classes; half of the photos are unlike what it learned."""
    random, kept = np.random.default_rng(0), min(CLASSES - 1, dim)
    weight, means = (random.standard_normal(size, np.float32) for size in ((dim, kept), (CLASSES, kept)))
    zero = np.zeros(kept, np.float32)
    about = About("shop", "category", ENCODER, version, "discriminants", 0.1, "drawn", 0.5, 0.7, {}, rule=COSINE)
    head = heads.Head(
        ((weight, zero),),
        (np.ascontiguousarray(means.T), np.zeros(CLASSES, np.float32)),
        tuple(f"class {number}" for number in range(CLASSES)),
        activation="linear",
    )
    return Classifier(about, head, Space(COSINE, weight, zero, means))


def fill(home: Path, rows: int, dim: int) -> None:
    """A home with vectors, and a classifier that tags them."""
    fill_lake(home, rows, dim, ENCODER)
    settings = load_settings(home)
    made = draw_classifier(dim, identity.identify(settings, backbones.resolve(settings, ENCODER)).encoder_version)
    classifiers.save(settings, made)
    row: dict[str, Any] = {"dataset": "shop", "label": "category", "promoted_at": lake.now(), "gate": "{}"}
    row |= {"classifier_version": made.version, "encoder": ENCODER, "encoder_version": made.about.encoder_version}
    row |= {"kind": made.about.kind, "training_set": made.about.training_set, "threshold": made.about.threshold}
    lake.append(settings, CLASSIFIERS, [row])


def read_and_write(home: Path) -> None:
    """The least that a job from Delta to Delta does: every vector read, a row of tags written for each."""
    settings = load_settings(home)
    rows = read_table(build_session(settings, "read and write"), settings, EMBEDDINGS)
    said = {"probability": F.element_at("embedding", -1), "abstained": F.lit(True), "tagged_at": F.lit(lake.now())}
    own = ("image_id", "dataset", "encoder_version", "content_sha256")
    said |= {name: F.col(name) for name in own}
    columns = [said.get(f.name, F.lit("class")).cast(f.dataType).alias(f.name) for f in spark_schema(TAGS.schema)]
    rows.select(*columns).write.format("delta").mode("overwrite").partitionBy("dataset").save(str(home / "copy"))


def run(home: Path, *command: str) -> tuple[float, str]:
    """Seconds, and what it printed."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=home, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return time.monotonic() - started, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in ("reading and writing", "tagged", "nothing new")}
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        fill(Path(made), given.rows, given.dim)
        for turn in range(given.rounds):
            for name, took in zip(seconds, one_round(Path(made), given.rows), strict=True):
                seconds[name].append(took)
                print(f"round {turn + 1}: {name} {took:.1f} s", file=sys.stderr)
    plain = statistics.median(seconds["reading and writing"])
    print(f"seconds of the whole command, {given.rows:,} vectors of {given.dim} numbers, {os.cpu_count()} cores\n")
    print("| | seconds, median (least) | rows/s | times |\n|---|---|---|---|")
    for name, each in seconds.items():
        middle = statistics.median(each)
        print(f"| {name} | {middle:.1f} ({min(each):.1f}) | {given.rows / middle:,.0f} | {middle / plain:.2f} |")


def one_round(home: Path, rows: int) -> tuple[float, float, float]:
    """Seconds to read and write alone, to tag all, and to find nothing new."""
    for table in (TAGS, PRODUCT_TAGS):
        shutil.rmtree(table.path(load_settings(home)), ignore_errors=True)
    shutil.rmtree(home / "copy", ignore_errors=True)
    tag = ("-m", "vitrine", "tag", "--dataset", "shop", "--encoder", ENCODER, "--all", "--json")
    plain, _ = run(home, __file__, "--copy", str(home))
    first, said = run(home, *tag)
    assert json.loads(said)["tagged"] == rows, said
    again, said = run(home, *tag)
    assert json.loads(said)["tagged"] == 0, said
    return plain, first, again


if __name__ == "__main__":
    if sys.argv[1:2] == ["--copy"]:
        read_and_write(Path(sys.argv[2]))
    else:
        main()
