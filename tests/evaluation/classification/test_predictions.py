"""Predictions scored from the table, those of the catalog as it is embedded now alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from evaluation.classification.predictions import paired_predictions, score_predictions
from evaluation.task import Task
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, METRICS, PREDICTIONS

VERSION = "0123456789abcdef"
TASK = Task(EncodedSet("shop", "e", VERSION), "c", "test", "train", "product_id")
KINDS = ["cup", "hat", "it's \n=a kind; --"]


def embed(settings: Settings, image_id: str, number: int, split: str = "test") -> None:
    moment = dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
    row = {"image_id": image_id, "encoder_version": VERSION, "dataset": "shop", "encoder": "e", "embedding": [1.0]}
    labels = {"product_id": f"shop/{number // 2}", "category": KINDS[number % 3] if number % 10 else None}
    lake.append(settings, EMBEDDINGS, [row | labels | moment | {"split": split, "content_sha256": "0"}])


def predict(settings: Settings, label: str = "category", seed: int = 0, **other: Any) -> None:
    """What is asked of the split test: each third photo wrongly told."""
    found = lake.rows(settings, "SELECT * FROM embeddings WHERE split = 'test' ORDER BY image_id")
    rows, names = [], sorted({str(row[label]) for row in found if row[label] is not None})
    for at, row in enumerate(row for row in found if row[label] is not None):
        wrong = [name for name in names if name != row[label]][:4]
        told = [row[label], *wrong] if at % 3 else [wrong[0], row[label], *wrong[1:]]
        said = {"image_id": row["image_id"], "dataset": "shop", "encoder_version": VERSION, "truth": row[label]}
        said |= {"classifier": "nearest_neighbours", "label": label, "seed": seed, "training_set": "t"}
        said |= {"predicted": told, "probabilities": [0.6, 0.2, 0.1, 0.05, 0.05][: len(told)]}
        rows.append(said | {"predicted_at": lake.now()} | other)
    lake.append(settings, PREDICTIONS, rows)


@pytest.fixture
def shop(settings: Settings) -> Settings:
    for number in range(20):
        embed(settings, f"shop/{number:02d}", number)
    embed(settings, "shop/seen", 1, "train")
    return settings


def test_every_classifier_label_and_seed_is_scored(shop: Settings) -> None:
    predict(shop)
    predict(shop, seed=1)
    predict(shop, "product_id", classifier="linear_probe")
    found, left_out = score_predictions(shop, TASK, run_id="r")
    named = [(said["classifier"], said["label"], said["seed"]) for said in found]
    assert named == [("linear_probe", "product_id", 0), *(("nearest_neighbours", "category", n) for n in (0, 1))]
    assert left_out == []
    said = found[1]
    assert (said["split"], said["photos"], said["photos_left_out"]) == ("test", 18, 2)
    expected = {"accuracy": 12 / 18, "top5": 1.0, "ece": 12 / 18 - 0.6}
    assert {name: said["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-6)
    low, high = said["intervals"]["accuracy"]
    assert low < 12 / 18 < high
    assert sum(pair["photos"] for pair in said["most_confused"]) == 6
    assert said["classes"] == KINDS and np.trace(said["confusion_matrix"]) == 12
    assert [bin["photos"] for bin in said["calibration"]] == [18]
    assert "confusion_matrix" in found[0]  # of ten products

    rows = lake.rows(shop, "SELECT * FROM metrics WHERE classifier = 'nearest_neighbours' AND seed = 1")
    assert {row["metric"]: row["value"] for row in rows} == found[2]["metrics"]
    assert {row["metric"]: [row["low"], row["high"]] for row in rows} == found[2]["intervals"]
    keys = ("slice", "relevant", "query_split", "index_split", "queries", "queries_left_out", "index_size")
    assert {tuple(row[name] for name in keys) for row in rows} == {("all", "category", "test", "", 18, 2, 0)}


def test_what_is_scored_already_is_read_back(shop: Settings) -> None:
    predict(shop)
    first, _ = score_predictions(shop, TASK, run_id="r")
    at = lake.version(shop, METRICS)
    back, _ = score_predictions(shop, TASK, run_id="r2")
    assert (first[0].pop("computed"), back[0].pop("computed")) == (True, False)
    assert back == first and lake.version(shop, METRICS) == at
    assert score_predictions(shop, TASK, run_id="r3", again=True)[0][0]["computed"]
    DeltaTable(str(PREDICTIONS.path(shop))).delete()
    predict(shop)  # made anew
    assert score_predictions(shop, TASK, run_id="r4")[0][0]["computed"]


def test_predictions_of_another_catalog_are_left_out_and_named(shop: Settings) -> None:
    predict(shop)

    def scored() -> tuple[int, list[str]]:
        found, left_out = score_predictions(shop, TASK, run_id="r")
        return len(found), left_out

    assert scored() == (1, [])
    table = DeltaTable(str(EMBEDDINGS.path(shop)))
    embed(shop, "shop/new", 1)
    said = "nearest_neighbours by category, seed 0: of an older catalog (photos that came since: 1): ask it again"
    assert scored() == (0, [said])
    table.update_incremental()
    table.delete("image_id = 'shop/new'")
    assert scored() == (1, [])
    now = f"to_timestamp_micros({int(lake.now().timestamp() * 1e6)})"
    for change in ({"category": "'other'"}, {"category": lake.quote(KINDS[1]), "created_timestamp": now}):
        table.update(change, predicate="image_id = 'shop/01'")
        count, left_out = scored()
        assert count == 0 and "1 of its 18 photos changed or went since" in left_out[0]
    table.delete("image_id = 'shop/01'")
    assert "1 of its 18 photos changed or went since" in scored()[1][0]


def test_predictions_of_two_versions_are_paired_by_photo(shop: Settings) -> None:
    predict(shop)
    other = replace(TASK, encoded=EncodedSet("shop", "f", "f" * 16))
    assert paired_predictions(shop, TASK, other) == []
    rows = lake.rows(shop, "SELECT * FROM embeddings")
    lake.append(shop, EMBEDDINGS, [row | {"encoder_version": other.encoded.encoder_version} for row in rows])
    told = lake.rows(shop, "SELECT * FROM predictions ORDER BY image_id DESC")
    right = {"encoder_version": other.encoded.encoder_version, "predicted_at": lake.now()}
    lake.append(shop, PREDICTIONS, [row | right | {"predicted": [row["truth"]]} for row in told])
    (found,) = paired_predictions(shop, TASK, other)
    assert found.name == "nearest_neighbours by category, seed 0"
    assert found.candidate.right.sum() == 12 and found.other.right.all() and len(found.products) == 18
    np.testing.assert_array_equal(found.candidate.truth % 3, found.other.truth % 3)
    DeltaTable(str(EMBEDDINGS.path(shop))).delete(
        f"image_id = 'shop/01' AND encoder_version = '{other.encoded.encoder_version}'"
    )
    assert paired_predictions(shop, TASK, other) == []  # one side is of an older catalog
