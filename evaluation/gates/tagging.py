"""What tags a data set, held against what would tag it by another encoder version: no version serves without."""

from collections.abc import Mapping

import numpy as np

from evaluation.classification.classification_metrics import PairedClassifier
from evaluation.classification.tag_answers import Answers, ask_reported
from evaluation.gates.gate import Check
from vitrine import facts
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import classifiers
from vitrine.encoders.classifiers import Classifier
from vitrine.errors import UserError
from vitrine.settings import Settings


def lacking_classifiers(settings: Settings, encoded: EncodedSet) -> dict[str, str]:
    """Why no classifier by ``encoded``'s vectors tags a label that is tagged now, by label; empty where all are there.

    A row of ``classifiers`` is only written once the gate ``tags`` has let its classifier through.
    """
    problems = {}
    for _, label in facts.tagged_labels(settings, encoded.dataset):
        learn = f"vitrine tag --dataset {encoded.dataset} --label {label} --encoder {encoded.encoder}"
        if facts.classifier_of(settings, encoded, label) is None:
            problems[label] = (
                f"{label} is tagged, and no classifier by {encoded.encoder} ({encoded.encoder_version}) has passed the "
                f"gate tags: run `{learn}`"
            )
        else:
            try:
                _load(settings, encoded, label)
            except UserError as error:
                problems[label] = f"{error}: run `{learn} --learn`"
    return problems


def paired_tags(settings: Settings, encoded: EncodedSet, serving: EncodedSet) -> list[PairedClassifier]:
    """Each label's classifier by ``encoded``, which lacks none, and by ``serving``, on the photos of the reported split
    that both were asked about; without labels that have no such photos."""
    paired = []
    for _, label in facts.tagged_labels(settings, encoded.dataset):
        sides = [_load(settings, side, label) for side in (encoded, serving)]
        answers = [ask_reported(settings, side) for side in sides if side]
        if len(answers) == 2 and answers[0] and answers[1]:
            both = _paired(f"tags of {label}", answers[0], answers[1])
            paired += [both] if both else []
    return paired


def decided_by_tags(settings: Settings, encoded: EncodedSet, check: Check, lacking: Mapping[str, str]) -> Check:
    """``check``, on classifiers by ``encoded`` and by what serves, but not skipped where a label is tagged: it refuses
    for a classifier that is ``lacking``; without photos to compare by, the gate ``tags`` has decided by validation
    alone."""
    if lacking:
        return Check(check.name, False, "; ".join(lacking.values()), {"labels": ", ".join(lacking)})
    labels = ", ".join(label for _, label in facts.tagged_labels(settings, encoded.dataset))
    if not labels or "skipped" not in check.figures:
        return check
    detail = (
        f"{labels} is tagged, by classifiers that no photo of the reported split was asked of: validation let each by"
    )
    return Check(check.name, True, detail, {"labels": labels})


def _load(settings: Settings, encoded: EncodedSet, label: str) -> Classifier | None:
    row = facts.classifier_of(settings, encoded, label)
    return classifiers.load(settings, row["classifier_version"]) if row else None


def _paired(name: str, ours: Answers, theirs: Answers) -> PairedClassifier | None:
    _, mine, other = np.intersect1d(ours.ids.astype(str), theirs.ids.astype(str), return_indices=True)
    if not len(mine):
        return None
    first, second = ours.at(mine), theirs.at(other)
    return PairedClassifier(name, first.predictions, second.predictions, first.products)
