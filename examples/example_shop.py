"""A small lake to try queries on: the same rows wherever it is made, in two seconds and without a network.

    python examples/example_shop.py HOME

Products are those that ``vitrine demo`` draws. Their vectors are not computed from photos but drawn at random by a
fixed seed, one cloud a category and one a product: the figures show what the tables hold, and say nothing of real
encoders.
docs/analysts.md and examples/open_the_tables.ipynb ask this lake.
"""

import argparse
import json
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics_table import write_scores
from evaluation.retrieval.slices import slice_scores
from vitrine import facts, lake
from vitrine.datasets.drawn.photos import product
from vitrine.retrieval_metrics import per_query
from vitrine.settings import Settings
from vitrine.tables import (
    CATALOG,
    EMBEDDINGS,
    ENCODERS,
    PRODUCT_EMBEDDINGS,
    PROMOTIONS,
    QUARANTINE,
    QUERY_RESULTS,
    RUNS,
    Table,
)

DATASET, PRODUCTS, PHOTOS, LATE = "shop", 36, 4, 6
"""The last ``LATE`` products came in the second night."""
NIGHTS = [datetime(2026, 3, day, 2, tzinfo=UTC) for day in (2, 3, 4)]
# encoder: version, dimension, strategy, base's version, photos a second, how far photos lie from their product
ENCODER_ROWS = {
    "shop_small": ("5a11000000000001", 64, "pretrained", None, 61.0, 0.30),
    "shop_large": ("1a46e00000000002", 128, "pretrained", None, 12.5, 0.21),
    "shop_large__top__shop": ("1a46e70b00000003", 96, "top", "1a46e00000000002", 2400.0, 0.23),
}
KEY = {"dataset": DATASET, "query_split": "test", "index_split": "train", "relevant": "product_id"}


def make(home: Path) -> Settings:
    """The lake in ``home``, which must be new; its settings. Delta's history is of two commits, 15 days apart."""
    settings = Settings(root=home.parent, home=home)
    lake.create_tables(settings)
    photos = catalog()
    vectors = {encoder: embeddings(encoder, photos) for encoder in ENCODER_ROWS}
    early = [photo for photo in photos if photo["updated_at"] == NIGHTS[0]]
    for night in (early, photos[len(early) :]):
        lake.append(settings, CATALOG, night)
        ids = {photo["image_id"] for photo in night}
        lake.append(settings, EMBEDDINGS, (row for rows in vectors.values() for row in rows if row["image_id"] in ids))
        if night is early:
            _date_back(settings, (CATALOG, EMBEDDINGS), days=15)
    for encoder, rows in vectors.items():
        lake.append(settings, PRODUCT_EMBEDDINGS, product_means(rows))
        evaluate(settings, encoder, rows)
    lake.append(settings, ENCODERS, encoders())
    lake.append(settings, PROMOTIONS, promotions())
    lake.append(settings, QUARANTINE, quarantine())
    lake.append(settings, RUNS, runs())
    return settings


def catalog() -> list[dict[str, Any]]:
    rows = []
    for number in range(PRODUCTS * PHOTOS):
        item, photo = product(number // PHOTOS), number % PHOTOS
        path = f"{item.slug}/{photo:02d}.jpg"
        night = NIGHTS[0] if number // PHOTOS < PRODUCTS - LATE else NIGHTS[1]
        times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), night)
        row = {"image_id": f"{DATASET}/{path}", "dataset": DATASET, "product_id": f"{DATASET}/{item.slug}"}
        row |= {"category": item.kind, "split": "train" if photo else "test", "uri": f"photos/{path}", "size": 20_000}
        rows.append(row | times | {"content_sha256": f"{number:064x}", "width": 320, "height": 240})
    return rows


