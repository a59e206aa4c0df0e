"""What a linear head takes on many rows: seconds and memory of the process that fits it.

The training set is generated as data, in files as ``training.build_training_set`` writes them, and the process is the
one that ``vitrine tune linear`` starts. All strengths of all kinds are tried, for known and for new classes.

    python benchmarks/linear_rows.py --rows 1000000 --dim 768 --classes 10000
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.training_set import TRAIN, VALIDATION
from training.tuning_process import REQUEST, RESULT, LinearTuningRequest
from vitrine.encoders import processor
from vitrine.tuning_sections import LinearSettings

ROWS_A_FILE = 50_000


def write(folder: Path, rows: int, dim: int, classes: int) -> None:
    """Rows of unit length about a point for each class."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(len(folder.name))
    centres = np.random.default_rng(0).normal(size=(classes, dim)).astype(np.float32)
    for first in range(0, rows, ROWS_A_FILE):
        count = min(ROWS_A_FILE, rows - first)
        labels = random.integers(classes, size=count).astype(np.int32)
        x = centres[labels] + 3 * random.normal(size=(count, dim)).astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        offsets = np.arange(0, count * dim + 1, dim, dtype=np.int32)
        embedding = pa.ListArray.from_arrays(offsets, x.ravel())
        ids = [f"{folder.name}/{first + at}" for at in range(count)]
        table = pa.table({"image_id": ids, "label": labels, "embedding": embedding})
        pq.write_table(table, folder / f"{first:09d}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the training part; a tenth more validates")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--classes", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        folder, sizes = Path(made), {TRAIN: given.rows, VALIDATION: given.rows // 10}
        for part, rows in sizes.items():
            write(folder / "set" / part, rows, given.dim, given.classes)
        request = LinearTuningRequest(
            training_set=str(folder / "set"),
            rows=sizes,
            classes=[f"c{number}" for number in range(given.classes)],
            settings=LinearSettings().model_dump(mode="json"),
            seed=0,
            known_share=0.5,
            validation_from=TRAIN,
        )
        (folder / "tuning").mkdir()
        (folder / "tuning" / REQUEST).write_text(json.dumps(asdict(request)))
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "training.linear_tuning", str(folder / "tuning")], check=True)
        wall, used = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        result = json.loads((folder / "tuning" / RESULT).read_text())
    print(f"{processor.model()} ({processor.instruction_set()})\n")
    print("| rows | dimensions | classes | seconds | of it: sums | choice | fit | CPU seconds | MiB at most |")
    print("|---|---|---|---|---|---|---|---|---|")
    steps = " | ".join(f"{result['seconds'][step]:.0f}" for step in ("sums", "choice", "training"))
    cpu, most = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"| {given.rows:,} | {given.dim} | {given.classes:,} | {wall:.0f} | {steps} | {cpu:.0f} | {most:,.0f} |")
    best = result["recipe"]
    score = f"{result['val_score']:.3f}, as it is {result['val_score_as_it_is']:.3f}"
    print(f"\n{best['kind']} {best['strength']:g}: {score}")


if __name__ == "__main__":
    main()
