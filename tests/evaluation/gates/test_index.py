"""What an index misses is counted right, and each index is built and searched as the settings say."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.gates.index import gate_index, recall
from evaluation.milvus.collection import EXACT as FLAT
from evaluation.milvus.collection import collection_name, parse_name, served_index
from evaluation.milvus.vector_index import VectorIndex
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.setting_sections import MilvusSettings
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


def embed(settings: Settings, count: int, photos: int = 0) -> np.ndarray:
    """Of one product, or of products of ``photos`` each, whose vectors lie near each other."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(count, 24)).astype(np.float32)
    if photos:
        vectors = vectors / 2 + np.repeat(random.normal(size=(count // photos, 24)), photos, axis=0).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    facts = {"dataset": "d", "encoder": "e", "encoder_version": VERSION, "content_sha256": "0"}
    facts |= dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
    rows = [
        facts | {"image_id": str(n), "product_id": str(n // photos if photos else 0), "embedding": vector.tolist()}
        for n, vector in enumerate(vectors)
    ]
    lake.append(settings, EMBEDDINGS, rows)
    return vectors


@pytest.mark.parametrize(
    ("kind", "weak", "strong", "tail"),
    [
        ("HNSW", "m = 4, ef_construction = 8, ef = 1", "m = 4, ef_construction = 8, ef = 900", "hnsw_4_8"),
        ("IVF_FLAT", "nlist = 32, nprobe = 1", "nlist = 32, nprobe = 32", "ivf_flat_32"),
        ("IVF_SQ8", "nlist = 32, nprobe = 1", "nlist = 32, nprobe = 32", "ivf_sq8_32"),
        ("HNSW_SQ", "m = 4, ef_construction = 8, ef = 1", "m = 4, ef_construction = 8, ef = 900", "hnsw_sq_4_8_sq8"),
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
        # By the vectors in full: those of fewer bits have cosines of their own.
        cosines = [(vectors[[int(n) for n in ids]] @ vectors[at]).tolist() for at, ids in enumerate(other[0])]
        found.append(recall([str(n) for n in range(200)], exact, (other[0], cosines), 5))
    assert found[0] < 0.9 < 0.97 < found[1]


@pytest.mark.parametrize(("tuned", "passes"), [("nlist = 32, nprobe = 1", False), ("nlist = 32, nprobe = 32", True)])
def test_an_index_of_fewer_bits_is_held_to_what_its_answers_are_worth(tmp_path: Path, tuned: str, passes: bool) -> None:
    asked = f'home = "home"\n[gates]\nmin_recall = 0\n[milvus]\nindex = "IVF_SQ8"\nivf_sq8 = {{{tuned}}}\n'
    (tmp_path / "vitrine.toml").write_text(asked)
    settings = load_settings(tmp_path)
    embed(settings, 900, photos=3)
    with VectorIndex(settings) as milvus:
        found = gate_index(settings, ENCODED, milvus)
    assert found.success == passes
    near, worth = (check["figures"] for check in found.checks)
    assert near["queries"] == worth["queries"] == 900 and worth["exact"] > 0.6
    assert (worth["difference"] < -0.05) != passes
    assert near["value"] > 0.97 if passes else near["value"] < 0.9  # by the cosines of the vectors in full


def test_each_index_has_a_name_of_its_own() -> None:
    sections = {"ivf_pq": {"nlist": 64, "parts": 8}, "ivf_rabitq": {"nlist": 64}, "hnsw_sq": {"refine": "FP32"}}
    kinds = ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8", "HNSW_SQ", "IVF_PQ", "IVF_RABITQ")
    made = [served_index(MilvusSettings(index=kind, **sections)) for kind in kinds]
    names = [collection_name("d", VERSION, index) for index in made]
    assert len({*names}) == len(kinds) and all(parse_name(name) == ("d", VERSION) for name in names)
    assert made[0] == FLAT and names[5].endswith("__ivf_pq_64_8_8")
    assert made[5].build == {"nlist": 64, "m": 8, "nbits": 8} and made[5].search == {"nprobe": 64}
    assert made[6].build == {"nlist": 64, "refine": True, "refine_type": "SQ8"}
    assert made[6].search == {"nprobe": 64, "rbq_query_bits": 0, "refine_k": 3.0}
    assert made[4].build["refine_type"] == "FP32" and made[4].search["refine_k"] == 2.0


def test_parts_divide_the_dimensions(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").write_text('home = "home"\n[milvus]\nindex = "IVF_PQ"\nivf_pq = {parts = 7}\n')
    settings = load_settings(tmp_path)
    embed(settings, 20)
    with (
        pytest.raises(UserError, match=r"parts = 7 does not divide the 24 dimensions"),
        VectorIndex(settings) as milvus,
    ):
        milvus.sync(ENCODED, served=True)


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
