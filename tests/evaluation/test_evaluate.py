"""Every figure is compared with a computation of its own, one query at a time over all cosines."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.evaluate import evaluate
from vitrine import lake
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, METRICS, QUERY_RESULTS

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
                "embedding": (vector / np.linalg.norm(vector)).astype(np.float32),
            }
    names = list(images)
    if len(names) > 5:  # two equal photos of one product
        images[names[5]]["embedding"] = images[names[4]]["embedding"]
    time = lake.now()
    rows = [{"image_id": image_id, "content_sha256": image_id} | image for image_id, image in images.items()]
    file = {"uri": "u", "size": 1, "width": 1, "height": 1}
    times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), time)
    lake.append(settings, CATALOG, [row | file | times for row in rows])
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


def run(settings: Settings, *args: Any, run_id: str = "r1", **kwargs: Any) -> dict[str, Any]:
    return evaluate(settings, "e", VERSION, *args, run_id=run_id, **kwargs)


@pytest.mark.parametrize("relevant", ["product_id", "category"])
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
    assert len(before) == 2 * 2 * 6 + 1
    assert len(results) == 2 * len(of_split(images, "test"))
    at = [lake.version(settings, table) for table in (METRICS, QUERY_RESULTS)]
    first = run(settings, "shop", run_id="r2")
    assert [lake.version(settings, table) for table in (METRICS, QUERY_RESULTS)] == [n + 1 for n in at]
    assert (state("metrics", clocks), state("query_results")) == (before, results)
    assert lake.rows(settings, "SELECT * FROM metrics WHERE relevant = 'category'") == theirs

    lake.append(settings, CATALOG, [lake.rows(settings, "SELECT * FROM catalog LIMIT 1")[0] | {"image_id": "shop/new"}])
    assert run(settings, "shop")["catalog_version"] != first["catalog_version"]
    assert len(state("metrics")) == len(before) + 12  # another catalog's figures stand beside the old ones


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
        ("shop", None, None, "colour"): "choose one of category, product_id",
    }.items():
        with pytest.raises(UserError, match=message):
            run(settings, *args)
    with pytest.raises(UserError, match="run `vitrine embed --encoder e --dataset shop` first"):
        evaluate(settings, "e", "f" * 16, "shop", run_id="r")
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
