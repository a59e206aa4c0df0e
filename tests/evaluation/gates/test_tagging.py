"""What tags a data set, held against what would tag it by another encoder version."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.gates.tagging import lacking_classifiers, paired_tags
from tests.evaluation.gates import test_gates
from tests.evaluation.gates.test_gates import OTHER, VERSION, catalog, fill, judge, measure, refused
from tests.evaluation.gates.test_tags import PHOTOS, classifier, settings
from tests.evaluation.gates.test_tags import V as ONE
from tests.evaluation.gates.test_tags import fill as fill_tagged
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import classifiers
from vitrine.encoders.classifiers import Classifier
from vitrine.settings import Settings
from vitrine.tables import CLASSIFIERS, EMBEDDINGS

__all__ = ["settings"]
TWO = "00000000000000bb"


def let_tag(settings: Settings, made: Classifier, dataset: str = "shop") -> None:
    """A row of ``classifiers``, and what it names, as ``vitrine tag`` leaves both."""
    classifiers.save(settings, made)
    about = made.about
    row = {"dataset": dataset, "label": about.label, "promoted_at": lake.now(), "classifier_version": made.version}
    row |= {"encoder": about.encoder, "encoder_version": about.encoder_version, "kind": about.kind, "gate": "{}"}
    lake.append(settings, CLASSIFIERS, [row | {"training_set": about.training_set, "threshold": about.threshold}])


def by(version: str, shift: int = 0) -> Classifier:
    made = classifier(shift=shift)
    return replace(made, about=replace(made.about, encoder_version=version))


def test_the_gate_on_metrics_refuses_a_version_without_the_classifier_that_serves(settings: Settings) -> None:
    fill(settings, catalog())
    measure(settings, VERSION, 0.6)
    test_gates.serve(settings, OTHER)
    measure(settings, OTHER, 0.6)
    assert judge(settings).success, "nothing is tagged"
    let_tag(settings, by(OTHER))
    message = refused(settings, None, "metrics", "no classifier worse than by what serves")
    assert "run `vitrine tag --dataset shop --label category --encoder e`" in message
    let_tag(settings, by(VERSION))
    passed = judge(settings)
    assert passed.success and passed.checks[-1]["figures"] == {"labels": "category"}, "not skipped"


@pytest.mark.parametrize(("shift", "right"), [(0, 1.0), (1, 0.0)])
def test_classifiers_are_paired_by_photo(settings: Settings, shift: int, right: float) -> None:
    fill_tagged(settings)
    rows = lake.query(settings, "SELECT * FROM embeddings").to_pylist()
    lake.append(settings, EMBEDDINGS, [row | {"encoder_version": TWO} for row in rows])
    one, two = EncodedSet("shop", "e", ONE), EncodedSet("shop", "e", TWO)
    let_tag(settings, by(ONE))
    assert list(lacking_classifiers(settings, two)) == ["category"] and not lacking_classifiers(settings, one)
    assert paired_tags(settings, two, one) == []
    let_tag(settings, by(TWO, shift))
    (paired,) = paired_tags(settings, two, one)
    assert paired.name == "tags of category" and len(paired.products) == PHOTOS
    assert np.mean(paired.candidate.right) == right and np.mean(paired.other.right) == 1.0
