"""Classifiers on frozen embeddings: they learn from the training set, and are asked about the reported split alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from training import classifier
from training.classifier import discriminants, fit_for, linear_probe, neighbours, of_head, write_predictions
from training.shared_classes import unshared
from training.training_set import TrainingSet
from vitrine import lake
from vitrine.encoders.heads import Head
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import lists

V, DIM = "00000000000000aa", 8
CLASSES = ["d/a", "d/b", "d/c"]


def cluster(label: int, count: int, seed: int) -> np.ndarray:
    x = 3 * np.eye(DIM)[label] + np.random.default_rng(seed).normal(size=(count, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def rows(tmp_path: Path) -> TrainingSet:
    counts = {"train": 40, "validation": 8}
    for seed, (part, count) in enumerate(counts.items()):
        x = np.concatenate([cluster(label, count, 10 * seed + label) for label in range(3)])
        labels = pa.array(np.repeat(range(3), count), pa.int32())
        values = pa.ListArray.from_arrays(np.arange(0, len(x) * DIM + 1, DIM, dtype=np.int32), x.reshape(-1))
        (tmp_path / "rows" / part).mkdir(parents=True)
        ids = [str(n) for n in range(len(x))]
        table = pa.table({"image_id": ids, "label": labels, "embedding": values})
        pyarrow.parquet.write_table(table, tmp_path / "rows" / part / "part-0.parquet")
    same: dict[str, Any] = {"as_of": "", "seed": 0, "validation_from": "train", "only_trained": [], "fingerprint": "f"}
    return TrainingSet(
        folder=str(tmp_path / "rows"),
        **{"dataset": "d", "label": "product_id", "encoder": "e", "encoder_version": V, "classes": CLASSES},
        **{"train": 120, "validation": 24, "without_features": 0, "left_out": 0},
        **same,
    )


def embed(settings: Settings, split: str, count: int) -> None:
    made = []
    for label, name in enumerate([*CLASSES, "d/never learned"]):
        for at, x in enumerate(cluster(label, count, 100 + label)):
            own = {"image_id": f"d/{split}/{label}/{at}", "product_id": name, "split": split, "embedding": x}
            made.append({**own, "dataset": "d", "encoder_version": V, "encoder": "e", "content_sha256": "0"})
    moment = dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
    lake.append(settings, EMBEDDINGS, [{**row, **moment, "category": None} for row in made])


@pytest.mark.parametrize("learn", [discriminants, linear_probe, neighbours])
def test_they_learn_and_their_shares_add_up(rows: TrainingSet, learn: Any):
    says, how = learn(rows)
    x = np.concatenate([cluster(label, 50, 50 + label) for label in range(3)])
    shares = says(x)
    assert shares.shape == (150, 3) and np.allclose(shares.sum(1), 1, atol=1e-5) and shares.min() >= 0
    assert (shares.argmax(1) == np.repeat(range(3), 50)).mean() > 0.8
    assert 0.7 < how["val_accuracy"] <= 1 and how["rows"] == 120


def test_predictions_are_of_the_reported_split_and_replaced(settings: Settings, rows: TrainingSet):
    embed(settings, "train", 3)
    says, _ = neighbours(rows)
    with pytest.raises(UserError, match="no split to report on"):
        write_predictions(settings, rows, "nearest_neighbours", says)
    embed(settings, "test", 10)
    said = write_predictions(settings, rows, "nearest_neighbours", says)
    assert (said["split"], said["predicted"]) == ("test", 40)
    assert 0.6 < said["accuracy"] <= 0.75, "photos of a class that was not learned are wrong"
    again = write_predictions(settings, rows, "nearest_neighbours", says)
    head = Head(((np.eye(DIM, dtype=np.float32), np.zeros(DIM, np.float32)),), _classifier(), tuple(CLASSES))
    told = write_predictions(settings, rows, "perceptron", of_head(head))
    found = lake.rows(settings, "SELECT * FROM predictions")
    assert again == said and len(found) == 80 and told["accuracy"] > 0.6
    assert {row["image_id"].split("/")[1] for row in found} == {"test"}
    for row in found:
        assert len(row["predicted"]) == 3 and sorted(row["probabilities"], reverse=True) == row["probabilities"]
    right = [row["predicted"][0] == row["truth"] for row in found if row["classifier"] == "perceptron"]
    assert np.mean(right) == pytest.approx(told["accuracy"])


def test_splits_without_a_class_in_common_have_no_accuracy(
    settings: Settings, rows: TrainingSet, capsys: pytest.CaptureFixture[str]
):
    embed(settings, "test", 3)
    others = replace(rows, classes=["d/x", "d/y", "d/z"])
    told = write_predictions(settings, others, "nearest_neighbours", neighbours(rows)[0])
    assert told == {"split": "test", "predicted": 0, "accuracy": None, "top5": None}
    assert "splits share no class" in capsys.readouterr().err
    assert not lake.rows(settings, "SELECT * FROM predictions")


def test_the_choices_are_told_where_no_class_is_shared(settings: Settings, rows: TrainingSet):
    lake.create_tables(settings)
    assert unshared(settings, rows) is None, "no split is reported"
    embed(settings, "train", 3)
    embed(settings, "test", 3)
    assert unshared(settings, rows) is None
    others = replace(rows, classes=["x"], label="category")
    why = unshared(settings, others)
    assert why and "choose --label product_id, or bring the photos in" in why and "cars196_devkit" in why


def test_as_many_classes_as_the_largest_published_set_has_are_told_apart(
    tmp_path: Path, rows: TrainingSet, capsys: pytest.CaptureFixture[str]
):
    count, dim = 11_318, 32
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(count, dim))
    for part, asked, each in (("train", count, 3), ("validation", 1000, 1)):
        y = np.repeat(np.arange(asked, dtype=np.int32), each)
        x = centres[y] + 0.5 * chance.normal(size=(len(y), dim))
        x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        (tmp_path / "many" / part).mkdir(parents=True)
        table = pa.table({"label": y, "embedding": lists(x)})
        pyarrow.parquet.write_table(table, tmp_path / "many" / part / "part-0.parquet")
    sizes = {"train": 3 * count, "validation": 1000}
    many = replace(rows, folder=str(tmp_path / "many"), classes=[str(n) for n in range(count)], **sizes)
    fit = fit_for(many)
    assert (
        set(fit) == {"discriminants", "nearest_neighbours"} and "no linear probe of 11,318" in capsys.readouterr().err
    )
    for name, learn in fit.items():
        says, how = learn(many)
        assert how["rows"] == 3 * count and how["val_accuracy"] > 0.7, (name, how)
        assert says(x[:10]).shape == (10, count)


def test_neighbours_look_through_all_blocks_and_a_probe_says_what_it_leaves_out(
    rows: TrainingSet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    x = np.concatenate([cluster(label, 50, 50 + label) for label in range(3)])
    says, how = neighbours(rows)
    monkeypatch.setattr(classifier, "_BLOCK", 7)
    monkeypatch.setattr(classifier, "_MOST_NUMBERS", 33)
    again, how_again = neighbours(rows)
    assert np.allclose(says(x), again(x), atol=1e-6) and how == how_again
    monkeypatch.setattr(classifier, "MOST_ROWS", 90)
    assert linear_probe(rows)[1]["rows_left_out"] == 30
    assert "learns from 90 of 120 photos" in capsys.readouterr().err


def _classifier() -> tuple[np.ndarray, np.ndarray]:
    return np.eye(DIM, 3, dtype=np.float32) * 10, np.zeros(3, np.float32)
