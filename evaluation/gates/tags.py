"""The gate on a classifier: may it tag, by what it says of the split that is reported?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evaluation.gates.data_docs import Decision, validate
from evaluation.statistics.bootstrap import paired_difference
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.classifiers import Classifier
from vitrine.runs import GateFigures
from vitrine.settings import Settings
from vitrine.vectors import matrix


@dataclass(frozen=True)
class Answers:
    """What a classifier says of the labelled photos of a split, (N,) each, by image id."""

    ids: NDArray[Any]
    products: NDArray[Any]
    right: NDArray[np.bool_]
    """Its likeliest class is the label."""
    tagged: NDArray[np.bool_]
    known: NDArray[np.bool_]
    """The label is a class that it learned."""

    def figures(self, confidence: float) -> dict[str, float | None]:
        """``accuracy``, ``coverage`` (the share that it tags), and ``precision`` of its tags with its Clopper-Pearson
        bounds ``low`` and ``high``, each of which holds with ``confidence``."""
        of, hits = int(self.tagged.sum()), int((self.right & self.tagged).sum())
        return {
            "photos": len(self.ids),
            "accuracy": float(self.right.mean()),
            "coverage": of / len(self.ids),
            "precision": hits / of if of else None,
            "low": float(stats.beta.ppf(1 - confidence, hits, of - hits + 1)) if hits else 0.0,
            "high": float(stats.beta.ppf(confidence, hits + 1, of - hits)) if hits < of else 1.0,
        }


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
    ids, products, right, tagged, known = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(ids)
    return Answers(ids[order], products[order], right[order], tagged[order], known[order])


def _answers(classifier: Classifier, batches: Iterator[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    names = np.array(classifier.head.classes, object)
    for batch in batches:
        truth, ids, products = (
            np.array(batch[name].to_pylist(), object) for name in ("label", "image_id", "product_id")
        )
        if len(truth):
            said = classifier.tag(matrix(batch["embedding"]))
            tagged = np.array([reason is None for reason in said.reasons])
            yield ids, products, names[said.best] == truth, tagged, np.isin(truth, names)


def gate_tags(
    settings: Settings, classifier: Classifier, now: Classifier | None, run_id: str | None = None
) -> GateFigures:
    """Judge ``classifier``, paired by photo with the one that tags ``now``."""
    answers = ask_reported(settings, classifier)
    asked = _by_itself(settings, classifier, answers)
    if now and answers and answers.known.any():
        asked.append(_against(settings, answers, ask_reported(settings, now)))
    about = classifier.about
    return validate(settings, "tags", f"{about.dataset} {about.label}", asked, run_id)


def _by_itself(settings: Settings, classifier: Classifier, answers: Answers | None) -> list[Decision]:
    tags, threshold = settings.tags, classifier.about.threshold
    sure = Decision(
        f"validation has a threshold with a precision of at least {tags.precision:.0%}",
        threshold is not None,
        {"threshold": threshold, **classifier.about.validation},
    )
    if answers is None:
        return [sure]
    shared = Decision(
        "the split that is reported has photos of classes that were learned",
        bool(answers.known.any()),
        {"photos": len(answers.ids), "of_learned_classes": int(answers.known.sum())},
    )
    figures = answers.figures(tags.confidence)
    precise = Decision(
        f"tags on the reported split are not shown to be less precise than {tags.precision:.0%}",
        bool(answers.tagged.any()) and float(figures["high"] or 0) >= tags.precision,
        {**figures, "min_precision": tags.precision, "confidence": tags.confidence},
    )
    return [sure, shared, precise]


def _against(settings: Settings, ours: Answers, theirs: Answers | None) -> Decision:
    text = "it tags no fewer photos rightly than the classifier that tags now"
    if theirs is None or not len(np.intersect1d(ours.ids, theirs.ids)):
        return Decision(text, True, {"skipped": "no photo in common"})
    _, mine, other = np.intersect1d(ours.ids, theirs.ids, return_indices=True)
    margin = settings.tags.max_drop
    difference = paired_difference(
        (ours.right & ours.tagged)[mine].astype(np.float64),
        (theirs.right & theirs.tagged)[other].astype(np.float64),
        ours.products[mine],
        margin,
        settings.tags.confidence,
    )
    figures = {"difference": difference.value, "low": difference.low, "high": difference.high, "max_drop": margin}
    return Decision(text, not difference.worse, figures)
