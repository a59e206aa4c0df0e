"""Classifiers on frozen embeddings, and what they say of the evaluated split: rows of ``predictions``.

The classifier of a head, a linear probe (multinomial logistic regression) and nearest neighbours: learned from a
training set, their one knob turned by its validation part, and only then asked about the split that is reported.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import special

from training.training_set import TRAIN, VALIDATION, TrainingSet, first_rows
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet, joined_rows
from vitrine.encoders.heads import Head
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import PREDICTIONS
from vitrine.vectors import Floats, matrix

PERCEPTRON, LINEAR_HEAD = "perceptron", "linear_head"
LINEAR_PROBE, NEIGHBOURS = "linear_probe", "nearest_neighbours"
TOP = 5
_MOST_ROWS = 100_000  # that a probe or neighbours learn from; the training set is shuffled, so its first rows do
_BLOCK = 2048
_STRENGTHS = (1.0, 10.0, 100.0)  # inverse of the probe's L2 regularisation; inputs are small, so it is weak
_COUNTS = (1, 5, 10, 20)  # of neighbours

Classify = Callable[[Floats], Floats]
"""Embeddings, float32 (N, D) of unit length, to probabilities, float32 (N, classes)."""


def of_head(head: Head) -> Classify:
    """The classifier that a head was tuned with."""
    return lambda vectors: np.asarray(special.softmax(head.logits(vectors), axis=1), np.float32)


def linear_probe(rows: TrainingSet) -> tuple[Classify, dict[str, Any]]:
    """Multinomial logistic regression (scikit-learn's), as strong as the validation part likes best."""
    from sklearn.linear_model import LogisticRegression

    (x, y), validation = (first_rows(rows.folder, part, _MOST_ROWS) for part in (TRAIN, VALIDATION))
    tried = []
    for strength in _STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000, random_state=rows.seed).fit(x, y)
        # Classes that the first rows lack have no column of their own.
        classify = _spread(model.predict_proba, model.classes_, len(rows.classes))
        tried.append((_accuracy(classify, *validation), strength, classify))
    accuracy, strength, classify = max(tried, key=lambda item: item[0])
    return classify, {"C": strength, "val_accuracy": accuracy, "rows": len(y)}


def neighbours(rows: TrainingSet) -> tuple[Classify, dict[str, Any]]:
    """The share of each class among the nearest of the training part by cosine; as many as validation likes best."""
    (x, y), validation = (first_rows(rows.folder, part, _MOST_ROWS) for part in (TRAIN, VALIDATION))
    tried = []
    for count in _COUNTS:
        classify = _votes(x, y, min(count, len(y)), len(rows.classes))
        tried.append((_accuracy(classify, *validation), count, classify))
    accuracy, count, classify = max(tried, key=lambda item: item[0])
    return classify, {"k": count, "val_accuracy": accuracy, "rows": len(y)}


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
    if not facts.has_one_of(settings, encoded, split, rows.label, rows.classes):
        print(
            f"{rows.dataset}: no photo of split {split!r} is of a {rows.label} that was learned, so there is no "
            "accuracy: the splits share no class. Another --label may be shared; retrieval is what measures this one",
            file=sys.stderr,
        )
        return {"split": split, "predicted": 0, "accuracy": None, "top5": None}
    version = (said_of or encoded).encoder_version
    of_first = facts.labelled(encoded.parts[0], rows.label, ("image_id", "content_sha256", "split", "embedding"))
    asked = f"SELECT * FROM ({of_first}) WHERE {lake.matches(split=split)} AND label IS NOT NULL"
    photos = lake.stream(settings, joined_rows(encoded, "e0.image_id, e0.label AS truth", asked))
    table = pa.concat_tables([_predict(rows, version, classifier, classify, batch) for batch in photos])
    key = {"dataset": encoded.dataset, "encoder_version": version, "classifier": classifier}
    lake.write(settings, PREDICTIONS, table, replacing={**key, "label": rows.label, "seed": rows.seed})
    pairs = list(zip(table["truth"].to_pylist(), table["predicted"].to_pylist(), strict=True))
    accuracy = float(np.mean([guesses[0] == truth for truth, guesses in pairs]))
    top5 = float(np.mean([truth in guesses for truth, guesses in pairs]))
    return {"split": split, "predicted": len(pairs), "accuracy": accuracy, "top5": top5}


def _predict(rows: TrainingSet, version: str, classifier: str, classify: Classify, batch: pa.RecordBatch) -> pa.Table:
    """Rows of ``predictions`` for a batch of ``image_id``, ``truth`` and ``embedding``."""
    shares = classify(matrix(batch["embedding"]))
    best = np.argsort(-shares, axis=1, kind="stable")[:, :TOP]
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


def _votes(x: Floats, y: NDArray[np.int32], count: int, classes: int) -> Classify:
    def votes(vectors: Floats) -> Floats:
        shares = np.zeros((len(vectors), classes), np.float32)
        for first in range(0, len(vectors), _BLOCK):
            nearness = vectors[first : first + _BLOCK] @ x.T
            nearest = np.argpartition(-nearness, count - 1, axis=1)[:, :count]
            for at, row in enumerate(nearest, first):
                # The nearest breaks ties: a vote weighs by its cosine, a little.
                np.add.at(shares[at], y[row], 1 + 1e-3 * nearness[at - first, row])
        return np.asarray(shares / shares.sum(1, keepdims=True), np.float32)

    return votes


def _spread(predict: Callable[[Floats], Any], known: NDArray[Any], classes: int) -> Classify:
    def spread(vectors: Floats) -> Floats:
        shares = np.zeros((len(vectors), classes), np.float32)
        shares[:, known] = predict(vectors)
        return shares

    return spread


def _accuracy(classify: Classify, x: Floats, y: NDArray[np.int32]) -> float:
    return float((classify(x).argmax(1) == y).mean())
