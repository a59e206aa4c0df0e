"""A classifier for tagging: learned in closed form, sure where it is precise, and kept without pickles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_classifier import cluster, rows
from training.tagger import learn, lower_bound, precise_threshold
from training.training_set import TrainingSet
from vitrine.encoders import classifiers
from vitrine.errors import UserError
from vitrine.setting_sections import TagSettings
from vitrine.settings import Settings

__all__ = ["rows"]


def test_it_learns_is_kept_and_comes_back(settings: Settings, rows: TrainingSet):
    made = learn(settings, rows)
    back = classifiers.load(settings, made.version)
    x = np.concatenate([cluster(label, 50, 50 + label) for label in range(3)])
    says = back.tag(x)
    assert (says.best == np.repeat(range(3), 50)).mean() > 0.8
    assert np.array_equal(says.probability, made.tag(x).probability)
    assert np.allclose(np.exp(back.log_probabilities(x)).sum(1), 1, atol=1e-5)
    assert (says.best != says.second).all()
    assert made.about.threshold is None, "24 photos cannot show 95 %"
    assert set(says.reasons) <= {classifiers.UNSURE, classifiers.UNLIKE}
    assert not [*Path(classifiers.folder_of(settings, made.version)).glob("*.pkl")]
    assert learn(settings, rows).version == made.version


def test_what_it_never_learned_is_unlike(settings: Settings, rows: TrainingSet):
    made = classifiers.with_threshold(learn(settings, rows), 0.0)
    known, strange = made.tag(cluster(0, 100, 7)).reasons, made.tag(-cluster(5, 100, 8)).reasons
    assert known.count(None) > 80 and strange.count(classifiers.UNLIKE) > 90


def test_another_file_is_not_taken_for_it(settings: Settings, rows: TrainingSet):
    made = learn(settings, rows)
    about = classifiers.folder_of(settings, made.version) / "classifier.json"
    about.write_text(about.read_text().replace('"kind": "', '"kind": "x'))
    with pytest.raises(UserError, match="any more: learn it again"):
        classifiers.load(settings, made.version)
    about.unlink()
    with pytest.raises(UserError, match="cannot read the classifier"):
        classifiers.load(settings, made.version)


def test_without_validation_nothing_is_learned(settings: Settings, rows: TrainingSet):
    with pytest.raises(UserError, match="no validation part"):
        learn(settings, replace(rows, validation=0))


def test_a_threshold_holds_what_it_promises():
    asked, chance = TagSettings(), np.random.default_rng(0)
    kept = []
    for _ in range(300):
        # Sure photos are right: a photo is right with its probability.
        probabilities = chance.uniform(0.5, 1, 1000)
        threshold = precise_threshold(probabilities, chance.uniform(size=1000) < probabilities, asked)
        if threshold is not None:
            kept.append((1 + threshold) / 2 >= asked.precision)  # the true precision above it
    assert len(kept) > 30 and np.mean(kept) >= 0.9


def test_bounds_of_few_photos():
    assert lower_bound(0, 10, 0.05) == 0
    assert lower_bound(59, 59, 0.05) == pytest.approx(0.05 ** (1 / 59))  # all right: error ** (1 / n)
    right = np.ones(58, bool)
    assert precise_threshold(np.linspace(0.5, 1, 58), right, TagSettings()) is None
    assert precise_threshold(np.linspace(0.5, 1, 60), np.ones(60, bool), TagSettings()) is not None
