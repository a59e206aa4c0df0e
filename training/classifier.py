"""Classifiers on frozen embeddings, and what they say of the evaluated split: rows of ``predictions``.

The perceptron of top-tuning, a linear probe (multinomial logistic regression) and nearest neighbours: learned from a
training set, their one knob turned by its validation part, and only then asked about the split that is reported.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from numpy.typing import NDArray

from training.training_set import TRAIN, VALIDATION, TrainingSet
from vitrine import lake
from vitrine.encoders.heads import Head
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, PREDICTIONS

PERCEPTRON, LINEAR_PROBE, NEIGHBOURS = "perceptron", "linear_probe", "nearest_neighbours"
REPORTED = ("test", "query")
TOP = 5
_MOST_ROWS = 100_000  # that a probe or neighbours learn from; the training set is shuffled, so its first rows do
_BLOCK = 2048
_STRENGTHS = (1.0, 10.0, 100.0)  # inverse of the probe's L2 regularisation; inputs are small, so it is weak
_COUNTS = (1, 5, 10, 20)  # of neighbours

Floats = NDArray[np.float32]
Says = Callable[[Floats], Floats]
"""Embeddings, float32 (N, D) of unit length, to probabilities, float32 (N, classes)."""


def perceptron(head: Head) -> Says:
    """The classifier that top-tuning trained."""
    return lambda vectors: _softmax(head.logits(vectors))


def linear_probe(rows: TrainingSet) -> tuple[Says, dict[str, Any]]:
    """Multinomial logistic regression (scikit-learn's), as strong as the validation part likes best."""
    from sklearn.linear_model import LogisticRegression

    (x, y), validation = _part(rows, TRAIN), _part(rows, VALIDATION)
    found = []
    for strength in _STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000, random_state=rows.seed).fit(x, y)
        # Classes that the first rows lack have no column of their own.
        says = _spread(model.predict_proba, model.classes_, len(rows.classes))
        found.append((_accuracy(says, *validation), strength, says))
    accuracy, strength, says = max(found, key=lambda item: item[0])
    return says, {"C": strength, "val_accuracy": accuracy, "rows": len(y)}


def neighbours(rows: TrainingSet) -> tuple[Says, dict[str, Any]]:
    """The share of each class among the nearest of the training part by cosine; as many as validation likes best."""
    (x, y), validation = _part(rows, TRAIN), _part(rows, VALIDATION)
    found = []
    for count in _COUNTS:
        says = _votes(x, y, min(count, len(y)), len(rows.classes))
        found.append((_accuracy(says, *validation), count, says))
    accuracy, count, says = max(found, key=lambda item: item[0])
    return says, {"k": count, "val_accuracy": accuracy, "rows": len(y)}


def write_predictions(
    settings: Settings, rows: TrainingSet, classifier: str, says: Says, dataset: str | None = None
) -> dict[str, Any]:
    """What ``says`` thinks of the reported split, replacing what the same classifier and seed thought before.

    Returns:
        ``split``, ``predicted`` (rows), ``accuracy`` and ``top5`` in [0, 1]; a photo of a class that was not learned
        counts as wrong.

    Raises:
        UserError: the data set has no split to report on.
    """
    dataset = dataset or rows.dataset
    split = reported_split(settings, dataset, str(rows.encoder_version))
    if split is None:
        raise UserError(f"data set {dataset!r} has no split to report on: it needs one of {', '.join(REPORTED)}")
    made = [
        _predict(rows, classifier, says, dataset, batch) for batch in _reported_rows(settings, rows, dataset, split)
    ]
    table = pa.concat_tables(made)
    key = {"dataset": dataset, "encoder_version": str(rows.encoder_version), "classifier": classifier}
    lake.write(settings, PREDICTIONS, table, replacing={**key, "label": rows.label, "seed": rows.seed})
    truth, guesses = table["truth"].to_pylist(), table["predicted"].to_pylist()
    right = [said[0] == true for said, true in zip(guesses, truth, strict=True)]
    in_top = [true in said for said, true in zip(guesses, truth, strict=True)]
    return {"split": split, "predicted": len(right), "accuracy": float(np.mean(right)), "top5": float(np.mean(in_top))}


def reported_split(settings: Settings, dataset: str, version: str) -> str | None:
    """The split of ``dataset`` that classifiers are asked about, where there is one with vectors."""
    where = f"encoder_version = {lake.quote(version)} AND dataset = {lake.quote(dataset)}"
    known = {row["split"] for row in lake.rows(settings, f"SELECT DISTINCT split FROM {EMBEDDINGS.name} WHERE {where}")}
    return next((split for split in REPORTED if split in known), None)


def _reported_rows(settings: Settings, rows: TrainingSet, dataset: str, split: str) -> Iterator[pa.RecordBatch]:
    where = f"encoder_version = {lake.quote(str(rows.encoder_version))} AND dataset = {lake.quote(dataset)}"
    return lake.stream(
        settings,
        f"SELECT image_id, {rows.label} AS truth, embedding FROM {EMBEDDINGS.name} "
        f"WHERE {where} AND split = {lake.quote(split)} AND {rows.label} IS NOT NULL",
    )


def _predict(rows: TrainingSet, classifier: str, says: Says, dataset: str, batch: pa.RecordBatch) -> pa.Table:
    vectors = batch["embedding"].flatten().to_numpy().reshape(len(batch), -1)
    shares = says(vectors)
    best = np.argsort(-shares, axis=1, kind="stable")[:, :TOP]
    names = np.array(rows.classes, object)
    same = {
        "dataset": dataset,
        "encoder_version": rows.encoder_version,
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


def _part(rows: TrainingSet, part: str) -> tuple[Floats, NDArray[np.int32]]:
    files = sorted(str(path) for path in (Path(rows.folder) / part).glob("*.parquet"))
    table = pyarrow.dataset.dataset(files).head(_MOST_ROWS, columns=["embedding", "label"], use_threads=False)
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    return flat.reshape(len(table), -1), table["label"].to_numpy()


def _votes(x: Floats, y: NDArray[np.int32], count: int, classes: int) -> Says:
    def says(vectors: Floats) -> Floats:
        shares = np.zeros((len(vectors), classes), np.float32)
        for first in range(0, len(vectors), _BLOCK):
            nearness = vectors[first : first + _BLOCK] @ x.T
            nearest = np.argpartition(-nearness, count - 1, axis=1)[:, :count]
            for at, row in enumerate(nearest, first):
                # The nearest breaks ties: a vote weighs by its cosine, a little.
                np.add.at(shares[at], y[row], 1 + 1e-3 * nearness[at - first, row])
        return np.asarray(shares / shares.sum(1, keepdims=True), np.float32)

    return says


def _spread(says: Callable[[Floats], Any], known: NDArray[Any], classes: int) -> Says:
    def spread(vectors: Floats) -> Floats:
        found = np.zeros((len(vectors), classes), np.float32)
        found[:, known] = says(vectors)
        return found

    return spread


def _accuracy(says: Says, x: Floats, y: NDArray[np.int32]) -> float:
    return float((says(x).argmax(1) == y).mean())


def _softmax(logits: Floats) -> Floats:
    logits = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(logits / logits.sum(1, keepdims=True), np.float32)
