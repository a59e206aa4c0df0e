"""The training set: what may be learned from, as it was at a moment, cut so that validation tells the truth."""

from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import pytest
from pyspark.sql import SparkSession

from feature_repo import definitions
from training.build_training_set import build_training_set
from training.training_set import TrainingSet
from vitrine import feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABELS

V = "00000000000000aa"
ENCODED = EncodedSet("d", "small", V)
DIM = 4
PAST = lake.now() - timedelta(days=10)


def photo(number: int, product: str, split: str | None, content: str | None = None, category: str | None = None) -> Any:
    return {
        "image_id": f"d/{number}",
        "product_id": f"d/{product}",
        "split": split,
        "content_sha256": content or f"{number:064d}",
        "category": category,
    }


def vector(image_id: str) -> list[float]:
    values = np.random.default_rng(abs(hash(image_id)) % 2**32).normal(size=DIM)
    return [float(value) for value in values / np.linalg.norm(values)]


def fill(settings: Settings, photos: list[dict[str, Any]], seen: datetime = PAST, embedded: bool = True) -> None:
    both = {"dataset": "d", "event_timestamp": seen, "created_timestamp": seen, "content_seen_at": seen}
    catalog = {"uri": "x", "size": 1, "modified_at": seen, "width": 1, "height": 1, "updated_at": seen}
    lake.append(settings, CATALOG, [{**both, **catalog, **item} for item in photos])
    lake.append(settings, LABELS, [{**both, "valid_from": seen, **item} for item in photos])
    lake.create_tables(settings)
    if not lake.rows(settings, "SELECT 1 FROM encoders"):
        blank: dict[str, Any] = dict.fromkeys(ENCODERS.schema.names, "")
        own = {"encoder_version": V, "encoder": "small", "dim": DIM, "created_at": seen, "state": "experiment"}
        lake.append(settings, ENCODERS, [blank | own])
    if embedded:
        made = {"encoder_version": V, "encoder": "small"}
        rows = [{**both, **made, **item, "embedding": vector(item["image_id"])} for item in photos]
        lake.append(settings, EMBEDDINGS, rows)
    feature_store.apply(feature_store.open_store(settings), definitions.objects(settings))


def learned(made: TrainingSet) -> dict[str, dict[str, int]]:
    """Image id -> class, by part, as the files have them."""
    found = {}
    for part in ("train", "validation"):
        rows = pyarrow.dataset.dataset(str(Path(made.folder) / part)).to_table().to_pylist()
        for row in rows:
            assert np.allclose(row["embedding"], vector(row["image_id"]), atol=1e-6)
        found[part] = {row["image_id"]: made.classes[row["label"]] for row in rows}
    return found


@pytest.mark.usefixtures("spark")
def test_only_the_train_split_is_learned_from(settings: Settings, spark: SparkSession):
    photos = [photo(at, f"p{at % 4}", "train") for at in range(40)]
    photos += [photo(100 + at, f"p{at % 4}", "test") for at in range(20)]
    photos += [photo(200, "p0", None), photo(201, "lonely", "train")]
    photos[0]["content_sha256"] = photos[40]["content_sha256"]  # the test split shows the same picture
    photos[4]["content_sha256"] = photos[8]["content_sha256"]
    fill(settings, photos)
    made = build_training_set(settings, spark, "d", "product_id", ENCODED, validation_share=0.2, seed=3)
    parts = learned(made)
    ids = {item["image_id"] for item in photos[1:40]} | {"d/201"}
    assert parts["train"].keys() | parts["validation"].keys() == ids
    assert not parts["train"].keys() & parts["validation"].keys()
    assert all(
        parts[part][f"d/{at}"] == f"d/p{at % 4}" for at in range(1, 40) for part in parts if f"d/{at}" in parts[part]
    )
    assert (made.train, made.validation) == tuple(len(parts[part]) for part in ("train", "validation"))
    assert made.classes == ["d/lonely", "d/p0", "d/p1", "d/p2", "d/p3"] and made.only_trained == ["d/lonely"]
    assert sorted(list(parts["validation"].values()).count(f"d/p{at}") for at in range(1, 4)) == [2, 2, 2]
    assert made.left_out == 1 and made.without_features == 0 and made.validation_from == "train"
    assert len({"d/4", "d/8"} & parts["validation"].keys()) in (0, 2), "equal pictures are on one side"
    again = build_training_set(settings, spark, "d", "product_id", ENCODED, validation_share=0.2, seed=3)
    assert again.fingerprint == made.fingerprint and learned(again) == parts


@pytest.mark.usefixtures("spark")
def test_a_samples_products_alone_are_learned_from(settings: Settings, spark: SparkSession):
    photos = [photo(at, f"p{at % 10}", "train") for at in range(60)]
    photos += [photo(100 + at, f"p{at % 10}", "test") for at in range(20)]
    fill(settings, photos)
    hashes = sorted(sha256(f"d/p{product}".encode()).hexdigest() for product in range(10))
    made = build_training_set(settings, spark, "d", "product_id", ENCODED, products_below=hashes[4])
    parts = learned(made)
    sampled = {f"d/p{at}" for at in range(10) if sha256(f"d/p{at}".encode()).hexdigest() < hashes[4]}
    assert {*made.classes} == sampled and len(sampled) == 4
    assert {*parts["train"].values()} == {*parts["validation"].values()} == sampled
    assert made.train + made.validation == 24 and (made.without_features, made.left_out) == (0, 0)
    whole = build_training_set(settings, spark, "d", "product_id", ENCODED)
    everything = build_training_set(settings, spark, "d", "product_id", ENCODED, products_below="g")
    assert everything.fingerprint == whole.fingerprint != made.fingerprint


