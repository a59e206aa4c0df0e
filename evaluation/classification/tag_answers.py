"""What a stored classifier says of the split that is reported, and its figures in ``metrics``."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from evaluation.classification.classification_metrics import (
    NAMES,
    Predictions,
    calibration,
    classification_intervals,
    classification_metrics,
)
from evaluation.metrics_table import ALL_QUERIES, Scores, named, write_scores
from evaluation.statistics.bootstrap import interval, resample
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.classifiers import Classifier
from vitrine.settings import Settings
from vitrine.vectors import matrix

TAG_NAMES = (*NAMES, "coverage", "tag_precision")
TOP = 5
MOST_CLASSES = 1_000
"""That have figures of their own."""


@dataclass(frozen=True)
class Answers:
    """What a classifier says of the labelled photos of a split, (N,) each, by image id."""

    split: str
    ids: NDArray[Any]
    products: NDArray[Any]
    truth: NDArray[Any]
    said: NDArray[Any]
    """The likeliest class."""
    probability: NDArray[np.floating]
    """Of that."""
    in_top: NDArray[np.bool_]
    """The label is among the five likeliest classes."""
    tagged: NDArray[np.bool_]
    known: NDArray[np.bool_]
    """The label is a class that it learned."""

    def at(self, places: NDArray[np.integer]) -> "Answers":
        """Those at ``places``, in that order."""
        arrays = (getattr(self, each.name)[places] for each in fields(self) if each.name != "split")
        return Answers(self.split, *arrays)

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.truth == self.said)

    @property
    def predictions(self) -> Predictions:
        """All of them, as predictions whose classes are numbers."""
        codes = np.unique(np.concatenate([self.truth, self.said]).astype(str), return_inverse=True)[1]
        numbers = codes[: len(self.ids)], codes[len(self.ids) :]
        return Predictions(*numbers, self.in_top, self.probability.astype(np.float64))


def ask_reported(settings: Settings, classifier: Classifier) -> Answers | None:
    """What it says of the split that is reported; None where the data set has none with this label."""
    about = classifier.about
    encoded = EncodedSet(about.dataset, about.encoder, about.encoder_version)
    split = facts.reported_split(settings, encoded)
    if split is None:
        return None
    rows = facts.labelled(encoded, about.label, ("image_id", "product_id", "split", "embedding"))
    asked = f"SELECT * FROM ({rows}) WHERE {lake.matches(split=split)} AND label IS NOT NULL"
    parts = [*_answers(classifier, lake.stream(settings, asked))]
    if not parts:
        return None
    columns_of = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns_of[0])
    return Answers(split, *(column[order] for column in columns_of))


def _answers(classifier: Classifier, batches: Iterator[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    names = np.array(classifier.head.classes, object)
    for batch in batches:
        truth, ids, products = (
            np.array(batch[name].to_pylist(), object) for name in ("label", "image_id", "product_id")
        )
        if len(truth):
            vectors = matrix(batch["embedding"])
            likely = classifier.log_probabilities(vectors)
            said = classifier.tags(likely, classifier.distances(vectors))
            tagged = np.array([reason is None for reason in said.reasons])
            top = names[np.argpartition(-likely, min(TOP, len(names)) - 1, axis=1)[:, :TOP]]
            in_top = (top == truth[:, None]).any(1)
            yield ids, products, truth, names[said.best], said.probability, in_top, tagged, np.isin(truth, names)


def score_tags(settings: Settings, classifier: Classifier, answers: Answers, run_id: str) -> dict[str, Any]:
    """Write the figures of ``TAG_NAMES`` to ``metrics``, each with its interval by product, and of each class its own.

    ``classifier`` there is ``tags_VERSION``; ``tag_precision`` is lacking where it tags nothing.

    Returns:
        ``metrics`` and ``intervals`` by name, and ``calibration``, the reliability diagram's bins.
    """
    about = classifier.about
    predictions = answers.predictions
    values = classification_metrics(predictions)
    intervals = classification_intervals(predictions, answers.products)
    figures, bounds = named(NAMES, np.array([values[name] for name in NAMES]), intervals)
    more, more_bounds = _tagging(answers)
    scores = Scores(ALL_QUERIES, figures | more, bounds | more_bounds, len(answers.ids), 0)
    key = {
        "encoder_version": about.encoder_version,
        "dataset": about.dataset,
        "catalog_version": facts.catalog_version(settings, about.dataset, about.label),
        **{"query_split": answers.split, "index_split": "", "relevant": about.label},
        **{"classifier": metrics_name(classifier.version), "seed": 0},
    }
    row = {"encoder": about.encoder, "run_id": run_id, "input_version": classifier.version}
    write_scores(settings, key, row, [scores, *_by_class(answers)])
    return {**scores.figures(list(scores.values)), "calibration": calibration(predictions)}


def metrics_name(version: str) -> str:
    """What ``metrics`` calls a stored classifier."""
    return f"tags_{version}"


def _tagging(answers: Answers) -> tuple[dict[str, float], Any]:
    """Coverage and the precision of the tags, with intervals."""
    everything = np.zeros(len(answers.ids), np.int64)
    (one,) = _of_classes(answers, [ALL_QUERIES], everything, everything)
    return one.values, one.intervals


def class_slice(name: str) -> str:
    return f"class={name}"


def _by_class(answers: Answers) -> list[Scores]:
    """The same of each class: coverage of the photos that are of it, precision of the tags that say it. Of the
    ``MOST_CLASSES`` with the most photos."""
    names, codes = np.unique(np.concatenate([answers.truth, answers.said]).astype(str), return_inverse=True)
    truth, said = codes[: len(answers.ids)], codes[len(answers.ids) :]
    kept = np.argsort(-np.bincount(truth, minlength=len(names)), kind="stable")[:MOST_CLASSES]
    number = np.full(len(names), -1)
    number[kept] = np.arange(len(kept))
    return _of_classes(answers, [class_slice(names[at]) for at in kept], number[truth], number[said])


def _of_classes(answers: Answers, slices: list[str], truth: NDArray[np.int64], said: NDArray[np.int64]) -> list[Scores]:
    """Coverage and precision of C classes, whose ``slices`` they are; ``truth`` and ``said``, (N,), are their numbers,
    -1 of another. A figure that no photo defines is lacking."""
    clusters = np.unique(answers.products.astype(str), return_inverse=True)[1]
    count, tagged = int(clusters.max()) + 1, answers.tagged
    parts = [(truth, tagged), (truth, np.ones_like(tagged)), (said, tagged & answers.right), (said, tagged)]
    sums = [_sums(clusters, number, kept, (count, len(slices))) for number, kept in parts]

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        hits, photos, right, tags = (counts @ each for each in sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([hits / photos, right / tags], axis=2)

    values = statistic(np.ones((1, count)))[0]
    width = 8 * len(slices)
    bounds = interval(resample(statistic, count, width)) if count > 1 else np.full((*values.shape, 2), np.nan)
    photos = np.bincount(truth[truth >= 0], minlength=len(slices))
    scores = []
    for at, name in enumerate(slices):
        figures, intervals = named(TAG_NAMES[len(NAMES) :], values[at], bounds[at])
        kept = [each for each, value in figures.items() if not np.isnan(value)]
        own = {each: figures[each] for each in kept}, {each: intervals[each] for each in kept}
        scores.append(Scores(name, *own, int(photos[at]), 0))
    return scores


def _sums(
    clusters: NDArray[np.integer], number: NDArray[np.integer], kept: NDArray[np.bool_], shape: tuple[int, int]
) -> sparse.csr_array:
    """How many of the ``kept`` photos each cluster has of each class, (clusters, classes)."""
    kept = kept & (number >= 0)
    places = clusters[kept], number[kept]
    return sparse.coo_array((np.ones(int(kept.sum())), places), shape=shape).tocsr()
