"""Probes and whole tunings of every rung of the ladder on small tasks, kept for benchmarks/ladder.py to replay.

A task is a part of a data set: some classes, so many photos of each, one encoder. Its seeds draw other photos, and
other ones to validate with. Every strategy is probed as ``vitrine tune auto`` probes it, tuned in full, and asked about
the photos of the split ``test`` among those that it learned from. What is kept of each is its answers by query, and the
CPU seconds of its processes, which other work on the machine hardly changes. Processes that need torch are forked from
this one, which has it: its import would be most of what a task of some hundred photos takes. TensorFlow's is in the
figures of top-tuning (``--start`` says what it takes).

    python benchmarks/ladder_curves.py HOME benchmarks/ladder_curves.parquet --tasks fine5 fine10 --seeds 0

HOME has ladder.toml as its vitrine.toml, and the data sets that ``TASKS`` names: Grocery Store as ``grocery``
(``--layout grocery_store``), 40x12:1 as ``drawn`` and 40x12:2:sketch as ``sketched`` (``--layout generated --test-share
0.3``), embedded by their tasks' encoders. Killed, the same command goes on; the seconds of what was under way are then
those of its last process.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from training import full_tuning, linear_tuning, partial_tuning, photo_vectors, tune
from training.ladder.forecast import ByQuery
from training.ladder.judge import Answers, Judge, Judges
from training.ladder.rungs import SEEDS, AsItIs, HeadRung, NetworkRung, Rung, TunedRung
from training.training_set import ABOUT, TRAIN, VALIDATION, TrainingSet, read_training_set
from vitrine import files, lake, photo_store
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name, heads, tuned
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS

PROBED = {"linear": (0.125, 0.25, 0.5, 1.0), "top": (0.125, 0.25, 0.5), "from_head": (0.2, 0.4), "full": (0.1, 0.2)}
"""Shares of the full budget; those at which the rung above is probed are among them."""
STRATEGIES = ("linear", "top", "partial", "from_head", "full")
MOST_ASKED = 400
_VALIDATED = 0.1


@dataclass(frozen=True)
class Task:
    """What is learned: ``photos`` of each class, at most, of those classes whose photos' ids have ``within``."""

    name: str
    dataset: str = "grocery"
    encoder: str = "lite0_96"
    label: str = "product_id"
    photos: int = 1000
    within: str = ""
    wrong: float = 0.0
    """The share of labels that are drawn anew."""


TASKS = (
    Task("fine5", photos=5),
    Task("fine10", photos=10),
    Task("coarse5", label="category", photos=5),
    Task("coarse12", label="category", photos=12),
    Task("fruit", photos=8, within="/Fruit/"),
    Task("packages", photos=10, within="/Packages/"),
    Task("vegetables", photos=10, within="/Vegetables/"),
    Task("fine5_128", encoder="lite0_128", photos=5),
    Task("drawn", dataset="drawn"),
    Task("sketched", dataset="sketched"),
    Task("shuffled", photos=5, wrong=1.0),
    Task("a_third_wrong", photos=8, wrong=0.3),
    Task("fine15", photos=15),
    Task("packages_224", encoder="efficientnet_lite0", photos=5, within="/Packages/"),
)


