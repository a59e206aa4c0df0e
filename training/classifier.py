"""Classifiers on frozen embeddings, and what they say of the evaluated split: rows of ``predictions``.

The classifier of a head, discriminants in closed form, a linear probe (multinomial logistic regression) and nearest
neighbours: learned from a training set, their one knob turned by its validation part, and only then asked about the
split that is reported. Discriminants and neighbours stream the whole training part, whatever its rows and classes; the
probe holds it, so it learns from ``MOST_ROWS`` at most, of ``MOST_CLASSES`` at most, and says what it leaves out.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import special

from training.linear_tuning import Cells, as_head, likeliest_scale, solutions
from training.shared_classes import unshared
from training.tag_kinds import MOST_CLASSES, probe
from training.training_set import TRAIN, VALIDATION, TrainingSet, first_rows, open_part
from training.tuning_process import LinearTuningRequest
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet, joined_rows
from vitrine.encoders.heads import Head
from vitrine.errors import UserError
from vitrine.retrieval_metrics import nearest_first
from vitrine.settings import Settings
from vitrine.tables import PREDICTIONS
from vitrine.tuning_sections import LinearSettings
from vitrine.vectors import Floats, matrix

PERCEPTRON, LINEAR_HEAD = "perceptron", "linear_head"
DISCRIMINANTS, LINEAR_PROBE, NEIGHBOURS = "discriminants", "linear_probe", "nearest_neighbours"
TOP = 5
MOST_ROWS = 100_000
"""That a probe learns from; the training set is shuffled, so its first rows do."""
_VALIDATED = 20_000
"""Rows of the validation part that turn the knob."""
_MOST_NUMBERS = 20_000_000  # of probabilities that are held at once
_BLOCK = 8192  # rows of the training part that neighbours are looked for in at once
_STRENGTHS = (1.0, 10.0, 100.0)  # inverse of the probe's L2 regularisation; inputs are small, so it is weak
_COUNTS = (1, 5, 10, 20)  # of neighbours

Classify = Callable[[Floats], Floats]
"""Embeddings, float32 (N, D) of unit length, to probabilities, float32 (N, classes)."""


def of_head(head: Head) -> Classify:
    """The classifier that a head was tuned with."""
    return lambda vectors: np.asarray(special.softmax(head.logits(vectors), axis=1), np.float32)


Learn = Callable[[TrainingSet], tuple[Classify, dict[str, Any]]]
"""From a training set to a classifier, and how it was made."""


def fit_for(rows: TrainingSet) -> dict[str, Learn]:
    """The classifiers that are fit for so many classes, by name; what is left out is said."""
    fit: dict[str, Learn] = {LINEAR_PROBE: linear_probe, NEIGHBOURS: neighbours, DISCRIMINANTS: discriminants}
    if len(rows.classes) > MOST_CLASSES:
        del fit[LINEAR_PROBE]
        print(
            f"{rows.dataset}: no linear probe of {len(rows.classes):,} classes, it is for {MOST_CLASSES:,} at most: "
            "discriminants are the linear classifier of so many",
            file=sys.stderr,
        )
    return fit


def discriminants(rows: TrainingSet) -> tuple[Classify, dict[str, Any]]:
    """Shrinkage discriminants in closed form (``training.linear_tuning``), of the strength that validation likes best:
    one pass over all rows, whatever the number of classes.

    Raises:
        UserError: every class has one photo.
    """
    request = LinearTuningRequest(rows.folder, rows.sizes, rows.classes, {}, rows.seed, 1.0, rows.validation_from)
    moments, (x, y) = Cells(request).all_of(TRAIN), _validation(rows)
    tried = []
    try:
        for candidate in solutions(moments, [DISCRIMINANTS], LinearSettings().strengths):
            head = as_head(candidate, moments, rows.classes)
            tried.append((_accuracy(head.logits, x, y), candidate.strength, head))
    except ArithmeticError as error:
        raise UserError(str(error)) from None
    accuracy, strength, head = max(tried, key=lambda item: item[0])
    some = max(_MOST_NUMBERS // len(rows.classes), 1)
    head = head.scaled(likeliest_scale(head.logits(x[:some]), y[:some])) if len(y) else head
    return of_head(head), {"strength": strength, "val_accuracy": accuracy, "rows": rows.train}


def linear_probe(rows: TrainingSet) -> tuple[Classify, dict[str, Any]]:
    """Multinomial logistic regression (scikit-learn's), as strong as the validation part likes best."""
    (x, y), validation = first_rows(rows.folder, TRAIN, MOST_ROWS), _validation(rows)
    if rows.train > MOST_ROWS:
        print(
            f"{rows.dataset}: the linear probe learns from {MOST_ROWS:,} of {rows.train:,} photos, drawn by chance",
            file=sys.stderr,
        )
    tried = []
    for strength in _STRENGTHS:
        classify = of_head(probe(x, y, rows.classes, strength, rows.seed))
        tried.append((_accuracy(classify, *validation), strength, classify))
    accuracy, strength, classify = max(tried, key=lambda item: item[0])
    how = {"C": strength, "val_accuracy": accuracy, "rows": len(y), "rows_left_out": rows.train - len(y)}
    return classify, how


def neighbours(rows: TrainingSet) -> tuple[Classify, dict[str, Any]]:
    """The share of each class among the nearest of the training part by cosine; as many as validation likes best.

    All of it is looked through, block by block, for each batch that is asked.
    """
    (x, y), classes = _validation(rows), len(rows.classes)
    most = min(max(_COUNTS), rows.train)
    near, labels = _nearest(rows.folder, x, most)
    tried = []
    for count in dict.fromkeys(min(count, most) for count in _COUNTS):
        right = 0
        for part in _steps(len(y), classes):
            said = _votes(near[part, :count], labels[part, :count], classes).argmax(1)
            right += int((said == y[part]).sum())
        tried.append((right / max(len(y), 1), count))
    accuracy, best = max(tried, key=lambda item: item[0])

    def classify(vectors: Floats) -> Floats:
        return _votes(*_nearest(rows.folder, vectors, best), classes)

    return classify, {"k": best, "val_accuracy": accuracy, "rows": rows.train}


def write_predictions(
    settings: Settings, rows: TrainingSet, classifier: str, classify: Classify, said_of: EncodedSet | None = None
) -> dict[str, Any]:
    """What ``classify`` makes of the reported split, replacing what the same ``classifier`` and seed made before.

    ``said_of`` is what the predictions count for; left out, the encoder whose vectors were learned from.

    Returns:
        ``split``, ``predicted`` (rows), ``accuracy`` and ``top5`` in [0, 1]; a photo of a class that was not learned
        counts as wrong. Where no photo is of a class that was learned, both are None and no rows are written.

    Raises:
        UserError: the data set has no split to report on.
    """
    encoded = rows.encoded
    split = facts.reported_split(settings, encoded)
    if split is None:
        raise UserError(
            f"data set {rows.dataset!r} has no split to report on: it needs one of {', '.join(facts.REPORTED)}"
        )
    if why := unshared(settings, rows):
        print(why, file=sys.stderr)
        return {"split": split, "predicted": 0, "accuracy": None, "top5": None}
    version = (said_of or encoded).encoder_version
    of_first = facts.labelled(encoded.parts[0], rows.label, ("image_id", "content_sha256", "split", "embedding"))
    asked = f"SELECT * FROM ({of_first}) WHERE {lake.matches(split=split)} AND label IS NOT NULL"
    photos = lake.stream(settings, joined_rows(encoded, "e0.image_id, e0.label AS truth", asked))
    table = pa.concat_tables(
        [
            _predict(rows, version, classifier, classify, batch.slice(part.start, part.stop - part.start))
            for batch in photos
            for part in _steps(len(batch), len(rows.classes))
        ]
    )
    key = {"dataset": encoded.dataset, "encoder_version": version, "classifier": classifier}
    lake.write(settings, PREDICTIONS, table, replacing={**key, "label": rows.label, "seed": rows.seed})
    pairs = list(zip(table["truth"].to_pylist(), table["predicted"].to_pylist(), strict=True))
    accuracy = float(np.mean([guesses[0] == truth for truth, guesses in pairs]))
    top5 = float(np.mean([truth in guesses for truth, guesses in pairs]))
    return {"split": split, "predicted": len(pairs), "accuracy": accuracy, "top5": top5}


def _predict(rows: TrainingSet, version: str, classifier: str, classify: Classify, batch: pa.RecordBatch) -> pa.Table:
    """Rows of ``predictions`` for a batch of ``image_id``, ``truth`` and ``embedding``."""
    shares = classify(matrix(batch["embedding"]))
    best = nearest_first(shares, min(TOP, shares.shape[1]))
    names = np.array(rows.classes, object)
    same = {
        "dataset": rows.dataset,
        "encoder_version": version,
        "classifier": classifier,
        "label": rows.label,
        "seed": rows.seed,
        "training_set": rows.fingerprint,
        "predicted_at": lake.now(),
    }
    columns = {name: [value] * len(batch) for name, value in same.items()} | {
        "image_id": batch["image_id"],
        "truth": batch["truth"],
        "predicted": [list(names[row]) for row in best],
        "probabilities": [list(shares[at, row]) for at, row in enumerate(best)],
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in PREDICTIONS.schema})


