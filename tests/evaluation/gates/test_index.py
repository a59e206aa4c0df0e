"""What an index misses is counted right, and each index is built and searched as the settings say."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.gates.index import recall
from evaluation.milvus.vector_index import VectorIndex
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings
from vitrine.tables import EMBEDDINGS

VERSION = "0123456789abcdef"
ENCODED = EncodedSet("d", "e", VERSION)
EXACT = ([["q", "a", "b", "c"], ["d", "e", "f"]], [[1.0, 0.9, 0.8, 0.7], [0.6, 0.5, 0.4]])


@pytest.mark.parametrize(
    ("served", "share"),
    [
        (EXACT, 1.0),
        (([["q", "a", "c", "x"], ["d", "e"]], [[1.0, 0.9, 0.7, 0.1], [0.6, 0.5]]), 0.75),  # b is missed
        (([["q", "a", "z", "c"], ["d", "e"]], [[1.0, 0.9, 0.8, 0.7], [0.6, 0.5]]), 1.0),  # z is as near as b
        (([["a", "b"], []], [[0.9, 0.8], []]), 0.5),  # the query itself need not be found
    ],
)
def test_recall_counts_the_nearest_two(served: tuple[list[list[str]], list[list[float]]], share: float) -> None:
    assert recall(["q", "p"], EXACT, served, 2) == share


def test_recall_of_a_single_image() -> None:
    alone = ([["q"]], [[1.0]])
    assert recall(["q"], alone, alone, 10) == 1.0


def embed(settings: Settings, count: int) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(count, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    facts = {"dataset": "d", "product_id": "p", "encoder": "e", "encoder_version": VERSION, "content_sha256": "0"}
    facts |= dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
    rows = [facts | {"image_id": str(n), "embedding": vector.tolist()} for n, vector in enumerate(vectors)]
    lake.append(settings, EMBEDDINGS, rows)
    return vectors


@pytest.mark.parametrize(
    ("kind", "weak", "strong", "tail"),
    [
        ("HNSW", "m = 4, ef_construction = 8, ef = 1", "m = 4, ef_construction = 8, ef = 900", "hnsw_4_8"),
        ("IVF_FLAT", "nlist = 32, nprobe = 1", "nlist = 32, nprobe = 32", "ivf_flat_32"),
    ],
)
def test_the_served_index_is_beside_the_exact_one(tmp_path: Path, kind: str, weak: str, strong: str, tail: str) -> None:
    found = []
    for tuned in (weak, strong):
        milvus_settings = f'[milvus]\nindex = "{kind}"\n{kind.lower()} = {{{tuned}}}\n'
        (tmp_path / "vitrine.toml").write_text(f'home = "home"\n{milvus_settings}')
        settings = load_settings(tmp_path)
        if not found:
            vectors = embed(settings, 900)
        with VectorIndex(settings) as milvus:
            for served in (False, True):
                milvus.sync(ENCODED, served)
            assert [made[0] for made in milvus.collections()] == [f"d__{VERSION}", f"d__{VERSION}__{tail}"]
            exact, other = (milvus.search(ENCODED, vectors[:200], 6, served=served) for served in (False, True))
        found.append(recall([str(n) for n in range(200)], exact, other, 5))
    assert found[0] < 0.9 < 0.97 < found[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('uri = "https://m:1"\nca_certificate = "no.pem"', r"milvus\.ca_certificate names '.*/no\.pem', which is not"),
        ('uri = "http://m:1"\nca_certificate = "a.pem"', r"milvus\.ca_certificate is for TLS: .* https://"),
        ('ca_certificate = "a.pem"', "https://"),
        ('uri = "https://m:1"\nclient_certificate = "a.pem"', r"set milvus\.ca_certificate, milvus\.client_key too"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, settings: str, said: str) -> None:
    (tmp_path / "a.pem").write_text("")
    (tmp_path / "vitrine.toml").write_text(f'[milvus]\ntoken = "s3cret"\n{settings}\n')
    with pytest.raises(UserError, match=said) as caught, VectorIndex(load_settings(tmp_path)):
        pass
    assert "s3cret" not in str(caught.value)
