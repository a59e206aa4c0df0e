"""Classifiers' predictions of a data set, scored: from ``predictions`` to ``metrics``."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.classification.classification_metrics import (
    NAMES,
    PairedClassifier,
    Predictions,
    calibration,
    classification_intervals,
    classification_metrics,
    confusion,
)
from evaluation.metrics_table import ALL_QUERIES, Scores, named, read_scores, write_scores
from evaluation.task import Task
from vitrine import facts, lake
from vitrine.settings import Settings
from vitrine.tables import PREDICTIONS


@dataclass(frozen=True)
class _Classifier:
    """A classifier that predicted a label of photos from an encoded set's vectors."""

    method: str
    label: str
    seed: int
    input_version: str
    """A fingerprint of when they were made, and from which training set."""

    @property
    def name(self) -> str:
        return f"{self.method} by {self.label}, seed {self.seed}"


def score_predictions(
    settings: Settings, task: Task, *, run_id: str, again: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """Score every classifier's predictions of the task's encoder version and data set, and write ``metrics``.

    Figures are of the catalog as it is embedded now, so predictions count only where they are of it too: of every
    labelled photo of one split, with the labels of now, and made since the vectors were.

    Returns:
        ``classifier``, ``label``, ``seed``, ``split``, ``photos``, ``metrics``, ``intervals``, ``calibration``,
        ``most_confused`` and, of few classes, ``confusion_matrix`` of each; and one sentence for each that was left
        out. ``computed`` is False where the figures were there already; ``again`` computes them anyway.
    """
    scored, left_out = [], []
    for classifier in _classifiers(settings, task):
        rows = _read(settings, task, classifier)
        split, fault = _checked(settings, task, classifier, rows)
        if fault:
            left_out.append(f"{classifier.name}: {fault}")
        else:
            scored.append(_score(settings, task, classifier, rows, split, run_id, again))
    return scored, left_out


def paired_predictions(settings: Settings, task: Task, other: Task) -> list[PairedClassifier]:
    """The classifiers (alike in label and seed) whose predictions count for both tasks' versions, photo by photo."""
    others = {classifier.name: classifier for classifier in _classifiers(settings, other)}
    paired = []
    for classifier in _classifiers(settings, task):
        name = classifier.name
        if name not in others:
            continue
        first, second = _read(settings, task, classifier), _read(settings, other, others[name])
        if _checked(settings, task, classifier, first)[1] or _checked(settings, other, others[name], second)[1]:
            continue
        first, second = _in_common(first, second), _in_common(second, first)
        if len(first):
            products = first.column("product_id").combine_chunks().dictionary_encode().indices.to_numpy()
            paired.append(PairedClassifier(name, _predictions(first)[0], _predictions(second)[0], products))
    return paired


def _in_common(rows: pa.Table, others: pa.Table) -> pa.Table:
    """The rows of ``rows`` whose photo is in ``others`` too, by image id."""
    ids = others.column("image_id").combine_chunks()
    return rows.filter(pc.is_in(rows.column("image_id"), value_set=ids)).sort_by("image_id")


def _classifiers(settings: Settings, task: Task) -> list[_Classifier]:
    rows = lake.rows(
        settings,
        "SELECT classifier, label, seed, max(predicted_at) AS made, min(training_set) AS learned, count(*) AS n "
        f"FROM {PREDICTIONS.name} WHERE {task.encoded.where} GROUP BY classifier, label, seed "
        "ORDER BY classifier, label, seed",
    )
    known = {*facts.LABELS_OF_ALL, *facts.attributes(settings, task.encoded.dataset)}
    return [
        _Classifier(
            row["classifier"],
            row["label"],
            row["seed"],
            hashlib.sha256(f"{row['made'].isoformat()}/{row['learned']}/{row['n']}".encode()).hexdigest()[:16],
        )
        for row in rows
        if row["label"] in known
    ]


def _read(settings: Settings, task: Task, classifier: _Classifier) -> pa.Table:
    """One row a prediction, beside what the photo is now; null there where it has no vector any more."""
    own = lake.matches(classifier=classifier.method, label=classifier.label, seed=classifier.seed)
    columns = ("image_id", "split", "product_id", "created_timestamp")
    return lake.query(
        settings,
        "SELECT p.image_id, p.truth, p.predicted[1] AS likeliest, array_has(p.predicted, p.truth) AS in_top, "
        "p.probabilities[1] AS confidence, e.split, e.product_id, "
        "coalesce(e.label = p.truth AND e.created_timestamp <= p.predicted_at, false) AS holds "
        f"FROM (SELECT * FROM {PREDICTIONS.name} WHERE {task.encoded.where} AND {own}) p LEFT JOIN "
        f"({facts.labelled(task.encoded, classifier.label, columns)}) e ON p.image_id = e.image_id",
    )


def _checked(settings: Settings, task: Task, classifier: _Classifier, rows: pa.Table) -> tuple[str, str | None]:
    """The split that the predictions are of, and why they do not count, None where they do."""
    splits = pc.unique(rows.column("split")).drop_null().to_pylist()
    moved = len(rows) - pc.sum(rows.column("holds").cast(pa.int64())).as_py()
    if moved or len(splits) != 1:
        return "", f"of an older catalog ({moved} of its {len(rows)} photos changed or went since): ask it again"
    split = str(splits[0])
    fresh = _counted(settings, task, classifier, split)[0] - len(rows)
    return split, f"of an older catalog (photos that came since: {fresh}): ask it again" if fresh else None


def _counted(settings: Settings, task: Task, classifier: _Classifier, split: str) -> tuple[int, int]:
    """How many photos of ``split`` have the label, and how many have none."""
    rows = facts.labelled(task.encoded, classifier.label, ["split"])
    sql = f"SELECT count(label) AS n, count(*) AS of_all FROM ({rows}) WHERE {lake.matches(split=split)}"
    row = lake.rows(settings, sql)[0]
    return int(row["n"]), int(row["of_all"] - row["n"])


def _score(
    settings: Settings,
    task: Task,
    classifier: _Classifier,
    rows: pa.Table,
    split: str,
    run_id: str,
    again: bool,
) -> dict[str, Any]:
    predictions, classes = _predictions(rows)
    key = task.key | {"query_split": split, "index_split": "", "relevant": classifier.label}
    key |= {"classifier": classifier.method, "seed": classifier.seed}
    known = {} if again else read_scores(settings, key, classifier.input_version)
    scores = known.get(ALL_QUERIES) or _scores(settings, task, classifier, predictions, rows, split)
    if not known:
        about = {"encoder": task.encoded.encoder, "run_id": run_id, "input_version": classifier.input_version}
        write_scores(settings, key, about, [scores])
    return {
        "classifier": classifier.method,
        "label": classifier.label,
        "seed": classifier.seed,
        "split": split,
        "photos": scores.queries,
        "photos_left_out": scores.queries_left_out,
        "computed": not known,
        **scores.figures(NAMES),
        **confusion(predictions, classes),
        "calibration": calibration(predictions),
    }


def _scores(
    settings: Settings, task: Task, classifier: _Classifier, predictions: Predictions, rows: pa.Table, split: str
) -> Scores:
    figures = classification_metrics(predictions)
    values = np.array([figures[name] for name in NAMES])
    products = rows.column("product_id").combine_chunks().dictionary_encode().indices.to_numpy()
    left_out = _counted(settings, task, classifier, split)[1]
    intervals = classification_intervals(predictions, products)
    return Scores(ALL_QUERIES, *named(NAMES, values, intervals), len(rows), left_out)


def _predictions(rows: pa.Table) -> tuple[Predictions, list[str]]:
    """The predictions with classes as numbers, and the classes' names."""
    both = pa.concat_arrays([rows.column(name).combine_chunks() for name in ("truth", "likeliest")])
    classes = sorted(pc.unique(both).to_pylist())
    numbers = pc.index_in(both, value_set=pa.array(classes, both.type)).to_numpy()
    return Predictions(
        numbers[: len(rows)],
        numbers[len(rows) :],
        rows.column("in_top").to_numpy(),
        rows.column("confidence").to_numpy().astype(np.float64),
    ), classes
