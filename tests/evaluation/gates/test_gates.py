"""The gates with real Great Expectations on real Spark and Delta: good data passes, each fault is named."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from evaluation.gates.ask_gate import ask_gate
from evaluation.gates.gate import result_json
from spark_jobs.session import build_session
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import GateRefused, UserError
from vitrine.runs import GateFigures
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABELS, METRICS, PROMOTIONS, QUARANTINE, QUERY_RESULTS

VERSION, OTHER = "0123456789abcdef", "fedcba9876543210"
ENCODED = EncodedSet("shop", "e", VERSION)
DIM = 4
Row = dict[str, Any]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITRINE_HOME", str(tmp_path_factory.mktemp("spark") / "home"))
        patch.setenv("VITRINE_SPARK__MASTER", "local[1]")
        started = build_session(load_settings(tmp_path_factory.mktemp("root")), "gates")
    yield started
    started.stop()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


def catalog(count: int = 20, dataset: str = "shop") -> list[Row]:
    time = lake.now()
    return [
        {"image_id": f"{dataset}/{n} '\"\né.jpg", "dataset": dataset, "product_id": f"{dataset}/p{n // 4}"}
        | {"uri": "u", "size": 10, "width": 1, "height": 1, "content_sha256": f"{n:064x}"}
        | dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), time)
        for n in range(count)
    ]


def vectors(photos: list[Row], version: str = VERSION) -> list[Row]:
    time = lake.now()
    made = {"encoder": "e", "encoder_version": version, "event_timestamp": time, "created_timestamp": time}
    kept = ("image_id", "dataset", "product_id", "content_sha256")
    return [
        {name: photo[name] for name in kept} | made | {"embedding": [0.5, -0.5, 0.5, 0.5 * (-1) ** n]}
        for n, photo in enumerate(photos)
    ]


IN_BOTH = pytest.mark.parametrize("spark", ["pandas", "spark"], indirect=True)
"""The tests in which every expectation of a gate passes or fails once; by Spark the others are whole runs' business."""


