"""What a student gains by distillation: itself before and after, its teacher, and the student in its teacher's index.

Everything by the command line as a user would type it: the catalog ingested, teacher and student embedded, the student
distilled and embedded, once for each seed. The last rows ask the teacher's index with the student's vectors (the
queries' split by the student, the index's by the teacher). Queries for products of which no photo was ``train`` have
rows of their own (``compression.py half`` makes such a data set). Search is exact, in NumPy. A student's figures are
the mean over seeds, with their standard deviation; intervals are of the change of that mean against the student as it
was, by the paired bootstrap over products. With ``--home``, what was made there is found.

    python benchmarks/distil.py PHOTOS --layout grocery_store --teacher efficientnet_lite2 --student lite0_128 \\
        --settings benchmarks/tuning_gain.toml --home HOME
    python benchmarks/distil.py --dataset grocery_half --seeds 0 1 2 --home HOME
    python benchmarks/distil.py --dataset grocery_half --seeds 0 1 2 --home HOME --unlabelled gallery
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tuning_gain import METRICS, ingest, prepare, shown, vitrine

from evaluation.evaluate import plan
from evaluation.statistics.bootstrap import paired_difference
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name, processor
from vitrine.names import LEARNED_SPLIT
from vitrine.retrieval_metrics import nearest_first, per_query
from vitrine.settings import Settings, load_settings
from vitrine.vectors import matrix

_DEPTH = 100


@dataclass(frozen=True)
class Asked:
    """What queries found."""

    each: dict[str, Any]
    """By metric, (Q,)."""
    products: Any
    """Of each query, (Q,)."""


def ask(settings: Settings, dataset: str, asks: str, has: str) -> Asked:
    """Vectors of encoder ``asks`` in the index of ``has``."""
    sides = [EncodedSet(dataset, name, by_name.version(settings, name)) for name in (asks, has)]
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
    return Asked(per_query(np.take_along_axis(relevant, nearest, axis=1), relevant.sum(1)), truth)


def side(settings: Settings, where: str) -> tuple[Any, Any, Any]:
    rows = lake.query(
        settings, f"SELECT image_id, product_id, embedding FROM embeddings WHERE {where} ORDER BY image_id"
    )
    ids, products = (np.array(rows.column(name).to_pylist()) for name in ("image_id", "product_id"))
    return ids, matrix(rows.column("embedding")), products


def learned(settings: Settings, dataset: str) -> list[str]:
    """The products of the split ``train``."""
    where = lake.matches(dataset=dataset, split=LEARNED_SPLIT)
    return [row["product_id"] for row in lake.rows(settings, f"SELECT DISTINCT product_id FROM catalog WHERE {where}")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", help="left out: the home's data set, as it is")
    parser.add_argument("--layout", default="folder")
    parser.add_argument("--dataset", default="shop", help="where no photos are given")
    parser.add_argument("--teacher", default="efficientnet_lite2")
    parser.add_argument("--student", default="efficientnet_lite0")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--unlabelled", help="a split that the student learns from too: the index's", metavar="SPLIT")
    parser.add_argument("--linear", action="store_true", help="the teacher is a linear head on --teacher")
    parser.add_argument("--settings", type=Path, help="a vitrine.toml for a home that has none")
    parser.add_argument("--home", type=Path, help="a folder with a vitrine.toml; left out: one that is gone afterwards")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        home = given.home or Path(made)
        prepare(home, given.settings)
        dataset = "shop" if given.photos else given.dataset
        if given.photos:
            ingest(home, given.photos, given.layout)
        on = ("--dataset", dataset)
        teacher = given.teacher
        if given.linear:
            teacher = vitrine(home, "tune", "linear", "--encoder", teacher, *on)["encoder"]
        for name in (teacher, given.student):
            vitrine(home, "embed", "--encoder", name, *on)
        students, more = [], ("--unlabelled", given.unlabelled) if given.unlabelled else ()
        called = "_".join(filter(None, (dataset, given.unlabelled)))
        for seed in given.seeds:
            own = ("--seed", str(seed), "--name", f"{given.student}__distil__{called}{seed or ''}", *more)
            made_of = vitrine(home, "tune", "distil", "--teacher", teacher, "--encoder", given.student, *own, *on)
            students.append(made_of["encoder"])
            vitrine(home, "embed", "--encoder", students[-1], *on)
        report(load_settings(home), dataset, teacher, given.student, students)


def report(settings: Settings, dataset: str, teacher: str, before: str, students: list[str]) -> None:
    ways = {
        f"{before}, as it was": [(before, before)],
        f"{teacher}, the teacher": [(teacher, teacher)],
        "the student, in its own index": [(name, name) for name in students],
        "the student, in the teacher's index": [(name, teacher) for name in students],
    }
    base, known = ask(settings, dataset, before, before), learned(settings, dataset)
    places = {"known": np.isin(base.products, known), "new": ~np.isin(base.products, known)}
    print(f"{processor.model()} ({processor.instruction_set()}); {len(students)} seeds\n")
    print(f"| queries by | for products | {' | '.join(METRICS)} | change of mMP@5 |")
    print("|---" * (len(METRICS) + 3) + "|")
    for way, pairs in ways.items():
        found = [ask(settings, dataset, *pair) for pair in pairs]
        for which, mine in places.items():
            if mine.any():
                print(row(way, f"{which} ({mine.sum():,})", found, base, mine), flush=True)


def row(way: str, which: str, found: list[Asked], base: Asked, mine: Any) -> str:
    cells = [shown([float(np.nanmean(each.each[metric][mine])) for each in found]) for metric in METRICS]
    mean = np.mean([each.each["mMP@5"][mine] for each in found], axis=0)
    change = paired_difference(mean, base.each["mMP@5"][mine], base.products[mine])
    moved = f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
    return f"| {way} | {which} | {' | '.join(cells)} | {moved} |"


if __name__ == "__main__":
    main()