def embeddings(encoder: str, photos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Unit vectors: a category's direction, half of it a product's, and noise by the encoder's quality."""
    version, dim, *_, noise = ENCODER_ROWS[encoder]
    random = np.random.default_rng(dim)
    kinds = sorted({photo["category"] for photo in photos})
    of_kind = dict(zip(kinds, random.standard_normal((len(kinds), dim)), strict=True))
    of_product = random.standard_normal((PRODUCTS, dim)) * 0.5
    rows = []
    for number, photo in enumerate(photos):
        vector = of_kind[photo["category"]] + of_product[number // PHOTOS]
        vector = vector + random.standard_normal(dim) * noise * (4 if number % 11 == 0 else 2)
        unit = (vector / np.linalg.norm(vector)).astype(np.float32)
        shared = {name: photo[name] for name in EMBEDDINGS.schema.names if name in photo}
        times = dict.fromkeys(("event_timestamp", "created_timestamp"), photo["updated_at"])
        rows.append(shared | times | {"encoder": encoder, "encoder_version": version, "embedding": unit.tolist()})
    return rows


def product_means(rows: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for first in range(0, len(rows), PHOTOS):
        group = rows[first : first + PHOTOS]
        mean = np.mean([row["embedding"] for row in group], axis=0)
        shared = {name: group[0][name] for name in PRODUCT_EMBEDDINGS.schema.names if name in group[0]}
        unit = (mean / np.linalg.norm(mean)).astype(np.float32).tolist()
        yield shared | {"n_images": PHOTOS, "images_md5": f"{first:032x}", "embedding": unit}


def evaluate(settings: Settings, encoder: str, rows: list[dict[str, Any]]) -> None:
    """Each test photo against the train photos: rows of ``metrics`` and ``query_results``."""
    key = KEY | {
        "encoder_version": ENCODER_ROWS[encoder][0],
        "catalog_version": facts.catalog_version(settings, DATASET),
    }
    queries, index = ([row for row in rows if row["split"] == split] for split in ("test", "train"))
    similarity = _matrix(queries) @ _matrix(index).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :10]
    asked, found = (np.array([row["product_id"] for row in these]) for these in (queries, index))
    relevance = found[nearest] == asked[:, None]
    n_relevant = (found == asked[:, None]).sum(axis=1)
    of_product = np.unique(asked, return_inverse=True)[1]
    scores = slice_scores(
        per_query(relevance, n_relevant), of_product, [row["category"] for row in queries], len(index)
    )
    about = {"encoder": encoder, "run_id": f"evaluate-{encoder}", "input_version": None}
    write_scores(settings, key | {"classifier": "", "seed": 0}, about, scores)
    lake.append(
        settings,
        QUERY_RESULTS,
        (
            key
            | {"query_id": row["image_id"], "neighbours": [index[at]["image_id"] for at in nearest[number]]}
            | {"similarities": similarity[number, nearest[number]].tolist(), "relevance": relevance[number].tolist()}
            | {"n_relevant": int(n_relevant[number])}
            for number, row in enumerate(queries)
        ),
    )


def _matrix(rows: list[dict[str, Any]]) -> NDArray[np.float32]:
    return np.array([row["embedding"] for row in rows], np.float32)


def encoders() -> Iterable[dict[str, Any]]:
    for encoder, (version, dim, strategy, base, *_) in ENCODER_ROWS.items():
        row = {"encoder": encoder, "encoder_version": version, "dim": dim, "strategy": strategy, "base_version": base}
        row |= {"state": "nightly", "backbone": encoder.split("__")[0], "family": "supervised", "licence": "none"}
        yield row | {"weights_uri": "random", "source_dataset": DATASET if base else None, "created_at": NIGHTS[0]}


def promotions() -> Iterable[dict[str, Any]]:
    before = None
    for encoder, night in (("shop_small", NIGHTS[0]), ("shop_large__top__shop", NIGHTS[2])):
        row = {"dataset": DATASET, "promoted_at": night + timedelta(hours=1), "encoder": encoder, "gates": "{}"}
        row |= {"encoder_version": ENCODER_ROWS[encoder][0], "previous_version": before, "forced": False}
        yield row | {"catalog_version": "", "reason": None}
        before = ENCODER_ROWS[encoder][0]


def quarantine() -> Iterable[dict[str, Any]]:
    for number, (code, reason) in enumerate(
        [("truncated", "the file ends early"), ("truncated", "the file ends early"), ("missing", "no such file")]
    ):
        path = f"new-{number:04d}/00.jpg"
        row = {"image_id": f"{DATASET}/{path}", "dataset": DATASET, "stage": "ingest", "encoder": "", "code": code}
        seen = {"first_seen": NIGHTS[number], "last_seen": NIGHTS[2]}
        yield row | seen | {"uri": f"photos/{path}", "reason": reason}


def runs() -> Iterable[dict[str, Any]]:
    """Three nights: all photos are new, some are, none is."""
    for number, (night, photos) in enumerate(zip(NIGHTS, ((PRODUCTS - LATE) * PHOTOS, LATE * PHOTOS, 0), strict=True)):
        verbs = [("ingest", None, 4.0 + photos / 100)]
        verbs += [("embed", name, photos / row[4]) for name, row in ENCODER_ROWS.items() if photos]
        verbs.append(("gate embeddings", "shop_large__top__shop", 3.0))
        for place, (verb, encoder, seconds) in enumerate(verbs):
            figures: dict[str, Any] = {"seconds": seconds}
            if verb == "embed":
                figures |= {"computed": photos, "core_seconds": 2 * seconds, "gpu_seconds": 0.0, "currency": "EUR"}
                figures |= {"money": round(2 * seconds * 0.04 / 3600, 6)}
            state = "refused" if verb.startswith("gate") and number == 1 else "done"
            row = {"run_id": f"{number}-{place}", "verb": verb, "dataset": DATASET, "encoder": encoder, "state": state}
            row |= {"encoder_version": ENCODER_ROWS[encoder][0] if encoder else None, "catalog_version": None}
            row |= {"started_at": night + timedelta(minutes=place), "seconds": seconds, "peak_mib": 900.0}
            yield row | {"figures": json.dumps(figures)}


def _date_back(settings: Settings, tables: Iterable[Table], days: int) -> None:
    """All commits so far happened ``days`` ago: Delta takes a commit's time from its file."""
    then = time.time() - days * 86_400
    for table in tables:
        for commit in (table.path(settings) / "_delta_log").glob("*.json"):
            os.utime(commit, (then, then))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", metavar="HOME", help="a folder that is not there yet", type=Path)
    made = make(parser.parse_args().home.resolve())
    print(f"export VITRINE_HOME={made.home}; vitrine sql --shell")
