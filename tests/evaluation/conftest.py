"""A shop whose tables are full, made without Spark, torch or Milvus: what the report is read from."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evaluation.classification.classification_metrics import (
    NAMES,
    Predictions,
    calibration,
    classification_intervals,
    classification_metrics,
    confusion,
)
from evaluation.metrics_table import Scores, named, write_scores
from evaluation.retrieval.slices import SHUFFLED, WITHOUT_DUPLICATES, slice_scores
from vitrine import facts, lake, tables
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.retrieval_metrics import per_query
from vitrine.settings import Settings, load_settings

NIGHT = datetime(2026, 3, 1, 2, tzinfo=UTC)
DEPTH, EACH = 10, 4  # neighbours of a query, photos of a product
CATEGORIES = ("mugs", "shirts", "shoes", "lamps", "bags", "chairs", "bottles", "clocks")


@dataclass(frozen=True)
class Made:
    """An encoder of the shop: ``skill`` is how likely a relevant photo comes next."""

    name: str
    family: str
    skill: float
    dim: int
    seconds: float
    strategy: str = "pretrained"
    base: str | None = None
    source: str | None = None

    @property
    def version(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]


ENCODERS = (
    Made("resnet50", "supervised", 0.55, 2048, 25.0),
    Made("efficientnet_lite0", "supervised", 0.60, 1280, 12.0),
    Made("efficientnet_lite0__top__shop", "supervised", 0.68, 256, 0.4, "top", "efficientnet_lite0", "shop"),
    Made("efficientnet_lite0__top__grocery", "supervised", 0.57, 256, 0.4, "top", "efficientnet_lite0", "grocery"),
    Made("dinov2_vits14", "self_supervised", 0.71, 384, 60.0),
    Made("mae_vitb16", "self_supervised", 0.34, 768, 130.0),
    Made("mae_vitb16__top__shop", "self_supervised", 0.30, 128, 0.3, "top", "mae_vitb16", "shop"),
    Made("clip_vitb32", "contrastive", 0.715, 512, 45.0),
    Made("siglip_vitb16", "contrastive", 0.79, 768, 140.0),
)


def make_shop(
    settings: Settings, dataset: str, products: int, encoders: tuple[Made, ...] = ENCODERS, drawn: int = 12
) -> list[dict[str, Any]]:
    """Fill every table that the report reads; the first photos of the catalog are drawn, others share their files."""
    random = np.random.default_rng(len(dataset))
    catalog = _catalog(settings, dataset, products, drawn)
    version = facts.catalog_version(settings, dataset)
    _register(settings, encoders)
    runs = [_run("ingest", dataset, 0, 20.0, {"images": len(catalog), "added": len(catalog)})]
    hard = random.random(len(catalog) // EACH)  # what is hard for one encoder is hard for the others
    for at, made in enumerate(encoders):
        noise = np.random.default_rng(at + 1)
        money = {"computed": len(catalog), "embedded": len(catalog), "currency": "EUR"}
        for night in range(2):
            seconds = made.seconds * len(catalog) / 1000 * (1 + 0.1 * night) + 0.01
            figures = money | {"money": seconds * 4e-5}
            runs.append(_run("embed", dataset, 2 + 2 * at + night, seconds, figures, made))
        said = _classify(settings, dataset, version, catalog, made, noise, hard)
        _evaluate(settings, dataset, version, catalog, made, noise, hard)
        latency = {"milliseconds": 1 + made.dim / 400, "low": 0.8 + made.dim / 500, "high": 2 + made.dim / 300}
        latency |= {"queries": 20, "limit": 10, "index": "FLAT", "milvus": "Lite"}
        figures = {"queries": len(catalog), "latency": latency, "classifiers": said, "computed": True}
        runs.append(_run("evaluate", dataset, 40 + at, 9.0 + at, figures, made))
    lake.append(settings, tables.RUNS, [*runs, *_gate_runs(dataset, encoders)])
    _serve(settings, dataset, version, encoders[1], encoders[min(4, len(encoders) - 1)])
    _quarantine(settings, dataset, catalog)
    return catalog


def _catalog(settings: Settings, dataset: str, products: int, drawn: int) -> list[dict[str, Any]]:
    folder = settings.home.parent / "photos"
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(products):
        for photo in range(EACH):
            path = folder / f"{number % drawn}-{photo}.jpg"
            if not path.exists():
                path.write_bytes(draw_photo(product(number % drawn), photo, size=160))
            item = product(number).slug
            rows.append(
                {
                    "image_id": f"{dataset}/{item}/{photo}.jpg",
                    "dataset": dataset,
                    "product_id": f"{dataset}/{item}",
                    "category": CATEGORIES[number % len(CATEGORIES)],
                    "uri": str(path),
                    "size": path.stat().st_size,
                    "modified_at": NIGHT,
                    "content_sha256": f"{dataset}-{number if (number, photo) != (1, 0) else 0}-{photo}",
                    "width": 160,
                    "height": 160,
                    "content_seen_at": NIGHT,
                    "updated_at": NIGHT,
                }
            )
    lake.append(settings, tables.CATALOG, rows)
    return rows


def _register(settings: Settings, encoders: tuple[Made, ...]) -> None:
    known = {row["encoder_version"] for row in lake.rows(settings, "SELECT encoder_version FROM encoders")}
    cost = json.dumps({"seconds": 410.0, "money": 0.01, "currency": "EUR"})
    names = {made.name: made.version for made in encoders}
    rows = [
        {
            "encoder_version": made.version,
            "encoder": made.name,
            "state": "experiment",
            "backbone": f"timm/{made.base or made.name}",
            "family": made.family,
            "strategy": made.strategy,
            "source_dataset": made.source,
            "base_version": names.get(made.base or ""),
            "dim": made.dim,
            "weights_uri": "hub",
            "licence": "apache-2.0",
            "created_at": NIGHT,
            "cost": cost if made.base else None,
        }
        for made in encoders
        if made.version not in known
    ]
    lake.append(settings, tables.ENCODERS, rows)


def _evaluate(
    settings: Settings,
    dataset: str,
    version: str,
    catalog: list[dict[str, Any]],
    made: Made,
    random: np.random.Generator,
    hard: np.ndarray,
) -> None:
    """Results of every query, and the figures that follow from them."""
    n, products = len(catalog), np.arange(len(catalog)) // EACH
    easy = made.skill + 0.5 * (0.5 - hard[products])
    relevance = np.zeros((n, DEPTH), dtype=bool)
    neighbours = random.integers(n, size=(n, DEPTH))
    neighbours = np.where(neighbours // EACH == products[:, None], (neighbours + EACH) % n, neighbours)
    for query in range(n):
        others = iter([p for p in range(EACH * products[query], EACH * products[query] + EACH) if p != query])
        for rank in np.flatnonzero(random.random(DEPTH) < easy[query])[: EACH - 1]:
            neighbours[query, rank], relevance[query, rank] = next(others), True
    ids = np.array([row["image_id"] for row in catalog], dtype=object)
    near = np.sort(0.4 + 0.599 * random.random((n, DEPTH)), axis=1)[:, ::-1]
    keys = {"encoder_version": made.version, "dataset": dataset, "catalog_version": version}
    keys |= {"query_split": "all", "index_split": "all", "relevant": "product_id"}
    rows = pa.table(
        {name: pa.repeat(value, n) for name, value in keys.items()}
        | {
            "query_id": pa.array(ids),
            "neighbours": pa.array([ids[each].tolist() for each in neighbours]),
            "similarities": pa.array(near.tolist(), pa.list_(pa.float32())),
            "relevance": pa.array(relevance.tolist()),
            "n_relevant": pa.array(np.full(n, EACH - 1)),
        }
    )
    lake.write(settings, tables.QUERY_RESULTS, rows.select(tables.QUERY_RESULTS.schema.names))
    each = per_query(np.pad(relevance, ((0, 0), (0, 100 - DEPTH))), np.full(n, EACH - 1))
    categories = [row["category"] for row in catalog]
    slices = slice_scores(each, products, categories, n)
    for name, factor in ((SHUFFLED, 0.02), (WITHOUT_DUPLICATES, 0.99)):
        alike = {metric: values * factor for metric, values in each.items()}
        one = slice_scores(alike, products, [None] * n, n)[0]
        slices.append(Scores(name, one.values, one.intervals, one.queries, 0, n))
    about = {"encoder": made.name, "run_id": "r", "input_version": "i"}
    write_scores(settings, keys | {"classifier": "", "seed": 0}, about, slices)


def _classify(
    settings: Settings,
    dataset: str,
    version: str,
    catalog: list[dict[str, Any]],
    made: Made,
    random: np.random.Generator,
    hard: np.ndarray,
) -> list[dict[str, Any]]:
    """Two classifiers' predictions of the category, and the figures that follow from them."""
    said, rows = [], []
    truth = np.array([CATEGORIES.index(row["category"]) for row in catalog])
    products = np.arange(len(catalog)) // EACH
    for classifier, better in (("linear_probe", 0.1), ("nearest_neighbours", 0.0)):
        sure = np.clip(made.skill + better + 0.3 * (0.5 - hard[products]), 0.05, 0.97)
        right = random.random(len(truth)) < sure
        told = np.where(right, truth, (truth + random.integers(1, 8, len(truth))) % len(CATEGORIES))
        one = Predictions(truth, told, random.random(len(truth)) < 0.95, np.clip(sure + 0.05, 0, 1))
        figures = classification_metrics(one)
        values = np.array([figures[name] for name in NAMES])
        scores = Scores("all", *named(NAMES, values, classification_intervals(one, products)), len(truth), 0)
        keys = {"encoder_version": made.version, "dataset": dataset, "catalog_version": version, "seed": 0}
        keys |= {"query_split": "test", "index_split": "", "relevant": "category", "classifier": classifier}
        write_scores(settings, keys, {"encoder": made.name, "run_id": "r", "input_version": "i"}, [scores])
        rows += [
            {
                "image_id": row["image_id"],
                "dataset": dataset,
                "encoder_version": made.version,
                "classifier": classifier,
                "label": "category",
                "seed": 0,
                "truth": CATEGORIES[truth[at]],
                "predicted": [CATEGORIES[told[at]]],
                "probabilities": [float(one.confidence[at])],
                "training_set": "t",
                "predicted_at": NIGHT,
            }
            for at, row in enumerate(catalog)
        ]
        details = confusion(one, list(CATEGORIES)) | {"calibration": calibration(one)}
        said.append({"classifier": classifier, "label": "category", "seed": 0} | details)
    lake.append(settings, tables.PREDICTIONS, rows)
    return said


