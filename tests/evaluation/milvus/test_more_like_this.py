"""evaluation.milvus.more_like_this: the right products, and never a mixture of two versions."""

import threading
from typing import Any

import numpy as np
import pytest

from evaluation.milvus.more_like_this import more_like_this
from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion.milvus_alias import follow as point
from tests.support.served_home import V1, V2, add, blank, follow, promote, register, remove, vector
from vitrine import feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.online.lookup import OnlineFeatures
from vitrine.settings import Settings, load_settings
from vitrine.tables import EMBEDDINGS

SEEDS = {V1: {f"d/{number}": number + 1 for number in range(12)}}
SEEDS[V2] = {product: seed + 100 for product, seed in SEEDS[V1].items()}


def serve(settings: Settings, version: str) -> None:
    """As ``vitrine promote``."""
    promote(settings, version)
    with VectorIndex(settings) as milvus:
        point(settings, milvus, "d")
    follow(settings, feature_store.open_store(settings))


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Twelve products of one photo by two versions; the first serves."""
    monkeypatch.setenv("VITRINE_FEAST__FOLLOW_SECONDS", "1")
    settings = load_settings(settings.root)
    register(settings, V1, V2)
    for version, seeds in SEEDS.items():
        add(settings, version, seeds)
    serve(settings, V1)
    return settings


def expected(version: str, product: str, k: int) -> list[tuple[str, float]]:
    """By NumPy, from the seeds."""
    seeds = SEEDS[version]
    asked = np.array(vector(seeds[product]))
    scores = {other: float(np.array(vector(seed)) @ asked) for other, seed in seeds.items() if other != product}
    return sorted(scores.items(), key=lambda item: -item[1])[:k]


def correct(found: dict[str, Any], product: str, k: int) -> bool:
    wanted = expected(found["encoder_version"], product, k)
    assert [row["product_id"] for row in found["similar"]] == [name for name, _ in wanted]
    assert [row["similarity"] for row in found["similar"]] == pytest.approx([value for _, value in wanted], abs=1e-5)
    for row in found["similar"]:
        assert (row["image_id"], row["category"]) == (f"{row['product_id']}.jpg", "cup")
        assert row["n_images"] == SEEDS[found["encoder_version"]][row["product_id"]]
    return True


def test_the_nearest_products_with_their_features(home: Settings):
    online = OnlineFeatures(home)
    for product in ("d/0", "d/7"):
        assert correct(more_like_this(home, online, "d", product, 4), product, 4)
    assert len(more_like_this(home, online, "d", "d/0", 50)["similar"]) == 11  # no more are there, nor itself
    for dataset, product, said in (("d", "d/nobody", "no product 'd/nobody'"), ("e", "d/0", "nothing serves")):
        with pytest.raises(UserError, match=said):
            more_like_this(home, online, dataset, product)

    # A product of very many photos, all nearer than any other's, is one neighbour.
    own = {"dataset": "d", "encoder": "small", "encoder_version": V1, "product_id": "d/1", "embedding": vector(1)}
    lake.append(home, EMBEDDINGS, [blank(EMBEDDINGS, **own, image_id=f"d/1/{number}.jpg") for number in range(300)])
    remove(home, "d/2")
    with VectorIndex(home) as milvus:
        milvus.sync(EncodedSet("d", "small", V1))
    rest = [name for name, _ in expected(V1, "d/0", 11) if name not in ("d/1", "d/2")]
    found = more_like_this(home, online, "d", "d/0", 4)["similar"]
    assert [row["product_id"] for row in found] == ["d/1", *rest[:3]]

    remove(home, rest[1])  # it left, Feast knows, and Milvus not yet
    follow(home, feature_store.open_store(home))
    found = more_like_this(home, online, "d", "d/0", 4)["similar"]
    assert [row["product_id"] for row in found] == ["d/1", rest[0], rest[2]]


def test_a_promotion_in_the_middle_mixes_nothing(home: Settings):
    seen: list[list[str]] = []
    faults: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        online, versions = OnlineFeatures(home), list[str]()
        seen.append(versions)
        try:
            while not done.is_set() or versions[-1] != V2:
                found = more_like_this(home, online, "d", "d/5", 3)
                assert correct(found, "d/5", 3)
                versions.append(found["encoder_version"])
        except BaseException as error:
            faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    serve(home, V2)
    done.set()
    for reader in readers:
        reader.join(30)
    assert not faults, faults
    for versions in seen:
        assert versions[0] == V1 and versions[-1] == V2 and versions == sorted(versions)
