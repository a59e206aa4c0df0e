"""A classifier for tagging: learned in closed form, sure where it is precise, and kept without pickles."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from tests.training.test_classifier import cluster, rows
from training.tag_kinds import probe
from training.tagger import learn
from training.training_set import TrainingSet, first_ids
from vitrine import lake
from vitrine.encoders import classifiers
from vitrine.encoders.classifiers import MAHALANOBIS, About, Classifier, Space
from vitrine.encoders.heads import Head
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG

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


def test_what_it_never_learned_is_unlike(settings: Settings, rows: TrainingSet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VITRINE_TAGS__UNLIKE", "0.05")
    made = classifiers.with_threshold(learn(load_settings(settings.root), rows), 0.0)
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


def test_photos_that_left_the_catalog_stand_for_themselves_and_products_for_their_photos(
    settings: Settings, rows: TrainingSet
):
    lake.create_tables(settings)
    made = learn(settings, rows).about.validation
    assert (made["photos"], made["products"]) == (24, 24)
    moment, ids = lake.now(), first_ids(rows.folder, "validation", 100).to_pylist()
    photos = [
        {"image_id": name, "dataset": "d", "product_id": f"d/{at // 4}", "uri": "u", "size": 1, "width": 1, "height": 1}
        | {"content_sha256": name, "category": None, "split": "train"}
        | dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), moment)
        for at, name in enumerate(ids)
    ]
    lake.append(settings, CATALOG, photos)
    assert learn(settings, rows).about.validation["products"] == 6


def test_what_an_earlier_version_stored_comes_back_as_it_was(settings: Settings):
    """The version, and the files, that were made before there were rules and thresholds of classes."""
    eye, zero = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    about = About("shop", "category", "e", "00000000000000aa", "ridge", 0.1, "t", 0.9, 0.5, {})
    head = Head(((eye, zero),), (20 * eye, zero), ("a", "b", "c"), activation="linear")
    made = Classifier(about, head, Space(MAHALANOBIS, eye, None, 2 * eye))
    assert made.version == "df119306f692bbb5"
    file = classifiers.save(settings, made) / "classifier.json"
    former = {name: value for name, value in json.loads(file.read_text()).items() if name not in ("rule", "thresholds")}
    file.write_text(json.dumps(former))
    back = classifiers.load(settings, made.version)
    assert back.tag(2 * eye).reasons == [None] * 3 and back.tag(eye).reasons == [classifiers.UNLIKE] * 3


def test_a_class_has_its_own_threshold(settings: Settings, rows: TrainingSet):
    made = classifiers.with_threshold(learn(settings, rows), None, thresholds={"d/a": 0.0, "d/b": None}, farthest=99.0)
    said = made.tag(np.concatenate([cluster(label, 50, 50 + label) for label in range(3)]))
    tagged = np.array([reason is None for reason in said.reasons])
    assert made.about.can_tag and set(said.best[tagged]) == {0} and (said.best[~tagged] != 0).all()
    classifiers.save(settings, made)
    assert classifiers.load(settings, made.version).about.thresholds == {"d/a": 0.0, "d/b": None}


@pytest.mark.parametrize("kind", ["linear_probe", "nearest_neighbours"])
def test_other_kinds_are_learned_kept_and_come_back(
    settings: Settings, rows: TrainingSet, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("VITRINE_TAGS__KINDS", json.dumps([kind]))
    made = learn(load_settings(settings.root), rows)
    back = classifiers.load(settings, made.version)
    x = np.concatenate([cluster(label, 50, 50 + label) for label in range(3)])
    says = back.tag(x)
    assert made.about.kind == back.about.kind == kind and made.about.strength > 0
    assert (says.best == np.repeat(range(3), 50)).mean() > 0.8 and np.array_equal(
        says.probability, made.tag(x).probability
    )
    assert np.allclose(np.exp(back.log_probabilities(x)).sum(1), 1, atol=1e-5)
    assert {file.suffix for file in classifiers.folder_of(settings, made.version).iterdir()} == {
        ".json",
        ".safetensors",
    }


def test_of_several_kinds_that_which_tells_the_training_part_best_is_taken(
    settings: Settings, rows: TrainingSet, monkeypatch: pytest.MonkeyPatch
):
    alone = learn(settings, rows)
    monkeypatch.setenv("VITRINE_TAGS__KINDS", '["discriminants", "ridge", "linear_probe", "nearest_neighbours"]')
    made = learn(load_settings(settings.root), rows)
    tried = made.about.validation["kinds"]
    assert set(tried) == {alone.about.kind, "linear_probe", "nearest_neighbours"}
    assert tried[made.about.kind] == max(tried.values()) and "kinds" not in alone.about.validation


def test_a_probe_of_two_classes_says_what_scikit_learn_says(rows: TrainingSet):
    x, y = np.concatenate([cluster(0, 60, 1), cluster(1, 60, 2)]), np.repeat([0, 2], 60).astype(np.int32)
    head = probe(x, y, ["a", "b", "c"], 10.0, 0)
    says = special.softmax(head.logits(x), axis=1)
    model = LogisticRegression(C=10.0, max_iter=1000, random_state=0).fit(x, y)
    assert np.allclose(says[:, [0, 2]], model.predict_proba(x), atol=1e-5) and (says[:, 1] == 0).all()


@pytest.mark.slow
def test_the_perceptron_of_top_tuning_is_learned_in_a_process_of_its_own(
    settings: Settings, rows: TrainingSet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VITRINE_TAGS__KINDS", '["perceptron"]')
    for name, value in {"TRIALS": "1", "EPOCHS": "1", "EXECUTIONS": "1", "FINAL_EPOCHS": "60"}.items():
        monkeypatch.setenv(f"VITRINE_TUNE__TOP__{name}", value)
    made = learn(load_settings(settings.root), rows)
    x = np.concatenate([cluster(label, 50, 50 + label) for label in range(3)])
    assert made.about.kind == "perceptron" and isinstance(made.head, Head) and made.head.activation == "relu"
    assert (classifiers.load(settings, made.version).tag(x).best == np.repeat(range(3), 50)).mean() > 0.6
    assert "tensorflow" not in sys.modules
