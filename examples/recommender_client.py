"""A recommender's client over HTTP: from the products that somebody looked at to products to show. No Feast, no Milvus.

    vitrine serve &
    python examples/recommender_client.py shop shop/mug-0001 shop/mug-0002

The key, where the server asks for one, comes from VITRINE_FEAST__API_KEY; another server's address from VITRINE_URL.
"""

import json
import os
import sys
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import numpy as np

URL = os.environ.get("VITRINE_URL", "http://127.0.0.1:6566")
HEADERS = {"Content-Type": "application/json"}
if key := os.environ.get("VITRINE_FEAST__API_KEY"):
    HEADERS["Authorization"] = f"Bearer {key}"


def ask(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = json.dumps(body).encode() if body else None
    with urlopen(Request(URL + path, data, HEADERS), timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def products(dataset: str, product_ids: list[str]) -> list[dict[str, Any]]:
    """A dict of features a product, by what serves the data set, but for those that are unknown or left."""
    asked = {"feature_service": f"{dataset}_products_serving", "entities": {"product_id": product_ids}}
    answer = ask("/get-online-features", asked)
    names, columns = answer["metadata"]["feature_names"], [result["values"] for result in answer["results"]]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return [row for row in rows if row["embedding"] is not None]


def similar(dataset: str, product_id: str, k: int) -> dict[str, Any]:
    return ask(f"/datasets/{dataset}/products/{quote(product_id, safe='')}/similar?k={k}")


def recommend(dataset: str, seen: list[str], k: int = 5) -> list[tuple[str, float]]:
    """(product, cosine similarity to the mean of what was seen), most similar first."""
    found = [hit["product_id"] for product in seen for hit in similar(dataset, product, 2 * k)["similar"]]
    # All vectors in one request: one answer is of one encoder version, whatever is promoted meanwhile.
    vectors = {
        row["product_id"]: np.array(row["embedding"], np.float32) for row in products(dataset, sorted({*seen, *found}))
    }
    taste = np.sum([vectors[product] for product in seen if product in vectors], axis=0)
    taste /= np.linalg.norm(taste)
    ranked = sorted(
        ((float(vectors[product] @ taste), product) for product in vectors.keys() - set(seen)), reverse=True
    )
    return [(product, similarity) for similarity, product in ranked[:k]]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit("usage: recommender_client.py DATASET PRODUCT_ID...")
    for product, similarity in recommend(sys.argv[1], sys.argv[2:]):
        print(f"{similarity:.4f} {product}")