class Rows:
    """The training set of a task, and the photos that ask it: tables of image_id, label, embedding and uri."""

    def __init__(self, settings: Settings, task: Task, seed: int) -> None:
        self.settings, self.task, self.seed = settings, task, seed
        version = by_name.version(settings, task.encoder)
        self.encoded = EncodedSet(task.dataset, task.encoder, version)
        photos = self._photos()
        random = np.random.default_rng([seed, *task.name.encode()])
        train, test = (photos.filter(pc.equal(photos["split"], split)) for split in ("train", "test"))
        train = train.take(random.permutation(len(train)))
        counts = _place(_codes(train[task.label])) < task.photos
        train = train.filter(pa.array(counts))
        kept = pc.unique(train[task.label]).to_pylist()
        self.classes = sorted(name for name in kept if pc.sum(pc.equal(train[task.label], name)).as_py() > 1)
        train, test = (self._numbered(rows) for rows in (train, test))
        same = pc.is_in(test["content_sha256"], value_set=train["content_sha256"].combine_chunks())
        test = test.filter(pc.invert(same))
        self.test = test.take(random.permutation(len(test))[:MOST_ASKED])
        self.train, self.mislabelled = train, self._mislabelled(train, random)
        self.validated = _validated(train, "product_id" if task.label == "category" else "image_id")

    def _photos(self) -> pa.Table:
        uri = photo_store.readable_in_sql(self.settings)
        photos = (
            f"SELECT image_id, product_id, category, split, content_sha256, {uri} AS uri FROM {CATALOG.name} "
            f"WHERE {lake.matches(dataset=self.task.dataset)} AND split IN ('train', 'test') "
            f"AND strpos(image_id, {lake.quote(self.task.within)}) > 0"
        )
        version = lake.matches("e", encoder_version=self.encoded.encoder_version)
        joined = f"SELECT c.*, e.embedding FROM ({photos}) c JOIN {EMBEDDINGS.name} e ON c.image_id = e.image_id"
        return lake.query(self.settings, f"{joined} WHERE {version} ORDER BY c.image_id")

    def _numbered(self, rows: pa.Table) -> pa.Table:
        at = pc.index_in(rows[self.task.label], value_set=pa.array(self.classes))
        return rows.append_column("label", at.cast(pa.int32())).filter(pc.is_valid(at))

    def _mislabelled(self, rows: pa.Table, random: np.random.Generator) -> pa.Table:
        labels = rows["label"].to_numpy().copy()
        wrong = random.random(len(labels)) < self.task.wrong
        labels[wrong] = random.permutation(labels[wrong])
        return rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(labels, pa.int32()))

    def learned(self) -> TrainingSet:
        validated = pa.array(self.validated)
        said = self.mislabelled
        return self._written("learned", said.filter(pc.invert(validated)), said.filter(validated))

    def asked(self) -> TrainingSet:
        """The photos of ``test`` in place of the validation part, and all others, by their right labels, as those that
        are searched."""
        return self._written("asked", self.train, self.test)

    def _written(self, what: str, train: pa.Table, validation: pa.Table) -> TrainingSet:
        key = json.dumps([asdict(self.task), self.seed, self.encoded.encoder_version, what])
        fingerprint = hashlib.sha256(key.encode()).hexdigest()[:16]
        folder = self.settings.home / "training" / fingerprint
        about = TrainingSet(
            folder="",
            dataset=self.task.dataset,
            label=self.task.label,
            encoder=self.encoded.encoder,
            encoder_version=self.encoded.encoder_version,
            as_of="",
            seed=self.seed,
            classes=self.classes,
            train=len(train),
            validation=len(validation),
            validation_from=TRAIN,
            only_trained=[],
            without_features=0,
            left_out=0,
            fingerprint=fingerprint,
        )
        for part, rows in ((TRAIN, train), (VALIDATION, validation)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            columns = rows.select(["image_id", "label", "embedding", "uri"])
            pq.write_table(columns, folder / part / "part.parquet")
        files.write_json(folder / ABOUT, asdict(about))
        return read_training_set(folder)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.unique(column.to_pylist(), return_inverse=True)[1]


def _place(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each row, how many of its code come before it."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    place = np.empty(len(codes), np.int64)
    place[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place


def _validated(train: pa.Table, unit: str) -> NDArray[np.bool_]:
    """A tenth of each class's units, at least one where it has two, as training sets are cut."""
    labels, units = train["label"].to_numpy(), _codes(train[unit])
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mine = list(dict.fromkeys(units[labels == label].tolist()))
        if len(mine) == 1:  # a class of one product: by photo
            rows = np.flatnonzero(labels == label)
            chosen[rows[: max(1, round(_VALIDATED * len(rows)))]] = len(rows) > 1
        else:
            count = min(max(1, round(_VALIDATED * len(mine))), len(mine) - 1)
            chosen |= (labels == label) & np.isin(units, mine[:count])
    return chosen


class Curves:
    """What is known so far, a row a probe or tuning, in one Parquet file that is written anew after each."""

    KEY = ("task", "seed", "strategy", "kind", "share", "probe_seed")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = pq.read_table(path).to_pylist() if path.exists() else []
        self.done = {tuple(row[name] for name in self.KEY) for row in self.rows}

    def add(self, key: tuple[object, ...], photos: int, ask: Callable[[], tuple[float | None, Answers]]) -> None:
        """``ask`` gives seconds of its own, or None: then those of the processes that it started count."""
        if key in self.done:
            return
        before = _child_seconds()
        seconds, answers = ask()
        seconds = _child_seconds() - before if seconds is None else seconds
        row = dict(zip(self.KEY, key, strict=True)) | {"photos": photos, "seconds": round(seconds, 2)}
        for kind in ("known", "new"):
            by_query: ByQuery = getattr(answers, kind)
            row[kind] = np.round(by_query.values, 4).astype(np.float32).tolist()
            row[f"{kind}_class"] = by_query.classes.astype(np.int32).tolist()
        self.rows.append(row)
        self.done.add(key)
        with files.whole(self.path) as fresh:
            pq.write_table(pa.Table.from_pylist(self.rows), fresh, compression="zstd")
        mean = np.nanmean(answers.known.values) if len(answers.known.values) else float("nan")
        print(*key, f"{seconds:.0f} s, known {mean:.3f}", file=sys.stderr, flush=True)


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _forked(job: Any, processes: int, *arguments: str) -> None:
    """In place of a new interpreter: this one, which has torch. TensorFlow and torch never share a process."""
    if job.module == "training.top_tuning":
        started_anew(job, processes, *arguments)
        return
    child = os.fork()
    if not child:
        code = 1
        try:
            WORK[job.module](job.folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"{job.module} failed")


started_anew = tune._Job._start
WORK = {
    "training.linear_tuning": linear_tuning.tune,
    "training.full_tuning": full_tuning.tune,
    "training.partial_tuning": partial_tuning.tune,
    "training.photo_vectors": photo_vectors.embed,
}


def measure(settings: Settings, task: Task, seed: int, curves: Curves) -> None:
    """All of one task with one seed."""
    rows = Rows(settings, task, seed)
    whole, asked = rows.learned(), rows.asked()
    print(task.name, seed, f"{len(whole.classes)} classes", whole.sizes, asked.validation, file=sys.stderr, flush=True)
    judges = Judges(settings, whole)
    photos = whole.train + whole.validation
    of_test = Judge(asked, np.ones(len(asked.classes), bool))
    as_it_is = AsItIs(judges)

    def key(rung: Rung, kind: str, share: float = 1.0, probe_seed: int = 0) -> tuple[object, ...]:
        return task.name, seed, rung.strategy, kind, share, probe_seed

    for share in sorted({*PROBED["linear"], *PROBED["top"]}):
        for probe_seed in SEEDS:
            answers = as_it_is.probe(share, probe_seed, share)[1]
            curves.add(key(as_it_is, "probe", share, probe_seed), photos, lambda found=answers: (0.0, found))
    curves.add(key(as_it_is, "judged"), photos, lambda: (0.0, as_it_is.judged()[1]))
    curves.add(key(as_it_is, "asked"), photos, lambda: (0.0, of_test.answers(of_test.by(lambda vectors: vectors))))
    for rung in _rungs(settings, task, judges):
        for share in PROBED.get(rung.strategy, ()):
            for probe_seed in SEEDS:
                products = rung.products_of(share)
                curves.add(
                    key(rung, "probe", share, probe_seed),
                    photos,
                    lambda rung=rung, at=(share, probe_seed, products): (None, rung.probe(*at)[1]),
                )
        curves.add(key(rung, "judged"), photos, lambda rung=rung: (None, _finished(rung)))
        curves.add(key(rung, "asked"), photos, lambda rung=rung: (None, _asked(settings, rung, asked, of_test)))


def _rungs(settings: Settings, task: Task, judges: Judges) -> Iterator[TunedRung]:
    whole = judges.whole
    for strategy in STRATEGIES:
        protocol = getattr(settings.tune, strategy)
        if strategy in tuned.HEADS:
            yield HeadRung(
                settings, judges, protocol, lambda p=protocol: tune.tune_head(settings, whole, p, "whole")[0]
            )
        else:

            def finish(protocol=protocol) -> tuned.Tuned:  # type: ignore[no-untyped-def]
                return tune.tune_full(settings, whole, task.encoder, protocol, "whole")[0]

            yield NetworkRung(settings, judges, whole, task.encoder, protocol, finish, 0.0)


def _finished(rung: TunedRung) -> Answers:
    rung.tune()
    return rung.judged()[1]


def _asked(settings: Settings, rung: TunedRung, asked: TrainingSet, of_test: Judge) -> Answers:
    """What the whole tuning answers of the photos of ``test``."""
    made = rung.tune()  # found as it was left
    if isinstance(rung, NetworkRung):
        other = NetworkRung(settings, Judges(settings, asked), asked, rung.encoder, rung.protocol, lambda: made, 0.0)
        other.tune()
        return other.judged()[1]
    head = heads.load(made.path(settings))
    return of_test.answers(of_test.by(head.embed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("curves", type=Path)
    parser.add_argument("--tasks", nargs="+", default=[task.name for task in TASKS], choices=[t.name for t in TASKS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--start", action="store_true", help="say what TensorFlow's start takes, and no more")
    given = parser.parse_args()
    if given.start:
        before = _child_seconds()
        subprocess.run([sys.executable, "-c", "import training.perceptron"], check=True, stderr=subprocess.DEVNULL)
        print(f"{_child_seconds() - before:.1f} CPU s; top-tuning starts it twice")
        return
    torch.set_num_threads(1)
    tune._Job._start = _forked  # type: ignore[method-assign]
    settings, curves = load_settings(given.home), Curves(given.curves.resolve())
    for seed in given.seeds:
        for task in TASKS:
            if task.name in given.tasks:
                measure(settings, task, seed, curves)


if __name__ == "__main__":
    main()