def _run(
    verb: str,
    dataset: str,
    minute: int,
    seconds: float,
    figures: dict[str, Any],
    made: Made | None = None,
    **other: Any,
) -> dict[str, Any]:
    return {
        "run_id": f"{dataset}-{verb}-{minute}",
        "verb": verb,
        "dataset": dataset,
        "encoder": made.name if made else None,
        "encoder_version": made.version if made else None,
        "state": "done",
        "started_at": NIGHT + timedelta(minutes=minute),
        "seconds": seconds,
        "peak_mib": 512.0,
        "figures": json.dumps(figures),
    } | other


def _gate_runs(dataset: str, encoders: tuple[Made, ...]) -> list[dict[str, Any]]:
    unclear = "no worse than what serves: mMP@5 0.61 against 0.62: -0.008 (95 % interval -0.02 to +0.004), unclear"
    checks = [
        {"expectation": "above the floor", "success": True, "figures": {"value": 0.61, "min_value": 0.05}},
        {"expectation": unclear, "success": True, "figures": {"difference": -0.008, "warning": "unclear"}},
    ]
    refused = [{"expectation": "above the floor", "success": False, "figures": {"value": 0.03, "min_value": 0.05}}]
    fine = [{"expectation": "image_id is unique", "success": True, "figures": {"checked": 48, "unexpected": 0}}]
    return [
        _run("gate", dataset, 70, 5.0, {"gate": "catalog", "checks": fine, "failed": [], "warnings": []}),
        _run("gate", dataset, 71, 5.0, {"gate": "metrics", "checks": checks, "warnings": [unclear]}, encoders[1]),
        _run("gate", dataset, 72, 5.0, {"gate": "metrics", "checks": refused}, encoders[-1], state="refused"),
    ]


