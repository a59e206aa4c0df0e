"""What a student gains by distillation: itself before and after, its teacher, and the student in its teacher's index.

Everything by the command line as a user would type it: the catalog ingested, teacher and student embedded, the student
distilled and embedded. The last row asks the teacher's index with the student's vectors (the queries' split by the
student, the index's by the teacher). Search is exact, in NumPy. Intervals are of the change against the student as it
was, by the paired bootstrap over products. Photos a second are the embedding's: left out where nothing was to embed.
With ``--home``, what was made there is found.

    python benchmarks/distil.py PHOTOS --layout grocery_store --teacher efficientnet_lite2 --student lite0_128 \\
        --settings benchmarks/tuning_gain.toml --home HOME
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tuning_gain import METRICS, ingest, prepare, vitrine

from evaluation.evaluate import plan
from evaluation.statistics.bootstrap import paired_difference
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name, processor
from vitrine.retrieval_metrics import nearest_first, per_query
from vitrine.settings import Settings, load_settings
from vitrine.vectors import matrix

_DEPTH = 100


def figures(settings: Settings, asks: str, has: str) -> tuple[dict[str, Any], Any]:
    """Each query's metrics, (Q,), and its product: vectors of encoder ``asks`` in the index of ``has``."""
    sides = [EncodedSet("shop", name, by_name.version(settings, name)) for name in (asks, has)]
    tasks = [plan(settings, side, None, None, "product_id") for side in sides]
    (ids, asked, truth), (others, index, labels) = (
        side(settings, task.within(split))
        for task, split in zip(tasks, (tasks[0].query_split, tasks[1].index_split), strict=True)
    )
    nearness = asked @ index.T
    itself = ids[:, None] == others[None]
    nearness[itself] = -np.inf
    relevant = (truth[:, None] == labels[None]) & ~itself
    nearest = nearest_first(nearness, min(_DEPTH, len(labels) - int(itself.any())))
    return per_query(np.take_along_axis(relevant, nearest, axis=1), relevant.sum(1)), truth


def side(settings: Settings, where: str) -> tuple[Any, Any, Any]:
    rows = lake.query(
        settings, f"SELECT image_id, product_id, embedding FROM embeddings WHERE {where} ORDER BY image_id"
    )
    ids, products = (np.array(rows.column(name).to_pylist()) for name in ("image_id", "product_id"))
    return ids, matrix(rows.column("embedding")), products


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", help="left out: the home's data set `shop`, as it is")
    parser.add_argument("--layout", default="folder")
    parser.add_argument("--teacher", default="efficientnet_lite2")
    parser.add_argument("--student", default="efficientnet_lite0")
    parser.add_argument("--linear", action="store_true", help="the teacher is a linear head on --teacher")
    parser.add_argument("--settings", type=Path, help="a vitrine.toml for a home that has none")
    parser.add_argument("--home", type=Path, help="a folder with a vitrine.toml; left out: one that is gone afterwards")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        home = given.home or Path(made)
        prepare(home, given.settings)
        if given.photos:
            ingest(home, given.photos, given.layout)
        on = ("--dataset", "shop")
        teacher = given.teacher
        if given.linear:
            teacher = vitrine(home, "tune", "linear", "--encoder", teacher, *on)["encoder"]
        student = vitrine(home, "tune", "distil", "--teacher", teacher, "--encoder", given.student, *on)
        names = (teacher, given.student, student["encoder"])
        rates = {name: vitrine(home, "embed", "--encoder", name, *on).get("images_per_second") for name in names}
        report(load_settings(home), names, student, rates)


def report(settings: Settings, names: tuple[str, str, str], student: dict[str, Any], rates: dict[str, Any]) -> None:
    teacher, before, after = names
    pairs = {
        f"{before}, as it was": (before, before),
        f"{teacher}, the teacher": (teacher, teacher),
        f"{after}, in its own index": (after, after),
        f"{after}, in the teacher's index": (after, teacher),
    }
    base, products = figures(settings, before, before)
    print(f"{processor.model()} ({processor.instruction_set()}); training {student['training_seconds']:.0f} s\n")
    print(f"| queries by | {' | '.join(METRICS)} | change of mMP@5 | photos a second |")
    print("|---" * (len(METRICS) + 3) + "|")
    for name, (asks, has) in pairs.items():
        each, _ = figures(settings, asks, has)
        change = paired_difference(each["mMP@5"], base["mMP@5"], products)
        values = " | ".join(f"{np.nanmean(each[metric]):.3f}" for metric in METRICS)
        moved = f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
        print(f"| {name} | {values} | {moved} | {rates[asks] or ''} |", flush=True)


if __name__ == "__main__":
    main()
