"""The gate on Milvus's rows: what a sync cannot see by counting."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evaluation.gates.sync import gate_sync
from evaluation.milvus.collection import row_key
from evaluation.milvus.vector_index import VectorIndex
from tests.support.filled_lake import D1, HOSTILE, V1, fill_lake, row, unit
from vitrine import lake
from vitrine.settings import Settings, load_settings
from vitrine.tables import EMBEDDINGS

CHANGES, ALL, NO_OTHER = (
    "Milvus has every change of the lake",
    "every photo with a vector is in Milvus",
    "Milvus has no photo without a vector",
)
SAME = "vectors and labels of 1000 photos are the lake's"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


def failed(settings: Settings, index: VectorIndex) -> dict[str, dict[str, Any]]:
    result = gate_sync(settings, D1, index, "run")
    assert result.success == (not result.failed)
    return {check["expectation"]: check["figures"] for check in result.failed}


def write(index: VectorIndex, *rows: dict[str, Any]) -> None:
    index.collection(D1).upsert(pa.RecordBatch.from_pylist(list(rows), schema=EMBEDDINGS.schema))


def test_what_follows_the_lake_passes(settings: Settings) -> None:
    ids, _ = fill_lake(settings, 60)
    with VectorIndex(settings) as index:
        assert failed(settings, index) == {}, "the gate fills what nobody has filled"
        lake.append(settings, EMBEDDINGS, [row("d/late", unit(1)[0])])
        assert failed(settings, index) == {}
        assert set(index.ids(D1)) == {*ids, "d/late"}


@pytest.mark.parametrize("lost", [HOSTILE[0], "d/0003"])
def test_a_row_that_became_another_is_found(settings: Settings, lost: str) -> None:
    """As many rows as the lake has: a count says nothing."""
    fill_lake(settings, 60)
    with VectorIndex(settings) as index:
        index.sync(D1)
        index._client.delete(f"d__{V1}", ids=[row_key(lost)])
        write(index, row("d/stranger", unit(1)[0]))
        assert failed(settings, index) == {
            ALL: {"value": 1, "examples": [lost]},
            NO_OTHER: {"value": 1, "examples": ["d/stranger"]},
        }


def test_other_vectors_and_labels_are_found(settings: Settings) -> None:
    ids, vectors = fill_lake(settings, 60)
    with VectorIndex(settings) as index:
        index.sync(D1)
        write(index, row(ids[20], vectors[21], "test"), row(ids[30], vectors[30], "elsewhere"))
        assert failed(settings, index) == {SAME: {"value": 2, "examples": [ids[20], ids[30]]}}


def test_of_many_photos_some_vectors_are_compared(
    tmp_path: Path,
    settings: Settings,
) -> None:
    (tmp_path / "vitrine.toml").write_text("[gates]\nprobes = 50\n")
    settings = load_settings(tmp_path)
    ids, vectors = fill_lake(settings, 300)
    with VectorIndex(settings) as index:
        index.sync(D1)
        write(index, *(row(image_id, -vector) for image_id, vector in zip(ids, vectors, strict=True)))
        (figures,) = failed(settings, index).values()
        assert figures["value"] == 50
