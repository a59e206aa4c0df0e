"""The gate on a classifier: may it tag, by what it says of the split that is reported?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.classification.tag_answers import Answers, ask_reported
from evaluation.gates.data_docs import Decision, decided, validate
from evaluation.gates.gate import Check
from evaluation.gates.tag_drift import QUESTION, drift_check
from evaluation.statistics.bootstrap import paired_difference
from vitrine import shares
from vitrine.encoders.classifiers import Classifier
from vitrine.runs import GateFigures
from vitrine.setting_sections import TagSettings
from vitrine.settings import Settings

_SHOWN = 3


def gate_tags(
    settings: Settings,
    classifier: Classifier,
    answers: Answers | None,
    now: Classifier | None,
    run_id: str | None = None,
) -> GateFigures:
    """Judge ``classifier`` by its ``answers``, paired by photo with those of the one that tags ``now``, and by the
    drift of what it says of new photos."""
    asked = _by_itself(settings, classifier, answers)
    if now and answers and answers.known.any():
        asked.append(_against(settings, answers, ask_reported(settings, now)))
    if drift := drift_check(settings, classifier):
        asked.append(_of_drift(drift))
    return _validated(settings, classifier, asked, run_id)


def gate_drift(settings: Settings, classifier: Classifier, drift: Check, run_id: str | None = None) -> GateFigures:
    """The gate's question on ``drift`` alone: of a classifier that was let through, before it tags what is new."""
    return _validated(settings, classifier, [_of_drift(drift)], run_id)


def _of_drift(drift: Check) -> Decision:
    return decided(drift, QUESTION)


def _validated(settings: Settings, classifier: Classifier, asked: list[Decision], run_id: str | None) -> GateFigures:
    about = classifier.about
    return validate(settings, "tags", f"{about.dataset} {about.label}", asked, run_id)


def _by_itself(settings: Settings, classifier: Classifier, answers: Answers | None) -> list[Decision]:
    tags, about = settings.tags, classifier.about
    thresholds = {"threshold": about.threshold, "classes_with_their_own": len(about.thresholds)}
    sure = Decision(
        f"validation has a threshold with a precision of at least {tags.precision:.0%}",
        about.can_tag,
        {**thresholds, **about.validation},
    )
    if answers is None:
        return [sure]
    shared = Decision(
        "the split that is reported has photos of classes that were learned",
        bool(answers.known.any()),
        {"photos": len(answers.ids), "of_learned_classes": int(answers.known.sum())},
    )
    figures, least = precision_of(answers, tags), tags.precision - tags.tolerance
    needed = shares.fewest(least, 1 - tags.confidence) if least > 0 else 0
    enough = Decision(
        f"tags on the reported split are of enough {tags.independent} to show a precision of {least:.0%}",
        figures["draws"] >= needed,
        {"of": tags.independent, "there": figures["draws"], "needed": needed},
    )
    precise = Decision(
        f"tags on the reported split are shown to be at least {least:.0%} precise",
        figures["low"] >= least,
        {**figures, "min_low": least, "confidence": tags.confidence},
    )
    return [sure, shared, enough, precise, _classes(classifier, answers, tags)]


def _classes(classifier: Classifier, answers: Answers, asked: TagSettings) -> Decision:
    """Is a class's tags' precision surely below what is asked? It refuses where the class has its own threshold; the
    others' threshold promises the precision of all of them together, so there it warns.

    The wrong tags' share is shown to be more than is allowed, as ``shares`` bounds it, of each class at the error
    divided by the number of classes that were tagged (Bonferroni).
    """
    least, tagged = asked.precision - asked.tolerance, answers.tagged
    said, wrong, draws = answers.said[tagged], ~answers.right[tagged], _draws(answers, asked)[tagged]
    names = np.unique(said.astype(str))
    error = (1 - asked.confidence) / max(len(names), 1)
    low = [name for name in names.tolist() if shares.shows(wrong[said == name], draws[said == name], 1 - least, error)]
    refused = [name for name in low if classifier.about.thresholds.get(name) is not None]
    figures: dict[str, Any] = {"classes": len(names), "surely_below": len(low), "min_precision": least}
    for name in (refused or low)[:_SHOWN]:
        figures[f"precision of {name}"] = float(1 - wrong[said == name].mean())
    if low and not refused:
        figures["warning"] = "classes below what is asked"
    text = f"no class with a threshold of its own has tags that are surely less than {least:.0%} precise"
    return Decision(text, not refused, figures)


def precision_of(answers: Answers, asked: TagSettings) -> dict[str, Any]:
    """``photos``, ``accuracy``, ``coverage`` (the share that is tagged), ``precision`` of the tags by photo, ``draws``
    (tagged products, or photos: ``[tags] independent``), ``mean`` of their shares of right tags, and its lower bound
    ``low``, which holds with ``confidence``."""
    tagged, right = answers.tagged, answers.right[answers.tagged]
    draws = _draws(answers, asked)[tagged]
    total, of, _ = shares.shares_of(right, draws)
    return {
        "photos": len(answers.ids),
        "accuracy": float(answers.right.mean()),
        "coverage": float(tagged.mean()),
        "precision": float(right.mean()) if of else None,
        "draws": of,
        "mean": total / of if of else None,
        "low": shares.lower_bound(right, draws, 1 - asked.confidence),
    }


def _draws(answers: Answers, asked: TagSettings) -> NDArray[np.int64]:
    if asked.independent == "photos":
        return np.arange(len(answers.ids))
    return np.unique(answers.products.astype(str), return_inverse=True)[1]


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