def _steps(count: int, classes: int) -> Iterator[slice]:
    """``count`` rows in steps that are small enough for a number for each class."""
    step = max(_MOST_NUMBERS // classes, 1)
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def _validation(rows: TrainingSet) -> tuple[Floats, NDArray[np.int32]]:
    return first_rows(rows.folder, VALIDATION, _VALIDATED)


def _nearest(folder: str, vectors: Floats, count: int) -> tuple[Floats, NDArray[np.int32]]:
    """Cosines and classes of the ``count`` nearest rows of the training part, nearest first: (N, count) each."""
    near = np.full((len(vectors), count), -np.inf, np.float32)
    labels = np.zeros((len(vectors), count), np.int32)
    for batch in open_part(folder, TRAIN).to_batches(columns=["embedding", "label"], batch_size=_BLOCK):
        if not len(batch):
            continue
        x, y = matrix(batch["embedding"]), batch["label"].to_numpy()
        for part in _steps(len(vectors), len(y)):
            cosines = np.concatenate([near[part], vectors[part] @ x.T], axis=1)
            own = np.broadcast_to(y, (len(cosines), len(y)))
            said = np.concatenate([labels[part], own], axis=1)
            order = nearest_first(cosines, count)
            near[part], labels[part] = (np.take_along_axis(each, order, axis=1) for each in (cosines, said))
    return near, labels


def _votes(near: Floats, labels: NDArray[np.int32], classes: int) -> Floats:
    """The share of each class among the neighbours, (N, classes)."""
    shares = np.zeros((len(near), classes), np.float32)
    # The nearest breaks ties: a vote weighs by its cosine, a little.
    np.add.at(shares, (np.arange(len(near))[:, None], labels), 1 + 1e-3 * near)
    return np.asarray(shares / shares.sum(1, keepdims=True), np.float32)


def _accuracy(scores: Classify, x: Floats, y: NDArray[np.int32]) -> float:
    """Of the class with the greatest of ``scores``; NaN without rows."""
    if not len(y):
        return float("nan")
    first = scores(x[:1]).shape[1]
    right = [scores(x[part]).argmax(1) == y[part] for part in _steps(len(y), first)]
    return float(np.concatenate(right).mean())
