"""What a training set of many rows takes: seconds, and how much memory each process held.

A lake of generated vectors, ten photos a product, one in ten in the split test; the training set of the others is
joined by Feast and written once. The processes are the driver (Python, Spark's JVM, whose heap is bounded by
``spark.driver.memory``); the vectors alone take rows x dim x 4 bytes.

    python benchmarks/training_set.py --rows 1000000 --dim 768
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
from growth import fill_lake

from feature_repo import definitions
from spark_jobs.session import build_session
from training.build_training_set import build_training_set
from vitrine import feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.settings import load_settings
from vitrine.tables import CATALOG, LABELS

ENCODER = "efficientnet_lite0"


def fill(home: Path, rows: int, dim: int) -> None:
    """Vectors, labels and splits, with the encoder's view applied to Feast."""
    fill_lake(home, rows, dim, ENCODER)
    settings = load_settings(home)
    row = lake.query(settings, "SELECT encoder, encoder_version, dim FROM encoders")
    if not row.num_rows:
        subprocess.run([sys.executable, "-m", "vitrine", "embed", "--encoder", ENCODER], cwd=home, check=True)
    catalog = lake.query(settings, "SELECT * FROM catalog")
    last = pc.utf8_slice_codeunits(catalog["image_id"], -1)
    split = pc.if_else(pc.equal(last, "0"), "test", "train")
    at = catalog.schema.get_field_index("split")
    lake.write(settings, CATALOG, catalog.set_column(at, "split", split), replacing={"dataset": "shop"})
    labels = catalog.append_column("valid_from", catalog["updated_at"]).select(LABELS.schema.names)
    lake.write(settings, LABELS, pa.table(labels))
    feature_store.apply(feature_store.open_store(settings), definitions.objects(settings))


def build(home: Path) -> None:
    settings = load_settings(home)
    version = lake.rows(settings, "SELECT encoder_version FROM encoders")[0]["encoder_version"]
    encoded = EncodedSet("shop", ENCODER, version)
    made = build_training_set(settings, build_session(settings, "set"), "shop", "product_id", encoded)
    print(f"{made.train} to train, {made.validation} to validate, {len(made.classes)} classes", file=sys.stderr)


def watched(command: list[str], home: Path) -> tuple[float, dict[str, float]]:
    """Seconds, and the most that the processes of each program held at once, in MiB."""
    started, peak = time.monotonic(), {"python": 0.0, "java": 0.0}
    process = subprocess.Popen(command, cwd=home)
    while process.poll() is None:
        held = dict.fromkeys(peak, 0.0)
        for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
            try:
                held["java" if "java" in one.name() else "python"] += one.memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
        peak = {name: max(peak[name], held[name]) for name in peak}
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.monotonic() - started, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build(given.build)
        return
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        home = Path(made)
        fill(home, given.rows, given.dim)
        command = [sys.executable, str(Path(__file__).resolve()), "--build", made]
        seconds, peak = watched(command, home)
        print(f"\n{given.rows} rows x {given.dim}: {given.rows * given.dim * 4 / 2**20:.0f} MiB of vectors\n")
        print("| seconds | all Python processes, MiB | Spark's JVM, MiB | cores |\n|---|---|---|---|")
        print(f"| {seconds:.1f} | {peak['python']:.0f} | {peak['java']:.0f} | {os.cpu_count()} |")


if __name__ == "__main__":
    main()
