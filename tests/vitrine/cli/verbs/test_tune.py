"""Tuning from photos to vectors and predictions, by the command line's verbs."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluation.gates import metrics
from tests.support.verbs_here import told
from training.tune import check_base
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import backbones, by_name, heads, tuned
from vitrine.errors import UserError
from vitrine.names import NAME_LENGTH, check_name
from vitrine.settings import Settings, load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[encoders.other]
backbone = "timm/tf_efficientnet_lite0"
weights = "random:1"
input_size = 64

[tune.top]
trials = 2
epochs = 3
final_epochs = 20
units = [16, 32]
"""


@pytest.mark.slow
def test_top_tuning_from_photos_to_predictions(
    spark: object, tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    for split, photos in (("train", 6), ("test", 3)):
        draw(6, photos, f"photos/{split}")
    for path in (tmp_path / "photos" / "test").rglob("*.jpg"):
        path.write_bytes(path.read_bytes() + b"\0")  # drawn alike: other contents, so no picture is in both
    told("ingest", "photos", "--dataset", "shop")
    name = "small__top__shop"
    made = told("tune", "top", "--encoder", "small", "--dataset", "shop")
    assert (made["encoder"], made["train"], made["validation"], made["trials"]) == (name, 30, 6, 2)
    assert made["split"] == "test" and 0 <= made["accuracy"] <= made["top5"] <= 1
    settings = load_settings(tmp_path)
    found = tuned.find(settings, name)
    assert found and found.encoder_version == made["encoder_version"] and found.cost["seconds"] > 0
    embedded = told("embed", "--encoder", name, "--dataset", "shop")
    assert (embedded["embedded"], embedded["dim"]) == (54, made["dim"])
    asked = told("classify", "--encoder", name, "--dataset", "shop")["results"]
    assert [result["classifier"] for result in asked] == ["linear_probe", "nearest_neighbours", "discriminants"]
    by_classifier = lake.rows(
        settings,
        "SELECT classifier, encoder_version, count(*) AS n, sum(CAST(predicted[1] = truth AS INT)) AS right "
        "FROM predictions GROUP BY classifier, encoder_version ORDER BY classifier",
    )
    tests = {row["image_id"] for row in lake.rows(settings, "SELECT image_id FROM catalog WHERE split = 'test'")}
    assert {row["image_id"] for row in lake.rows(settings, "SELECT image_id FROM predictions")} == tests
    assert [row["n"] for row in by_classifier] == [18] * 4
    assert by_classifier[3]["right"] / 18 == pytest.approx(made["accuracy"])
    assert by_classifier[1]["right"] / 18 == pytest.approx(asked[0]["accuracy"])
    with pytest.raises(UserError, match="is a head on 'small' already"):
        check_base(settings, name)
    changed = settings.model_copy(
        update={"encoders": {"small": settings.encoders["small"].model_copy(update={"weights": "random:2"})}}
    )
    with pytest.raises(UserError, match=f"tuned on version {made['base_version']} of 'small', which is"):
        by_name.version(changed, name)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{settings.home / 'mlflow.db'}")
    logged = client.search_runs([client.get_experiment_by_name("vitrine").experiment_id], max_results=100)
    (parent, *_) = [run for run in logged if run.data.tags.get("vitrine.verb") == "tune top"]
    children = [run for run in logged if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    registered = facts.encoder_row(settings, made["encoder_version"])
    assert registered["mlflow_run"] == parent.info.run_id and json.loads(registered["cost"]) == found.cost
    assert len(children) == 2 and "trial_val_accuracy" in children[0].data.metrics
    assert "learning_rate" in parent.data.params and parent.data.metrics["val_accuracy"] >= 0
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"head.json", "head.safetensors"}

    linear = told("tune", "linear", "--encoder", "small", "--dataset", "shop")
    assert (linear["encoder"], linear["strategy"], linear["known_share"]) == ("small__linear__shop", "linear", 1.0)
    assert linear["val_score"] >= linear["val_score_as_it_is"] and 0 <= linear["accuracy"] <= 1
    embedded = told("embed", "--encoder", "small__linear__shop", "--dataset", "shop")
    assert (embedded["embedded"], embedded["dim"]) == (54, linear["dim"])
    check_joined(load_settings(tmp_path))


def check_joined(settings: Settings) -> None:
    """A head on two encoders' vectors, one after the other."""
    joined = told("tune", "linear", "--encoder", "small+other", "--dataset", "shop")
    assert (joined["encoder"], joined["base"]) == ("small_other__linear__shop", "small+other")
    of_each = [by_name.version(settings, name) for name in ("small", "other")]
    assert joined["base_version"] == "+".join(of_each)
    assert joined["accuracy"] == accuracy_of(settings, joined["encoder_version"])
    registered = tuned.find(settings, joined["encoder"])
    assert registered and registered.backbone == "torchvision/squeezenet1_0+timm/tf_efficientnet_lite0"
    embedded = told("embed", "--encoder", joined["encoder"], "--dataset", "shop")
    assert (embedded["embedded"], embedded["dim"]) == (54, joined["dim"])
    stored = [
        np.array([row["embedding"] for row in lake.rows(settings, VECTORS.format(version))])
        for version in (*of_each, joined["encoder_version"])
    ]
    head = heads.load(registered.path(settings))
    found = head.embed(np.hstack(stored[:2]).astype(np.float32))
    assert np.allclose(found, stored[2], atol=1e-5), np.abs(found - stored[2]).max()  # of batches of other sizes
    for name in ("small", "other", joined["encoder"]):
        told("evaluate", "--encoder", name, "--dataset", "shop")
    bases = [
        each.encoded
        for each in metrics.compared_with(settings, EncodedSet("shop", joined["encoder"], joined["encoder_version"]))
    ]
    best = max(("small", "other"), key=lambda name: value_of(settings, name))
    assert [base.encoder for base in bases] == [best]
    with pytest.raises(UserError, match="'small__linear__shop', 'small__top__shop', 'small_other__linear__shop'"):
        told("retire", "small")
    with pytest.raises(UserError, match="joins an encoder with itself"):
        told("tune", "linear", "--encoder", "small+small", "--dataset", "shop")
    with pytest.raises(UserError, match="a head alone can be tuned on several encoders"):
        told("tune", "full", "--encoder", "small+other", "--dataset", "shop")
    with pytest.raises(UserError, match="unknown encoder 'nothing'"):
        told("tune", "linear", "--encoder", "small+nothing", "--dataset", "shop")


VECTORS = "SELECT embedding FROM embeddings WHERE encoder_version = '{}' ORDER BY image_id"


def accuracy_of(settings: Settings, version: str) -> float:
    right = "SELECT avg(CAST(predicted[1] = truth AS INT)) AS right FROM predictions WHERE encoder_version = '{}'"
    return pytest.approx(lake.rows(settings, right.format(version))[0]["right"])


def value_of(settings: Settings, encoder: str) -> float:
    where = lake.matches(encoder=encoder, slice="all", metric=settings.gates.metric)
    return float(lake.rows(settings, f"SELECT value FROM metrics WHERE {where}")[0]["value"])


PUBLISHED = ("stanford_online_products", "inshop", "cars196", "cub200", "rp2k", "products_10k", "grocery_store", "shop")


def test_every_default_name_can_be_taken_and_none_that_could_be_changed():
    names = {}
    for base, strategy, on in itertools.product(backbones.REGISTRY, ("linear", "top", "full"), PUBLISHED):
        name, whole = tuned.default_name(base, strategy, on), f"{base}__{strategy}__{on}"
        assert check_name(name) == name == tuned.default_name(base, strategy, on)
        assert name == whole or len(whole) > NAME_LENGTH
        assert f"__{strategy}__" in name and name.startswith(base[:10])
        names[base, strategy, on] = name
    assert len({*names.values()}) == len(names)
    assert tuned.default_name("marqo_ecommerce_l", "linear", "stanford_online_products") == (
        "marqo_ecommerce_l__linear__stanford_onlin_79e82f"
    )
    joined = tuned.default_name("efficientnet_lite0+efficientnet_lite2", "linear", "stanford_online_products")
    assert len(check_name(joined)) <= NAME_LENGTH and joined.startswith("efficientnet_lite0_ef")


def test_names_are_checked(tmp_path: Path):
    settings = load_settings(tmp_path)
    assert tuned.find(settings, "../../etc/passwd") is None and tuned.names(settings) == []
    (settings.home / "models" / "tuned").mkdir(parents=True)
    (settings.home / "models" / "tuned" / "torn.json").write_text("{")
    with pytest.raises(UserError, match="tune 'torn' again"):
        tuned.find(settings, "torn")