@pytest.mark.usefixtures("spark")
def test_photos_of_a_further_split_are_learned_from_without_their_labels(settings: Settings, spark: SparkSession):
    photos = [photo(at, f"p{at % 4}", "train") for at in range(40)]
    photos += [photo(100 + at, f"p{at % 8}", "gallery") for at in range(24)]
    photos += [photo(200 + at, f"p{at % 8}", "query") for at in range(8)]
    photos[40]["content_sha256"] = photos[64]["content_sha256"]  # a query shows what the gallery does
    fill(settings, photos)
    fill(settings, [photo(300, "p0", "gallery")], embedded=False)
    alone = build_training_set(settings, spark, "d", "product_id", ENCODED, validation_share=0.2, seed=3)
    aside = learned(alone)["validation"]
    shown = next(item for item in photos if item["image_id"] in aside)
    fill(settings, [photo(400, "p0", "gallery", content=shown["content_sha256"])])
    more = ("d", "product_id", ENCODED)
    made = build_training_set(settings, spark, *more, validation_share=0.2, seed=3, unlabelled=["gallery"])
    rows = pyarrow.dataset.dataset(str(Path(made.folder) / "train")).to_table().to_pylist()
    unlabelled = {row["image_id"] for row in rows if row["label"] == -1}
    assert unlabelled == {f"d/{100 + at}" for at in range(1, 24)}, "neither a query's picture nor one left aside"
    assert {row["image_id"]: row["label"] for row in rows if row["image_id"] not in unlabelled} == {
        name: made.classes.index(product) for name, product in learned(alone)["train"].items()
    }
    assert learned(made)["validation"].keys() == aside.keys() and made.classes == alone.classes
    assert (made.train, made.unlabelled, alone.unlabelled) == (alone.train + 23, ["gallery"], [])
    assert (made.without_features, made.left_out) == (1, 2) and made.fingerprint != alone.fingerprint
    for split in ("query", "train", "nowhere"):
        with pytest.raises(UserError, match=f"nothing can be learned from split '{split}' of 'd'.*there is gallery"):
            build_training_set(settings, spark, *more, unlabelled=[split])


@pytest.mark.usefixtures("spark")
def test_categories_are_validated_on_products_that_were_not_learned(settings: Settings, spark: SparkSession):
    photos = [photo(at, f"p{at % 12}", "train", category="ab"[at % 12 % 2]) for at in range(60)]
    photos += [photo(100 + at, "single", "train", category="c") for at in range(10)]
    photos[0]["content_sha256"] = photos[2]["content_sha256"]  # two products show one picture
    fill(settings, photos)
    made = build_training_set(settings, spark, "d", "category", ENCODED, validation_share=0.2)
    parts = learned(made)
    product = {item["image_id"]: item["product_id"] for item in photos if item["product_id"] != "d/single"}
    on = [{product[image_id] for image_id in parts[part] if image_id in product} for part in ("train", "validation")]
    assert on[1] and not on[0] & on[1]
    assert len([image_id for image_id in parts["validation"] if image_id not in product]) == 2  # photos: one product
    content = {item["image_id"]: item["content_sha256"] for item in photos}
    assert not {content[i] for i in parts["train"]} & {content[i] for i in parts["validation"]}
    assert made.classes == ["a", "b", "c"]


@pytest.mark.usefixtures("spark")
def test_labels_and_vectors_are_those_of_the_moment(settings: Settings, spark: SparkSession):
    photos = [photo(at, f"p{at % 2}", "train") for at in range(12)] + [photo(50 + at, "p0", "val") for at in range(2)]
    fill(settings, photos)
    relabelled, reshot = photos[0], photo(60, "p1", "train")
    moved = lake.now() - timedelta(days=5)
    lake.append(settings, LABELS, [{**relabelled, "dataset": "d", "product_id": "d/p1", "valid_from": moved}])
    fill(settings, [reshot], seen=moved)
    fill(settings, [photo(61, "p1", "train")], embedded=False)
    before = build_training_set(settings, spark, "d", "product_id", ENCODED, as_of=moved - timedelta(days=1))
    after = build_training_set(settings, spark, "d", "product_id", ENCODED)
    assert learned(before)["train"]["d/0"] == "d/p0" and learned(after)["train"]["d/0"] == "d/p1"
    assert "d/60" not in learned(before)["train"] and "d/60" in learned(after)["train"]
    assert (before.without_features, after.without_features) == (2, 1)
    assert learned(after)["validation"] == {"d/50": "d/p0", "d/51": "d/p0"} and after.validation_from == "val"
    assert before.fingerprint != after.fingerprint
    uris = build_training_set(settings, spark, "d", "product_id")
    rows = pyarrow.dataset.dataset(str(Path(uris.folder) / "train")).to_table().to_pylist()
    assert {row["image_id"]: row["uri"] for row in rows} == dict.fromkeys(
        [f"d/{at}" for at in (*range(12), 60, 61)], "x"
    )


@pytest.mark.usefixtures("spark")
def test_what_cannot_be_learned_from_is_said(settings: Settings, spark: SparkSession):
    fill(settings, [photo(at, "p0", "test") for at in range(3)])
    with pytest.raises(UserError, match=r"no split 'train' \(it has test\)"):
        build_training_set(settings, spark, "d", "product_id", ENCODED)
    with pytest.raises(UserError, match="unknown data set"):
        build_training_set(settings, spark, "nowhere", "product_id", ENCODED)
    fill(settings, [photo(10 + at, "p0", "train") for at in range(3)], embedded=False)
    with pytest.raises(UserError, match="vitrine embed --encoder small"):
        build_training_set(settings, spark, "d", "product_id", ENCODED)
    with pytest.raises(UserError, match="one product_id"):
        build_training_set(settings, spark, "d", "product_id")