@pytest.fixture(params=["pandas", pytest.param("spark", marks=pytest.mark.long)])
def spark(request: pytest.FixtureRequest, session: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Rows are asked about by pandas, or by Spark as in a large lake."""
    if request.param == "spark":
        monkeypatch.setattr(lake, "_LARGE", 0)
        return session
    return None


def quarantined(ids: list[str], stage: str, encoder: str = "") -> list[Row]:
    time = lake.now()
    row = {"dataset": "shop", "stage": stage, "encoder": encoder, "uri": "u", "code": "c", "reason": "r"}
    return [row | {"image_id": image_id, "first_seen": time, "last_seen": time} for image_id in ids]


def fill(settings: Settings, photos: list[Row], embedded: list[Row] | None = None) -> None:
    """A lake with these photos, their labels, and vectors; another data set's beside them."""
    others = catalog(3, "other")
    lake.append(settings, CATALOG, photos + others)
    label = ("image_id", "dataset", "product_id")
    lake.append(settings, LABELS, [{k: p[k] for k in label} | {"valid_from": lake.now()} for p in photos + others])
    if embedded is not None:
        known = {"encoder": "e", "state": "nightly", "backbone": "b", "family": "f", "strategy": "pretrained"}
        known |= {"weights_uri": "", "licence": "", "created_at": lake.now()}
        lake.append(settings, ENCODERS, [known | {"encoder_version": VERSION, "dim": DIM}])
        lake.append(settings, EMBEDDINGS, embedded + vectors(photos[:1], OTHER))


def run_rows(settings: Settings) -> list[Row]:
    found = lake.rows(settings, "SELECT * FROM runs ORDER BY started_at")
    return [row | {"figures": json.loads(row["figures"])} for row in found]


def refused(settings: Settings, spark: Any, gate: str, *names: str) -> str:
    """The gate refuses with one message that names exactly the expectations that begin with ``names``."""
    with pytest.raises(GateRefused) as error:
        ask_gate(settings, gate, "shop", None if gate == "catalog" else ENCODED, lambda: spark)
    row = run_rows(settings)[-1]
    failed = [check["expectation"] for check in row["figures"]["failed"]]
    assert (row["state"], row["verb"], len(failed)) == ("refused", "gate", len(names)), failed
    for name, text in zip(names, failed, strict=True):
        assert text.startswith(name)
        assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert Path(row["figures"]["data_docs"]).is_file()
    return str(error.value)


def unexpected(settings: Settings) -> dict[str, int]:
    """How many rows broke each expectation that failed in the newest run."""
    failed = run_rows(settings)[-1]["figures"]["failed"]
    return {check["expectation"]: check["figures"]["unexpected"] for check in failed}


# ---- catalog ----


@IN_BOTH
def test_a_good_catalog_passes(settings: Settings, spark: Any, capfd: pytest.CaptureFixture[str]) -> None:
    photos = catalog()
    fill(settings, photos)
    lake.append(settings, QUARANTINE, quarantined(["shop/bad"], "ingest") + quarantined(["x"] * 9, "embed", "e"))
    capfd.readouterr()
    result = ask_gate(settings, "catalog", "shop", None, lambda: spark)
    assert capfd.readouterr().out == ""
    assert isinstance(result, GateFigures)
    assert result.success and not result.failed and len(result.checks) == 9
    (row,) = run_rows(settings)
    assert (row["state"], row["dataset"], row["encoder_version"]) == ("done", "shop", None)
    assert row["catalog_version"] == facts.catalog_version(settings, "shop")
    assert row["figures"]["gate"] == "catalog" and row["figures"]["success"] is True
    assert result.checks[-1]["figures"] == {
        "quarantined": 1,
        "catalog": 20,
        "share": 1 / 21,
        "max_quarantine_share": 0.05,
    }
    page = Path(result.data_docs).read_text()
    assert row["run_id"] in page
    assert Path(result.data_docs) == settings.reports / "data_docs" / "index.html"


def test_a_catalog_that_is_empty_or_all_unreadable(settings: Settings, spark: Any) -> None:
    lake.append(settings, QUARANTINE, quarantined(["shop/a", "shop/b"], "ingest"))
    message = refused(settings, spark, "catalog", "the catalog is not empty", "at most 5.0% of the photos")
    assert "quarantined 2, catalog 0, share 1" in message


def test_too_many_photos_in_quarantine(settings: Settings, spark: Any) -> None:
    fill(settings, catalog(19))
    lake.append(settings, QUARANTINE, quarantined(["shop/a"], "ingest"))
    ask_gate(settings, "catalog", "shop", None, lambda: spark)  # 1 of 20: the threshold itself passes
    lake.append(settings, QUARANTINE, quarantined(["shop/b"], "ingest"))
    message = refused(settings, spark, "catalog", "at most 5.0% of the photos are in quarantine")
    assert "quarantined 2, catalog 19, share 0.09524, max_quarantine_share 0.05" in message


@IN_BOTH
def test_each_fault_of_a_catalog_is_named(settings: Settings, spark: Any) -> None:
    photos = catalog()
    photos[0]["image_id"] = photos[1]["image_id"]
    photos[2]["content_sha256"] = "0" * 63 + "g"
    photos[3]["content_sha256"] = "0" * 64 + "\n"
    photos[4]["product_id"], photos[5]["product_id"], photos[6]["product_id"] = "shop/ ", "", " "
    photos[7]["width"] = photos[8]["height"] = photos[9]["size"] = 0
    fill(settings, photos)
    faults = {"image_id is unique": 2, "every photo has a product_id": 3, "content_sha256 is 64 hex digits": 2}
    faults |= {f"{name} is at least 1": 1 for name in ("width", "height", "size")}
    message = refused(settings, spark, "catalog", *faults)
    assert unexpected(settings) == faults
    assert f'"image_id": {json.dumps(photos[9]["image_id"], ensure_ascii=False)}' in message


def test_null_labels(settings: Settings, spark: Any) -> None:
    """As another writer could leave them, who does not know that the column takes no null."""
    photos = catalog()
    fill(settings, photos)
    path = str(CATALOG.path(settings))
    there = lake.query(settings, "SELECT * FROM catalog")
    first = photos[0]["image_id"]
    products = [row["product_id"] if row["image_id"] != first else None for row in there.to_pylist()]
    loose = there.drop_columns("product_id").append_column("product_id", [products])
    write_deltalake(path, loose, mode="overwrite", schema_mode="overwrite", partition_by=["dataset"])
    DeltaTable(str(LABELS.path(settings))).delete("image_id LIKE 'shop/3 %'")
    run = refused(settings, spark, "catalog", "every photo has a product_id", "every photo is in the label history")
    assert run.count("unexpected 1") == 2


# ---- embeddings ----


def test_good_embeddings_pass(settings: Settings, spark: Any) -> None:
    photos = catalog(40)
    fill(settings, photos, vectors(photos[1:]))
    lake.append(settings, QUARANTINE, quarantined([photos[0]["image_id"]], "embed", "e"))
    result = ask_gate(settings, "embeddings", "shop", ENCODED, lambda: spark)
    assert result.success and len(result.checks) == 9
    (row,) = run_rows(settings)
    assert (row["state"], row["encoder"], row["encoder_version"]) == ("done", "e", VERSION)


@IN_BOTH
def test_each_fault_of_embeddings_is_named(settings: Settings, spark: Any) -> None:
    photos = catalog()
    rows = vectors(photos)
    rows[1]["embedding"] = [0.5, float("nan"), 0.5, 0.5]
    rows[2]["embedding"] = [0.5, 0.5, float("-inf"), 0.5]
    rows[3]["embedding"] = [0.5, None, 0.5, 0.5]
    rows[4]["embedding"] = [0.5, 0.5, 0.5, 0.504]
    rows[5]["embedding"] = [0.5, 0.5, 0.5, 0.496]
    rows[6]["embedding"] = [0.6, 0.8, 0.0]
    rows[7]["content_sha256"] = "f" * 64
    fill(settings, photos, [*rows[1:], rows[8], rows[9] | {"image_id": "shop/gone"}])
    faults = {
        "one vector an image and encoder version": 2,
        "no photo lacks its vector": 1,
        "every vector is of its photo's current content": 1,
        "no vector is of a photo that left the catalog": 1,
        "every vector has 4 dimensions": 1,
        "no vector holds NaN, infinity or null": 3,
        "every vector's norm is 1 ± 0.001": 2,
    }
    message = refused(settings, spark, "embeddings", *faults)
    assert unexpected(settings) == faults
    assert '"image_id": "shop/gone"' in message


def test_one_fault_fails_one_expectation(settings: Settings, spark: Any) -> None:
    photos = catalog()
    rows = vectors(photos)
    rows[0]["embedding"] = [float("nan")] * DIM
    fill(settings, photos, rows)
    refused(settings, spark, "embeddings", "no vector holds NaN, infinity or null")


def test_no_vectors_at_all(settings: Settings, spark: Any) -> None:
    fill(settings, catalog(), [])
    refused(settings, spark, "embeddings", "no photo lacks its vector")
    assert unexpected(settings) == {"no photo lacks its vector": 20}


def test_an_encoder_that_refuses_many_photos(settings: Settings, spark: Any) -> None:
    photos = catalog()
    fill(settings, photos, vectors(photos[2:]))
    lake.append(settings, QUARANTINE, quarantined([p["image_id"] for p in photos[:2]], "embed", "e"))
    message = refused(settings, spark, "embeddings", "the encoder put at most 5.0% of the photos in quarantine")
    assert "max_quarantine_share 0.05, observed 0.1" in message


@IN_BOTH
def test_vectors_that_collapsed_beside_what_serves_are_refused(settings: Settings, spark: Any) -> None:
    photos = catalog(80)
    spread = vectors(photos, OTHER)
    for at, row in enumerate(spread):
        row["embedding"] = [math.cos(at), math.sin(at), 0.0, 0.0]
    fill(settings, photos, vectors(photos))
    DeltaTable(str(EMBEDDINGS.path(settings))).delete(f"encoder_version = '{OTHER}'")
    lake.append(settings, EMBEDDINGS, spread)
    serve(settings, OTHER)
    message = refused(settings, spark, "embeddings", "near duplicates: 49.367% of the pairs")
    assert "value 0.4937, serving 0." in message and "max_near_duplicates 0.01]" in message
    said = run_rows(settings)[-1]["figures"]
    assert said["serving_version"] == OTHER and len(said["checks"]) == 9 + 5
    assert [text.split(":")[0] for text in said["warnings"]] == ["neighbours"]


def test_a_quarantined_photo_must_not_keep_an_older_vector(settings: Settings, spark: Any) -> None:
    photos = catalog(40)
    embedded = vectors(photos)
    embedded[0]["content_sha256"] = "f" * 64
    fill(settings, photos, embedded)
    lake.append(settings, QUARANTINE, quarantined([photos[0]["image_id"]], "embed", "e"))
    refused(settings, spark, "embeddings", "every vector is of its photo's current content")


# ---- metrics ----


def measure(settings: Settings, version: str, value: float, chance: float = 0.1, **other: Any) -> None:
    row = {"encoder_version": version, "encoder": "e" if version == VERSION else "old", "dataset": "shop"}
    row |= {"catalog_version": facts.catalog_version(settings, "shop"), "query_split": "all", "index_split": "all"}
    row |= {"relevant": "product_id", "classifier": "", "seed": 0, "metric": "mMP@5", "queries": 20}
    row |= {"queries_left_out": 0, "index_size": 20, "run_id": "r", "computed_at": lake.now()} | other
    lake.append(settings, METRICS, [row | {"slice": "all", "value": value}])
    lake.append(settings, METRICS, [row | {"slice": "shuffled_labels", "value": chance}])
    results(settings, row, value)


def results(settings: Settings, about: Row, value: float) -> None:
    """Each photo asks, and ``value`` of its first five neighbours are right."""
    task = ("encoder_version", "dataset", "catalog_version", "query_split", "index_split", "relevant")
    row: Row = {name: about[name] for name in task} | {"neighbours": [], "similarities": [], "n_relevant": 5}
    row["relevance"] = [rank < round(5 * value) for rank in range(5)]
    photos = lake.rows(settings, "SELECT image_id FROM catalog WHERE dataset = 'shop'")
    rows = [row | {"query_id": photo["image_id"]} for photo in photos]
    replacing = {name: about[name] for name in task}
    lake.write(settings, QUERY_RESULTS, pa.Table.from_pylist(rows, QUERY_RESULTS.schema), replacing=replacing)


def serve(settings: Settings, version: str, encoder: str = "old") -> None:
    row = {"dataset": "shop", "promoted_at": lake.now(), "encoder": encoder, "encoder_version": version}
    lake.append(settings, PROMOTIONS, [row | {"catalog_version": "c", "gates": "{}", "forced": False}])


def judge(settings: Settings) -> GateFigures:
    return ask_gate(settings, "metrics", "shop", ENCODED, pytest.fail)


def test_the_first_promotion_has_to_pass_something(settings: Settings) -> None:
    fill(settings, catalog())
    measure(settings, VERSION, 0.6)
    result = judge(settings)
    assert [check["figures"] for check in result.checks] == [
        {"value": 0.6, "min_value": 0.05},
        {"value": 0.6, "chance": 0.1, "min_above_chance": 0.05},
        {"skipped": "nothing serves yet"},
    ]
    assert result_json(result)["serving_version"] is None
    measure(settings, VERSION, 0.04, 0.02)  # the newest figures count
    message = refused(settings, None, "metrics", "above the floor", "above chance")
    assert "0.0400 is below the floor 0.0500" in message


def test_not_worse_than_what_serves(settings: Settings) -> None:
    fill(settings, catalog())
    measure(settings, VERSION, 0.6)
    serve(settings, OTHER)
    measure(settings, OTHER, 0.6)
    passed = judge(settings)
    assert result_json(passed)["serving_version"] == OTHER and passed.warnings == []
    assert [check["expectation"].split(":")[0] for check in passed.checks] == [
        *("above the floor", "above chance", "no worse than what serves", "new products no worse than by what serves"),
        *("no category far worse than by what serves", "no classifier worse than by what serves"),
    ]
    measure(settings, OTHER, 0.8)
    message = refused(settings, None, "metrics", "no worse than what serves")
    assert f"0.6000 against 0.8000 of the serving old ({OTHER}): -0.2000" in message
    serve(settings, VERSION, "e")
    assert judge(settings).checks[2]["figures"] == {"skipped": "it is what serves"}


def test_new_products_are_those_without_a_photo_to_learn_from(settings: Settings) -> None:
    photos = [row | {"split": "train" if n in (0, 5) else "test"} for n, row in enumerate(catalog(60))]
    fill(settings, photos)  # of 15 products the first two
    serve(settings, OTHER)
    for version, value in ((VERSION, 0.6), (OTHER, 0.8)):
        measure(settings, version, value)
    message = refused(settings, None, "metrics", "no worse than what serves", "new products no worse than by what")
    assert "52 queries of 13 products" in message


@pytest.mark.parametrize("other", [{"query_split": "test"}, {"catalog_version": "older"}, {"relevant": "category"}])
def test_what_serves_needs_figures_of_the_same_kind(settings: Settings, other: Row) -> None:
    fill(settings, catalog())
    measure(settings, VERSION, 0.6)
    serve(settings, OTHER)
    measure(settings, OTHER, 0.6, **other)
    with pytest.raises(UserError, match="vitrine evaluate --encoder old --dataset shop --relevant product_id"):
        judge(settings)
    assert run_rows(settings)[-1]["state"] == "failed"


def test_one_category_that_falls_is_named_in_the_refusal(settings: Settings) -> None:
    photos = catalog(200)
    for at, photo in enumerate(photos):
        photo["category"] = "<b>$hats\n" if at % 100 < 40 else None
    fill(settings, photos)
    measure(settings, VERSION, 0.6)
    serve(settings, OTHER)
    measure(settings, OTHER, 0.4)
    ids = ", ".join(lake.quote(photo["image_id"]) for photo in photos if photo["category"])
    worse, hats = "make_array(true, false, false, false, false)", f"query_id IN ({ids})"
    hats += f" AND encoder_version = '{VERSION}'"
    DeltaTable(str(QUERY_RESULTS.path(settings))).update({"relevance": worse}, predicate=hats)
    message = refused(settings, None, "metrics", "no category far worse than by what serves")
    assert r"1 of 1 categories fell by more than 0.0500" in message and r"'<b>$hats\n' from 0.4000 to 0.2000" in message
    pages = "".join(page.read_text() for page in (settings.reports / "data_docs" / "validations").rglob("*.html"))
    assert "hats" in pages and "<b>$hats" not in pages


def test_queries_that_hardly_overlap_do_not_compare(settings: Settings) -> None:
    fill(settings, catalog())
    measure(settings, VERSION, 0.6)
    serve(settings, OTHER)
    measure(settings, OTHER, 0.6)
    DeltaTable(str(QUERY_RESULTS.path(settings))).delete(f"encoder_version = '{OTHER}' AND query_id LIKE 'shop/1%'")
    with pytest.raises(UserError, match=r"has 9 of 20 queries in common with 'e': run .*--again .* and .*--again"):
        judge(settings)


def tune(settings: Settings, base: str | None) -> None:
    known = {"encoder": "e", "state": "experiment", "backbone": "b", "family": "f", "strategy": "top", "dim": DIM}
    known |= {"weights_uri": "", "licence": "", "created_at": lake.now()}
    lake.append(settings, ENCODERS, [known | {"encoder_version": VERSION, "base_version": base}])
    if base:
        lake.append(settings, ENCODERS, [known | {"encoder_version": base, "encoder": "mae"}])


def test_a_tuned_encoder_is_held_against_its_own_backbone(settings: Settings) -> None:
    base = "b" * 16
    fill(settings, catalog())
    tune(settings, base)
    measure(settings, VERSION, 0.6)
    with pytest.raises(UserError, match=rf"backbone of 'e', mae \({base}\).*`vitrine evaluate --encoder mae --dataset"):
        judge(settings)
    measure(settings, base, 0.8, encoder="mae")
    message = refused(settings, None, "metrics", "no worse than its own backbone")
    assert f"0.6000 against 0.8000 of its own backbone mae ({base})" in message
    measure(settings, base, 0.4, encoder="mae")
    assert judge(settings).success
    serve(settings, base, "mae")
    assert judge(settings).checks[-1]["figures"] == {"skipped": "it is what serves"}
    serve(settings, VERSION, "e")
    assert len(judge(settings).checks) == 3


def test_a_backbone_that_never_embedded_is_named(settings: Settings) -> None:
    fill(settings, catalog())
    tune(settings, None)
    measure(settings, VERSION, 0.6)
    assert judge(settings).success
    DeltaTable(str(ENCODERS.path(settings))).update(
        {"base_version": "'gone'"}, predicate=f"encoder_version = '{VERSION}'"
    )
    with pytest.raises(UserError, match="run `vitrine embed --encoder gone --dataset shop`, then `vitrine evaluate"):
        judge(settings)


def test_nothing_measured_on_this_catalog(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(settings, catalog())
    measure(settings, VERSION, 0.6, catalog_version="older")
    with pytest.raises(UserError, match="vitrine evaluate --encoder e --dataset shop"):
        judge(settings)
    measure(settings, VERSION, 0.6)
    monkeypatch.setenv("VITRINE_GATES__METRIC", "mMP@6")
    with pytest.raises(UserError, match="'mMP@6': choose one of mMP@5"):
        judge(load_settings(settings.root))


# ---- the door ----


def test_what_cannot_be_asked(settings: Settings) -> None:
    with pytest.raises(UserError, match="unknown gate 'pearly': choose one of catalog, embeddings, index, metrics"):
        ask_gate(settings, "pearly", "shop", None, pytest.fail)
    with pytest.raises(UserError, match="unknown data set 'shop'"):
        ask_gate(settings, "catalog", "shop", None, pytest.fail)
    fill(settings, catalog())
    with pytest.raises(UserError, match="name it with --encoder"):
        ask_gate(settings, "metrics", "shop", None, pytest.fail)
    with pytest.raises(UserError, match="vitrine embed --encoder e --dataset shop"):
        ask_gate(settings, "embeddings", "shop", ENCODED, object)


def test_parts_that_a_killed_run_left_spoil_nothing(settings: Settings) -> None:
    fill(settings, catalog())
    measure(settings, VERSION, 0.6)
    first = judge(settings)
    for path in [*(settings.home / "gx").rglob("*.json"), *Path(first.data_docs).parent.rglob("*.html")]:
        path.write_text(path.read_text()[:100])
    index = Path(judge(settings).data_docs).read_text()
    assert run_rows(settings)[-1]["run_id"] in index
    assert index.rstrip().endswith("</html>")