def _serve(settings: Settings, dataset: str, version: str, first: Made, second: Made) -> None:
    gates = {"metrics": {"problem": "gate metrics refused: no worse than what serves"}, "catalog": {"problem": None}}
    common = {"dataset": dataset, "catalog_version": version}
    rows = [
        {"encoder": first.name, "encoder_version": first.version, "promoted_at": NIGHT, "gates": "{}", "forced": False},
        {
            "encoder": second.name,
            "encoder_version": second.version,
            "previous_version": first.version,
            "promoted_at": NIGHT + timedelta(hours=2),
            "gates": json.dumps(gates),
            "forced": True,
            "reason": "the sale starts at noon",
        },
    ]
    lake.append(settings, tables.PROMOTIONS, [common | row for row in rows])


def _quarantine(settings: Settings, dataset: str, catalog: list[dict[str, Any]]) -> None:
    broken = settings.home.parent / "photos" / "broken.jpg"
    broken.write_bytes(Path(catalog[0]["uri"]).read_bytes()[:900])
    stage = {"dataset": dataset, "first_seen": NIGHT, "last_seen": NIGHT}
    rows = [
        {
            "image_id": f"{dataset}/broken.jpg",
            "stage": "ingest",
            "encoder": "",
            "uri": str(broken),
            "code": "truncated",
        },
        {
            "image_id": f"{dataset}/odd.jpg",
            "stage": "embed",
            "encoder": "mae_vitb16",
            "uri": catalog[1]["uri"],
            "code": "bad_vector",
        },
    ]
    lake.append(settings, tables.QUARANTINE, [stage | row | {"reason": "the file ends early"} for row in rows])


@pytest.fixture(scope="session")
def full_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Two data sets of nine encoders: read it, do not write to it."""
    root = tmp_path_factory.mktemp("full")
    settings = load_settings(root).model_copy(update={"home": root / "home"})
    make_shop(settings, "shop", 48)
    make_shop(settings, "grocery", 16, tuple(made for made in ENCODERS if "efficientnet" in made.name))
    yield settings
