"""What serves: only what its gates let through, or what somebody forced and said why."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evaluation.promotion import promote as module
from evaluation.promotion.promote import promote, rollback, unfinished_rollback
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import classifiers
from vitrine.encoders.classifiers import MAHALANOBIS, About, Classifier, Space
from vitrine.encoders.heads import Head
from vitrine.errors import GateRefused, UserError
from vitrine.runs import record
from vitrine.setting_sections import LicenceSettings, MilvusSettings
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, CLASSIFIERS, EMBEDDINGS, ENCODERS, PROMOTIONS

ONE, TWO, THREE = "1" * 16, "2" * 16, "3" * 16
E1, E2 = EncodedSet("shop", "e1", ONE), EncodedSet("shop", "e2", TWO)
Row = dict[str, Any]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    settings = load_settings(tmp_path)
    add_photo(settings, "shop/a")
    for version in (ONE, TWO, THREE):
        embed(settings, version)
        register(settings, version)
    return settings


def register(settings: Settings, version: str, licence: str = "MIT") -> None:
    row = {"encoder_version": version, "encoder": f"e{version[0]}", "state": "experiment", "backbone": "b"}
    row |= {"family": "supervised", "strategy": "pretrained", "dim": 1, "weights_uri": "hub", "licence": licence}
    table = pa.Table.from_pylist([row | {"created_at": lake.now()}], schema=ENCODERS.schema)
    lake.write(settings, ENCODERS, table, replacing={"encoder_version": version})


def add_photo(settings: Settings, image_id: str) -> None:
    row = {"image_id": image_id, "dataset": "shop", "product_id": "shop/p", "uri": "u", "content_sha256": "0" * 64}
    row |= {"size": 1, "width": 1, "height": 1}
    times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), lake.now())
    lake.append(settings, CATALOG, [row | times])


def embed(settings: Settings, version: str) -> None:
    row = {"image_id": "shop/a", "dataset": "shop", "product_id": "shop/p", "content_sha256": "0" * 64}
    row |= {"encoder": f"e{version[0]}", "encoder_version": version, "embedding": [1.0]}
    lake.append(settings, EMBEDDINGS, [row | dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())])


def say(settings: Settings, gate: str, version: str, state: str = "done", **other: Any) -> None:
    """A run of a gate, as ``ask_gate`` leaves it."""
    serving = facts.serving(settings, "shop")
    with record(settings, "gate", "shop", None if gate == "catalog" else "e") as run:
        run.encoder_version = None if gate == "catalog" else version
        run.catalog_version = facts.catalog_version(settings, "shop")
        run.figures = {"gate": gate, "success": state == "done", "checks": [], "failed": []}
        run.figures["serving_version"] = serving and serving["encoder_version"]
        run.figures |= other
        if state == "refused":
            run.figures["failed"] = [{"expectation": "every vector's norm is 1", "figures": {"unexpected": 1}}]
    if state == "refused":  # record() tells the state by the exception
        table = lake.query(settings, f"SELECT * FROM runs WHERE run_id = '{run.run_id}'")
        row = table.to_pylist()[0] | {"state": state, "run_id": "x" + run.run_id, "started_at": lake.now()}
        lake.append(settings, lake.TABLES["runs"], [row])


def pass_gates(settings: Settings, version: str) -> None:
    for gate in module.gates_to_serve(settings):
        say(settings, gate, version)


def serve(settings: Settings, version: str) -> dict[str, Any]:
    pass_gates(settings, version)
    return promote(settings, EncodedSet("shop", f"e{version[0]}", version))


def history(settings: Settings) -> list[Row]:
    return lake.rows(settings, "SELECT * FROM promotions ORDER BY promoted_at")


def serving(settings: Settings) -> str:
    return str((facts.serving(settings, "shop") or {})["encoder_version"])


def test_a_version_serves_once_its_gates_passed(settings: Settings) -> None:
    said = {"promoted": True, "dataset": "shop", "encoder": "e1", "encoder_version": ONE}
    assert serve(settings, ONE) == said | {"previous_version": None, "forced": False}
    (row,) = history(settings)
    assert row["catalog_version"] == facts.catalog_version(settings, "shop")
    assert (row["forced"], row["reason"], row["previous_version"]) == (False, None, None)
    gates = json.loads(row["gates"])
    assert list(gates) == ["catalog", "embeddings", "sync", "metrics"]
    assert {gate["state"] for gate in gates.values()} == {"done"}
    again = promote(settings, E1)
    assert again == said | {"promoted": False, "previous_version": ONE, "forced": False}
    assert len(history(settings)) == 1
    assert serve(settings, TWO)["previous_version"] == ONE
    assert [row["previous_version"] for row in history(settings)] == [None, ONE]


def test_no_gate_was_asked(settings: Settings) -> None:
    with pytest.raises(GateRefused) as error:
        promote(settings, E1)
    for gate, command in {"catalog": "", "embeddings": " --encoder e1", "metrics": " --encoder e1"}.items():
        said = f"gate {gate} has not been asked: run `vitrine gate {gate} --dataset shop{command}`"
        assert said in str(error.value)
    assert not history(settings)


def test_another_versions_gates_do_not_count(settings: Settings) -> None:
    pass_gates(settings, TWO)
    with pytest.raises(GateRefused) as error:
        promote(settings, E1)
    assert "gate catalog" not in str(error.value)
    assert "gate embeddings has not been asked" in str(error.value)


def test_the_newest_run_of_a_gate_counts(settings: Settings) -> None:
    pass_gates(settings, ONE)
    say(settings, "embeddings", ONE, "refused")
    with pytest.raises(GateRefused, match=r"gate embeddings refused \(every vector's norm is 1\)"):
        promote(settings, E1)
    with pytest.raises(RuntimeError), record(settings, "gate", "shop", "e1") as run:
        run.encoder_version, run.figures = ONE, {"gate": "embeddings"}
        raise RuntimeError("the disk is full")
    with pytest.raises(GateRefused, match=r"gate embeddings did not end \(RuntimeError: the disk is full\)"):
        promote(settings, E1)
    say(settings, "embeddings", ONE)
    assert promote(settings, E1)["promoted"]


def test_gates_of_an_older_catalog_are_out_of_date(settings: Settings) -> None:
    pass_gates(settings, ONE)
    add_photo(settings, "shop/b")
    say(settings, "catalog", ONE)
    with pytest.raises(GateRefused) as error:
        promote(settings, E1)
    assert str(error.value).count("is out of date, the catalog has changed since") == 3
    assert "gate catalog" not in str(error.value)


def test_metrics_were_compared_with_what_serves_no_more(settings: Settings) -> None:
    serve(settings, ONE)
    pass_gates(settings, TWO)
    serve(settings, THREE)
    with pytest.raises(GateRefused, match="gate metrics is out of date, it compared with another version"):
        promote(settings, E2)
    assert serving(settings) == THREE


def test_force_says_why(settings: Settings) -> None:
    say(settings, "catalog", ONE)
    for force, reason in ((True, None), (True, "  "), (False, "because")):
        with pytest.raises(UserError, match="--force needs a --reason"):
            promote(settings, E1, force=force, reason=reason)
    assert promote(settings, E1, force=True, reason="the boss said")["forced"]
    (row,) = history(settings)
    assert (row["forced"], row["reason"]) == (True, "the boss said")
    gates = json.loads(row["gates"])
    assert gates["catalog"]["problem"] is None
    assert "has not been asked" in gates["metrics"]["problem"]


def test_nothing_to_serve(settings: Settings) -> None:
    with pytest.raises(UserError, match="unknown data set 'shed': choose one of shop"):
        promote(settings, EncodedSet("shed", "e1", ONE))
    with pytest.raises(UserError, match="vitrine embed --encoder e4 --dataset shop"):
        promote(settings, EncodedSet("shop", "e4", "4" * 16), force=True, reason="in a hurry")
    assert not history(settings)


def test_a_clock_that_was_set_back(settings: Settings) -> None:
    row = {"dataset": "shop", "promoted_at": lake.now() + timedelta(days=1), "encoder": "e1", "encoder_version": ONE}
    lake.append(settings, PROMOTIONS, [row | {"catalog_version": "c", "gates": "{}", "forced": False}])
    serve(settings, TWO)
    assert serving(settings) == TWO
    assert rollback(settings, "shop")["promoted"]
    assert serving(settings) == ONE


def test_rollback_goes_back_step_by_step(settings: Settings) -> None:
    with pytest.raises(UserError, match="nothing serves"):
        rollback(settings, "shop")
    serve(settings, ONE)
    with pytest.raises(UserError, match=f"only e1 .{ONE}. ever served"):
        rollback(settings, "shop")
    for version in (TWO, THREE):
        serve(settings, version)
    expected = {"promoted": True, "dataset": "shop", "encoder": "e2", "encoder_version": TWO}
    assert rollback(settings, "shop") == expected | {"previous_version": THREE, "forced": False}
    assert history(settings)[-1]["reason"] == "rollback"
    assert rollback(settings, "shop")["encoder_version"] == ONE
    with pytest.raises(UserError, match="no version before the current one"):
        rollback(settings, "shop")
    serve(settings, THREE)
    assert rollback(settings, "shop")["encoder_version"] == ONE


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "cc-by-nc-sa-4.0", "apple-amlr"])
def test_weights_that_forbid_commerce_need_a_setting(settings: Settings, licence: str) -> None:
    register(settings, ONE, licence)
    pass_gates(settings, ONE)
    for force in (False, True):
        with pytest.raises(UserError, match=f"under {licence}, which forbids commercial use.*allow_non_commercial"):
            promote(settings, E1, force, "why not" if force else None)
    assert facts.serving(settings, "shop") is None
    allowed = settings.model_copy(update={"licences": LicenceSettings(allow_non_commercial=True)})
    assert promote(allowed, E1)["promoted"]


def test_a_rollback_cut_short_is_finished_and_not_repeated(settings: Settings) -> None:
    assert unfinished_rollback(settings, "shop") is None
    for version in (ONE, TWO, THREE):
        serve(settings, version)
    assert unfinished_rollback(settings, "shop") is None
    back = rollback(settings, "shop")  # and killed: no run of it ends
    assert unfinished_rollback(settings, "shop") == back
    with record(settings, "rollback", "shop"):
        pass
    assert unfinished_rollback(settings, "shop") is None
    with pytest.raises(RuntimeError), record(settings, "rollback", "shop"):
        back = rollback(settings, "shop")
        raise RuntimeError("Milvus is not there")
    assert back["encoder_version"] == ONE and unfinished_rollback(settings, "shop") == back


def test_an_index_that_is_not_exact_has_a_gate_of_its_own(settings: Settings) -> None:
    hnsw = settings.model_copy(update={"milvus": MilvusSettings(index="HNSW")})
    pass_gates(settings, ONE)
    with pytest.raises(GateRefused, match="gate index has not been asked: run `vitrine gate index --dataset shop"):
        promote(hnsw, E1)
    say(settings, "index", ONE, "refused")
    with pytest.raises(GateRefused, match="gate index refused"):
        promote(hnsw, E1)
    say(settings, "index", ONE)
    assert promote(hnsw, E1)["promoted"]


def test_a_night_does_not_undo_a_rollback(settings: Settings) -> None:
    serve(settings, ONE)
    serve(settings, TWO)
    rollback(settings, "shop")
    pass_gates(settings, TWO)
    assert not promote(settings, E2, if_new=True)["promoted"]
    assert serving(settings) == ONE
    assert promote(settings, E2)["promoted"]
    pass_gates(settings, THREE)
    assert promote(settings, EncodedSet("shop", "e3", THREE), if_new=True)["promoted"]


def test_rollback_needs_vectors(settings: Settings) -> None:
    from deltalake import DeltaTable

    serve(settings, ONE)
    serve(settings, TWO)
    DeltaTable(str(EMBEDDINGS.path(settings))).delete(f"encoder_version = '{ONE}'")
    with pytest.raises(UserError, match=f"cannot be rolled back to e1 .{ONE}.: it has no vectors any more"):
        rollback(settings, "shop")
    assert serving(settings) == TWO


def tags_by(settings: Settings, version: str, classifier_version: str = "c") -> None:
    """A row of ``classifiers``, as ``vitrine tag`` leaves it once the gate let a classifier through."""
    row = {"dataset": "shop", "label": "category", "promoted_at": lake.now(), "classifier_version": classifier_version}
    row |= {"encoder": f"e{version[0]}", "encoder_version": version, "kind": "ridge", "training_set": "t", "gate": "{}"}
    lake.append(settings, CLASSIFIERS, [row | {"threshold": 0.9}])


def stored_classifier(settings: Settings, version: str) -> str:
    eye, zero = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    about = About("shop", "category", f"e{version[0]}", version, "ridge", 0.1, "t", 0.9, 0.5, {})
    head = Head(((eye, zero),), (eye, zero), ("a", "b"), activation="linear")
    made = Classifier(about, head, Space(MAHALANOBIS, eye, None, eye))
    classifiers.save(settings, made)
    return made.version


def test_where_a_label_is_tagged_another_version_needs_its_classifier(settings: Settings) -> None:
    serve(settings, ONE)
    tags_by(settings, ONE)
    pass_gates(settings, TWO)
    command = "run `vitrine tag --dataset shop --label category --encoder e2`"
    with pytest.raises(GateRefused) as error:
        promote(settings, E2)
    assert f"category is tagged, and no classifier by e2 ({TWO}) has passed the gate tags: {command}" in str(
        error.value
    )
    tags_by(settings, TWO, "0" * 16)
    with pytest.raises(GateRefused, match=r"cannot read the classifier.*--encoder e2 --learn`"):
        promote(settings, E2)
    assert (facts.tagging(settings, "shop", "category") or {})["encoder_version"] == ONE, "its encoder serves"
    tags_by(settings, TWO, stored_classifier(settings, TWO))
    assert promote(settings, E2)["promoted"]
    assert (facts.tagging(settings, "shop", "category") or {})["encoder_version"] == TWO
    rollback(settings, "shop")
    assert (facts.tagging(settings, "shop", "category") or {})["encoder_version"] == ONE, "tags follow what serves"


def test_a_promotion_by_force_goes_past_a_missing_classifier_and_keeps_what_it_passed(settings: Settings) -> None:
    serve(settings, ONE)
    tags_by(settings, ONE)
    pass_gates(settings, TWO)
    assert promote(settings, E2, force=True, reason="tags can wait")["promoted"]
    assert "category is tagged" in json.loads(history(settings)[-1]["gates"])["tags category"]["problem"]
