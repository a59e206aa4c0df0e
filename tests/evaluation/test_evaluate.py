"""Every figure is compared with a computation of its own, one query at a time over all cosines."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import ValidationError

from evaluation.evaluate import evaluate
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.setting_sections import EvaluateSettings
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, LABELS, METRICS, PREDICTIONS, QUERY_RESULTS

VERSION = "0123456789abcdef"
Images = dict[str, dict[str, Any]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Settings]:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VITRINE_EVALUATE__DEPTH", "100")
    return lambda: load_settings(tmp_path)


def make(settings: Settings, dataset: str, splits: tuple[str | None, ...] = (None,), products: int = 30) -> Images:
    """A data set of noisy product vectors; odd ones: hostile ids, single photos, two equal photos, no category."""
    noise = np.random.default_rng(7)
    images: Images = {}
    for product in range(products):
        centre = noise.normal(size=16)
        for photo in range(1 + product % 7):
            vector = centre + 1.2 * noise.normal(size=16)
            images[f'{dataset}/{product}\'s\n"{photo}" é'] = {
                "dataset": dataset,
                "product_id": f"{dataset}/{product}",
                "category": None if product % 5 == 0 else f"kind {product % 4}",
                "split": splits[(product + photo) % len(splits)],
                "colour": None if photo == 3 else f"it's {product % 9}",
                "embedding": (vector / np.linalg.norm(vector)).astype(np.float32),
            }
    names = list(images)
    if len(names) > 5:  # two equal photos of one product
        images[names[5]]["embedding"] = images[names[4]]["embedding"]
    time = lake.now()
    rows = [{"image_id": image_id, "content_sha256": image_id} | image for image_id, image in images.items()]
    for row in rows:
        row["attributes"] = {"colour": row["colour"]} if row["colour"] else None
    file = {"uri": "u", "size": 1, "width": 1, "height": 1}
    times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), time)
    lake.append(settings, CATALOG, [row | file | times for row in rows])
    lake.append(settings, LABELS, [row | {"valid_from": time} for row in rows])
    made = {"encoder": "e", "encoder_version": VERSION, "event_timestamp": time, "created_timestamp": time}
    lake.append(settings, EMBEDDINGS, [row | made | {"embedding": row["embedding"].tolist()} for row in rows])
    return images


def brute_force(images: Images, queries: list[str], index: list[str], relevant: str) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for query in queries:
        label = images[query][relevant]
        others = [image_id for image_id in index if image_id != query]
        cosine = {i: float(images[i]["embedding"] @ images[query]["embedding"]) for i in others}
        ranked = sorted(others, key=lambda i: (-cosine[i], i))
        hits = [label is not None and images[i][relevant] == label for i in ranked]
        n = sum(hits)
        if not n:
            continue
        five, hundred = min(n, 5), min(n, 100)
        precisions = [sum(hits[: j + 1]) / (j + 1) for j in range(min(100, len(hits))) if hits[j]]
        gains = sum(1 / math.log2(j + 2) for j in range(min(100, len(hits))) if hits[j])
        figures = {
            "mMP@5": sum(hits[:five]) / five,
            "mR@1": float(hits[0]),
            "R@10": float(any(hits[:10])),
            "MAP@100": sum(precisions) / hundred,
            "MRR": 1 / (hits.index(True) + 1) if True in hits[:100] else 0.0,
            "NDCG@100": gains / sum(1 / math.log2(j + 2) for j in range(hundred)),
        }
        for name, value in figures.items():
            sums.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()} | {"n": len(sums["mR@1"])}


def of_split(images: Images, split: str | None) -> list[str]:
    return [image_id for image_id, image in images.items() if split is None or image["split"] == split]


def run(settings: Settings, dataset: str, *args: Any, run_id: str = "r1", **kwargs: Any) -> dict[str, Any]:
    return evaluate(settings, EncodedSet(dataset, "e", VERSION), *args, run_id=run_id, **kwargs)


@pytest.mark.parametrize("relevant", ["product_id", "category", "colour"])
@pytest.mark.parametrize(
    ("splits", "asked", "used"),
    [
        ((None,), (None, None), (None, None)),
        (("train", "test", "val"), (None, None), ("test", "train")),
        (("query", "gallery"), (None, None), ("query", "gallery")),
        (("train", "val"), (None, None), (None, None)),
        (("train", "test", "val"), ("val", "train"), ("val", "train")),
        (("train", "test"), ("train", "train"), ("train", "train")),
    ],
)
def test_figures_equal_brute_force(
    home: Callable[[], Settings],
    splits: tuple[str | None, ...],
    asked: tuple[str | None, str | None],
    used: tuple[str | None, str | None],
    relevant: str,
) -> None:
    settings = home()
    images = make(settings, "shop", splits)
    make(settings, "other", splits, products=3)
    queries, index = (of_split(images, split) for split in used)
    result = run(settings, "shop", *asked, relevant=relevant)

    expected = brute_force(images, queries, index, relevant)
    assert result["queries"] == expected.pop("n")
    assert result["queries"] + result["queries_left_out"] == len(queries)
    assert result["queries_left_out"] > 0
    assert result["index"] == len(index)
    assert (result["query_split"], result["index_split"]) == tuple(split or "all" for split in used)
    assert result["metrics"] == pytest.approx(expected, abs=1e-9)
    assert result["metrics"]["MAP@100"] > result["shuffled"]["MAP@100"] + 0.05
    assert not result["sampled"]
    written = lake.rows(settings, "SELECT metric, value, queries, index_size FROM metrics WHERE slice = 'all'")
    assert {row["metric"]: row["value"] for row in written} == result["metrics"]
    for name, (low, high) in result["intervals"].items():
        assert 0 <= low <= result["metrics"][name] <= high <= 1 + 1e-9
    assert {(row["queries"], row["index_size"]) for row in written} == {(result["queries"], len(index))}


def test_query_results_say_what_was_found(home: Callable[[], Settings]) -> None:
    settings = home()
    images = make(settings, "shop")
    run(settings, "shop")
    rows = lake.rows(settings, "SELECT * FROM query_results")
    assert {row["query_id"] for row in rows} == set(images)
    for row in rows:
        product = images[row["query_id"]]["product_id"]
        assert len(row["neighbours"]) == len(set(row["neighbours"])) == min(100, len(images) - 1)
        assert row["query_id"] not in row["neighbours"]
        assert row["relevance"] == [images[i]["product_id"] == product for i in row["neighbours"]]
        assert row["n_relevant"] == sum(image["product_id"] == product for image in images.values()) - 1
        vectors = np.stack([images[i]["embedding"] for i in row["neighbours"]])
        np.testing.assert_allclose(row["similarities"], vectors @ images[row["query_id"]]["embedding"], atol=1e-5)


def test_a_large_set_is_sampled_always_in_the_same_way(
    home: Callable[[], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    monkeypatch.setenv("VITRINE_EVALUATE__MAX_QUERIES", "40")
    settings = home()
    images = make(settings, "shop")
    result = run(settings, "shop")
    sample = sorted(images, key=lambda image_id: hashlib.sha256(image_id.encode()).hexdigest())[:40]
    expected = brute_force(images, sample, list(images), "product_id")
    assert result["sampled"]
    assert (result["queries"], result["index"]) == (expected.pop("n"), len(images))
    assert result["metrics"] == pytest.approx(expected, abs=1e-9)
    assert {row["query_id"] for row in lake.rows(settings, "SELECT query_id FROM query_results")} == set(sample)


def test_running_again_replaces_its_own_rows_alone(home: Callable[[], Settings]) -> None:
    settings = home()
    images = make(settings, "shop", ("train", "test"))
    run(settings, "shop")
    run(settings, "shop", relevant="category")
    theirs = lake.rows(settings, "SELECT * FROM metrics WHERE relevant = 'category'")
    classified = lake.rows(settings, "SELECT * FROM metrics WHERE slice = 'all' AND relevant = 'product_id'")[0]
    lake.append(settings, METRICS, [classified | {"classifier": "head", "metric": "accuracy"}])

    def state(table: str, drop: tuple[str, ...] = ()) -> list[str]:
        rows = lake.rows(settings, f"SELECT * FROM {table}")
        return sorted(str({k: v for k, v in row.items() if k not in drop}) for row in rows)

    clocks = ("run_id", "computed_at")
    before, results = state("metrics", clocks), state("query_results")
    assert sum("'all'" in row or "'shuffled_labels'" in row for row in before) >= 2 * 2 * 6 + 1
    assert len(results) == 2 * len(of_split(images, "test"))
    at = [lake.version(settings, table) for table in (METRICS, QUERY_RESULTS)]
    first = run(settings, "shop", run_id="r2", again=True)
    assert [lake.version(settings, table) for table in (METRICS, QUERY_RESULTS)] == [n + 1 for n in at]
    assert (state("metrics", clocks), state("query_results")) == (before, results)
    assert lake.rows(settings, "SELECT * FROM metrics WHERE relevant = 'category'") == theirs

    lake.append(settings, CATALOG, [lake.rows(settings, "SELECT * FROM catalog LIMIT 1")[0] | {"image_id": "shop/new"}])
    assert run(settings, "shop")["catalog_version"] != first["catalog_version"]
    mine = len(before) - 1 - len(theirs)
    assert len(state("metrics")) == len(before) + mine  # another catalog's figures stand beside the old ones


def test_what_cannot_be_is_said(home: Callable[[], Settings]) -> None:
    settings = home()
    lake.create_tables(settings)
    with pytest.raises(UserError, match="unknown data set 'shop': choose one of \\(none yet\\)"):
        run(settings, "shop")
    make(settings, "shop", ("train", "test"))
    for args, message in {
        ("ship",): "unknown data set 'ship': choose one of shop",
        ("shop", "test"): "give both splits, or neither",
        ("shop", None, "train"): "give both splits, or neither",
        ("shop", "tset", "train"): "unknown split of data set 'shop' 'tset': choose one of test, train",
        ("shop", "test", "x' OR 'a' = 'a"): "unknown split",
        ("shop", None, None, "color"): "choose one of category, colour, product_id",
    }.items():
        with pytest.raises(UserError, match=message):
            run(settings, *args)
    with pytest.raises(UserError, match="run `vitrine embed --encoder e --dataset shop` first"):
        evaluate(settings, EncodedSet("shop", "e", "f" * 16), run_id="r")
    assert lake.rows(settings, "SELECT * FROM metrics") == []


def test_nothing_to_find_is_said(home: Callable[[], Settings]) -> None:
    settings = home()
    make(settings, "shop", products=2)  # product 0 has one photo, product 1 two: only those can be found
    assert run(settings, "shop")["queries"] == 2
    make(settings, "singles", products=1)
    with pytest.raises(UserError, match="none of the 1 queries"):
        run(settings, "singles")
    with pytest.raises(UserError, match="no image of data set 'singles' has a category"):
        run(settings, "singles", relevant="category")


def test_each_slice_has_its_figures_and_intervals(home: Callable[[], Settings]) -> None:
    settings = home()
    images = make(settings, "shop")
    result = run(settings, "shop")
    rows = lake.rows(settings, "SELECT * FROM metrics WHERE metric = 'mMP@5'")
    kinds = {image["category"] for image in images.values()} - {None}
    assert {row["slice"] for row in rows} == {
        *("all", "shuffled_labels", "macro_product", "macro_category"),
        *(f"category={kind}" for kind in kinds),
    }
    found = {row["slice"]: row for row in rows}
    for kind in kinds:
        queries = [image_id for image_id, image in images.items() if image["category"] == kind]
        expected = brute_force(images, queries, list(images), "product_id")
        row = found[f"category={kind}"]
        assert (row["value"], row["queries"]) == (pytest.approx(expected["mMP@5"]), expected["n"])
        assert row["queries_left_out"] == len(queries) - expected["n"]
    assert all(row["low"] < row["value"] < row["high"] for row in rows if row["slice"] != "shuffled_labels")
    for name in ("macro_product", "macro_category"):
        said = result["slices"][name]
        assert said["metrics"]["mMP@5"] == found[name]["value"]
        assert said["intervals"]["mMP@5"] == [found[name]["low"], found[name]["high"]]
    products = {image["product_id"] for image in images.values()}
    means = []
    for product in products:
        own = [image_id for image_id, image in images.items() if image["product_id"] == product]
        means += [brute_force(images, own, list(images), "product_id")["mMP@5"]] if len(own) > 1 else []
    assert found["macro_product"]["value"] == pytest.approx(np.mean(means))


@pytest.mark.parametrize("splits", [(None,), ("train", "test")])
def test_exact_duplicates_of_a_query_are_left_out_of_a_slice_of_their_own(
    home: Callable[[], Settings], splits: tuple[str | None, ...]
) -> None:
    settings = home()
    images = make(settings, "shop", splits)
    plain = run(settings, "shop")
    assert "without_duplicates" not in plain["slices"]
    names = sorted(images)
    contents = {name: name if at % 4 else f"copy {at % 8}" for at, name in enumerate(names)}  # of any product
    table = DeltaTable(str(EMBEDDINGS.path(settings)))
    for content in {content for content in contents.values() if content.startswith("copy")}:
        copies = ", ".join(lake.quote(name) for name in names if contents[name] == content)
        table.update({"content_sha256": lake.quote(content)}, predicate=f"image_id IN ({copies})")
    queries, index = (names, names) if splits == (None,) else (of_split(images, "test"), of_split(images, "train"))
    sums: dict[str, float] = {}
    for query in queries:
        others = [name for name in index if contents[name] != contents[query]]
        if images[query]["product_id"] not in {images[name]["product_id"] for name in others}:
            continue
        for metric, value in brute_force(images, [query], others, "product_id").items():
            sums[metric] = sums.get(metric, 0.0) + value
    result = run(settings, "shop")
    found = result["slices"]["without_duplicates"]
    assert result["metrics"] == plain["metrics"] and found["queries"] == sums["n"]
    for metric, value in found["metrics"].items():
        assert value == pytest.approx(sums[metric] / sums["n"], abs=1e-6), metric
    again = run(settings, "shop")
    assert not again["computed"] and again["slices"] == result["slices"]


def test_map_over_the_whole_ranking_where_it_is_asked_for(home: Callable[[], Settings]) -> None:
    settings = home()
    images = make(settings, "shop", ("train", "test"))
    queries, index = of_split(images, "test"), of_split(images, "train")
    expected = brute_force(images, queries, index, "product_id")["MAP@100"]  # fewer than 100 are relevant, or indexed
    assert "MAP" not in run(settings, "shop")["metrics"]
    result = run(settings, "shop", full_map=True)
    assert result["computed"] and result["metrics"]["MAP"] == pytest.approx(expected, abs=1e-6)
    low, high = result["intervals"]["MAP"]
    assert low < expected < high
    again = run(settings, "shop", full_map=True)
    plain = run(settings, "shop")
    assert not again["computed"] and again["metrics"] == result["metrics"]
    assert not plain["computed"] and "MAP" not in plain["metrics"]
    assert not list(settings.home.glob("ranking-*"))


def test_what_is_there_is_read_back_whole(home: Callable[[], Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = home()
    images = make(settings, "shop")
    said = {"image_id": "shop/gone", "dataset": "shop", "encoder_version": VERSION, "classifier": "c", "seed": 0}
    said |= {"label": "category", "truth": "a", "predicted": ["a"], "probabilities": [1.0], "training_set": "t"}
    lake.append(settings, PREDICTIONS, [said | {"predicted_at": lake.now()}])
    first = run(settings, "shop")
    at = [lake.version(settings, table) for table in (METRICS, QUERY_RESULTS)]
    back = run(settings, "shop", run_id="r2")
    assert (first.pop("computed"), back.pop("computed")) == (True, False)
    latency, none = first.pop("latency"), back.pop("latency")
    assert 0 < latency["low"] <= latency["milliseconds"] <= latency["high"] and none is None
    assert first.pop("seconds") > back.pop("seconds")
    assert json.dumps(back) == json.dumps(first) and len(back["classifiers_left_out"]) == 1
    assert [lake.version(settings, table) for table in (METRICS, QUERY_RESULTS)] == at

    # A vector that came later, without any change of the catalog's version; a depth; a sample.
    other = next(iter(images.values())) | {"image_id": "shop/late", "content_sha256": "late", "category": None}
    stored = lake.rows(settings, "SELECT * FROM embeddings LIMIT 1")[0]
    lake.append(settings, EMBEDDINGS, [stored | other | {"embedding": other["embedding"].tolist()}])
    late = run(settings, "shop")
    assert (late["computed"], late["index"]) == (True, first["index"] + 1)
    monkeypatch.setenv("VITRINE_EVALUATE__MAX_QUERIES", "40")
    assert run(home(), "shop")["sampled"]
    back = run(home(), "shop")
    assert back["sampled"] and not back["computed"]
    monkeypatch.setenv("VITRINE_EVALUATE__DEPTH", "20")
    assert "MAP@20" in run(home(), "shop")["metrics"]


def test_a_table_of_metrics_without_intervals_is_written_to_and_read(home: Callable[[], Settings]) -> None:
    settings = home()
    make(settings, "shop")
    first = run(settings, "shop")
    rows = lake.query(settings, "SELECT * FROM metrics")
    old = [name for name in METRICS.schema.names if name not in ("low", "high", "input_version")]
    shutil.rmtree(METRICS.path(settings))
    schema = pa.schema([METRICS.schema.field(name) for name in old])
    write_deltalake(str(METRICS.path(settings)), rows.select(old).cast(schema), partition_by=["dataset"])
    again = run(settings, "shop")
    assert again["computed"] and again["metrics"] == first["metrics"]
    assert lake.query(settings, "SELECT * FROM metrics").num_rows == rows.num_rows
    assert not run(settings, "shop")["computed"]


def test_figures_by_an_attribute_follow_its_values(home: Callable[[], Settings]):
    settings = home()
    make(settings, "shop")
    first = run(settings, "shop", relevant="colour")
    by_product = run(settings, "shop")
    assert first["catalog_version"] != by_product["catalog_version"]
    assert not run(settings, "shop", relevant="colour")["computed"]
    for table in (CATALOG, EMBEDDINGS):  # as an ingest and an embed leave them
        rows = lake.rows(settings, f"SELECT * FROM {table.name}")
        for row in rows:
            row["attributes"] = {"colour": "all the same"}
        lake.write(settings, table, pa.Table.from_pylist(rows, schema=table.schema), replacing={"dataset": "shop"})
        if table is CATALOG:
            assert run(settings, "shop", relevant="colour")["metrics"] == first["metrics"], "vectors lack it still"
    assert not run(settings, "shop")["computed"], "those by product stay"
    again = run(settings, "shop", relevant="colour")
    assert again["computed"] and again["metrics"]["mR@1"] == 1.0
    with pytest.raises(UserError, match="of data set 'shop' 'colur': choose one of category, colour, product_id"):
        run(settings, "shop", relevant="colur")


def test_figures_are_sliced_by_the_values_of_attributes(home: Callable[[], Settings]):
    settings = home()
    images = make(settings, "shop")
    whole = run(settings, "shop")
    sliced = settings.model_copy(update={"evaluate": EvaluateSettings(slices=("colour", "size"))})
    found = run(sliced, "shop")
    assert (
        found["computed"]
        and found["metrics"] == whole["metrics"]
        and found["slices"].keys() - whole["slices"] == {"macro_colour"}
    ), "no photo has a size"
    rows = lake.rows(settings, "SELECT * FROM metrics WHERE slice LIKE 'colour=%' AND metric = 'mR@1'")
    asked: dict[str, list[float]] = {}
    for one in lake.rows(settings, "SELECT query_id, relevance[1] AS hit FROM query_results WHERE n_relevant > 0"):
        asked.setdefault(images[one["query_id"]]["colour"], []).append(float(one["hit"]))
    asked.pop(None, None)
    means = {f"colour={name}": sum(hits) / len(hits) for name, hits in asked.items()}
    assert {row["slice"]: row["value"] for row in rows} == pytest.approx(means)
    macro = found["slices"]["macro_colour"]
    assert macro["metrics"]["mR@1"] == pytest.approx(sum(means.values()) / len(means))
    assert not run(sliced, "shop")["computed"] and run(settings, "shop")["computed"]
    with pytest.raises(ValidationError, match="category: figures are by product and category anyway"):
        EvaluateSettings(slices=("colour", "category"))
