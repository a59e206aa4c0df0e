import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from evaluation.milvus import connection
from evaluation.milvus.collection import row_key
from evaluation.milvus.sync import SyncResult
from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion.milvus_alias import follow
from tests.support.filled_lake import D1, D2, HOSTILE, V1, V2, fill_lake, row, unit
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings, load_settings
from vitrine.tables import EMBEDDINGS, PROMOTIONS


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


def table(settings: Settings) -> DeltaTable:
    return DeltaTable(str(EMBEDDINGS.path(settings)))


def merge(settings: Settings, rows: list[dict]) -> None:
    import pyarrow as pa

    (
        table(settings)
        .merge(
            pa.Table.from_pylist(rows, schema=EMBEDDINGS.schema),
            "t.image_id = s.image_id AND t.encoder_version = s.encoder_version",
            source_alias="s",
            target_alias="t",
        )
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )


def held(index: VectorIndex, encoded: EncodedSet = D1) -> set[str]:
    ids = list(index.ids(encoded))
    assert len(ids) == len(set(ids)) == index.count(encoded)
    return set(ids)


def test_neighbours_equal_brute_force(settings: Settings) -> None:
    ids, vectors = fill_lake(settings, 700)
    queries = unit(40, seed=1)
    with VectorIndex(settings) as index:
        index.sync(D1)
        for split in (None, "train"):
            rows = [n for n in range(len(ids)) if split is None or n % 3]
            cosines = queries @ vectors[rows].T
            order = np.argsort(-cosines, axis=1)[:, :50]
            found, similarities = index.search(D1, queries, 50, [("split", split)] if split else [])
            assert found == [[ids[rows[n]] for n in ranks] for ranks in order]
            np.testing.assert_allclose(similarities, np.take_along_axis(cosines, order, axis=1), atol=1e-5)
        found, _ = index.search(D1, queries[:2], 1000, [("split", "train")])
        assert [len(hits) for hits in found] == [len(rows)] * 2


def test_sync_sends_what_changed_and_nothing_else(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, _ = fill_lake(settings)
    fill_lake(settings, 20, version=V2)
    first = lake.version(settings, EMBEDDINGS)
    with VectorIndex(settings) as index:
        assert index.sync(D1) == SyncResult(300, 0, None, first, 300)
        assert held(index) == set(ids)

    moved = unit(3, seed=5)
    merge(settings, [row(ids[1], unit(1, seed=9)[0]), row(ids[20], moved[1])])
    merge(settings, [row(ids[1], moved[0]), row("d/new", moved[2])])  # the later of two changes has to win
    gone = [HOSTILE[0], ids[30]]
    for image_id in gone:
        table(settings).delete(f"image_id = {lake.quote(image_id)} AND encoder_version = '{V1}'")
    then = lake.version(settings, EMBEDDINGS)
    with VectorIndex(settings) as index:  # a new process would open it the same way
        assert index.sync(D1) == SyncResult(3, 2, first, then, 299)
        assert held(index) == set(ids) - set(gone) | {"d/new"}
        nearest, similarities = index.search(D1, moved, 1)
        assert nearest == [[ids[1]], [ids[20]], ["d/new"]]
        np.testing.assert_allclose(similarities, 1, atol=1e-5)

        for verb in ("upsert", "delete", "flush", "alter_collection_properties"):
            monkeypatch.setattr(index._client, verb, None)
        assert index.sync(D1) == SyncResult(0, 0, then, then, 299)


def test_deleted_and_written_again_between_two_syncs(settings: Settings) -> None:
    ids, vectors = fill_lake(settings, 30)
    with VectorIndex(settings) as index:
        index.sync(D1)
        table(settings).delete(f"encoder_version = '{V1}'")
        merge(settings, [row(image_id, vectors[n]) for n, image_id in enumerate(ids[:10])])
        result = index.sync(D1)
        assert (result.upserted, result.deleted) == (10, 20)
        assert held(index) == set(ids[:10])


def test_hostile_ids_come_and_go(settings: Settings) -> None:
    fill_lake(settings, 40)
    with VectorIndex(settings) as index:
        index.sync(D1)
        for image_id in HOSTILE:
            table(settings).delete(f"image_id = {lake.quote(image_id)}")
        assert index.sync(D1).deleted == len(HOSTILE)
        assert not held(index) & set(HOSTILE)
        assert index.count(D1) == 40 - len(HOSTILE)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before the first row", "half the rows", "all rows, not noted"])
def test_a_killed_fill_leaves_nothing_behind(settings: Settings, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    ids, _ = fill_lake(settings)
    with pytest.raises(Killed), VectorIndex(settings) as index:
        upsert = index._client.upsert

        def dies(name: str, rows: Any) -> None:
            if moment == "half the rows":
                upsert(name, rows[:150])
            raise Killed

        verb = "alter_collection_properties" if moment.startswith("all") else "upsert"
        monkeypatch.setattr(index._client, verb, dies)
        index.sync(D1)
    table(settings).delete(f"image_id = {lake.quote(ids[10])}")
    with VectorIndex(settings) as index:
        result = index.sync(D1)
        assert (result.upserted, result.from_version) == (299, None)
        assert held(index) == set(ids) - {ids[10]}


def test_rows_that_were_lost_are_counted_told_and_filled_in(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, _ = fill_lake(settings, 40)
    with VectorIndex(settings) as index:
        index.sync(D1)
        index._client.delete(f"d__{V1}", ids=[row_key(image_id) for image_id in ids[:3]])
        assert index.sync(D1).rows == 40
        assert held(index) == set(ids)
        assert f"Milvus held 37 rows of d__{V1}, the lake 40: filling afresh" in capsys.readouterr().err
        index.forget(D1)
        assert index.behind(D1) is None
        assert index.sync(D1).upserted == 40


def test_no_alias_to_a_collection_that_a_fill_left_half_full(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_lake(settings, 40)
    with VectorIndex(settings) as index:
        with monkeypatch.context() as patch, pytest.raises(TypeError):
            patch.setattr(index._client, "alter_collection_properties", None)
            index.sync(D1)
        with pytest.raises(VitrineError, match="no whole collection"):
            index.point_alias(D1)


def test_another_table_or_a_lost_feed_means_a_fresh_fill(settings: Settings, tmp_path: Path) -> None:
    ids, vectors = fill_lake(settings)
    with VectorIndex(settings) as index:
        index.sync(D1)
    table(settings).delete(f"image_id = {lake.quote(ids[0])}")
    merge(settings, [row(ids[1], vectors[0])])
    for file in (EMBEDDINGS.path(settings) / "_change_data").rglob("*.parquet"):
        file.unlink()
    with VectorIndex(settings) as index:
        result = index.sync(D1)
        assert (result.upserted, result.deleted, result.from_version) == (299, 1, None)
        assert held(index) == set(ids[1:])

    settings.lake.rename(tmp_path / "old_lake")
    lake.append(settings, EMBEDDINGS, [row(image_id, vectors[n]) for n, image_id in enumerate(ids[:5])])
    with VectorIndex(settings) as index:
        result = index.sync(D1)
        assert (result.upserted, result.from_version) == (5, None)
        assert held(index) == set(ids[:5])


def test_the_alias_follows_promotions(settings: Settings) -> None:
    fill_lake(settings, 30)
    fill_lake(settings, 20, version=V2)

    def promote(version: str) -> None:
        promotion = dict.fromkeys(PROMOTIONS.schema.names, "") | {
            "dataset": "d",
            "promoted_at": lake.now(),
            "encoder_version": version,
            "forced": False,
        }
        lake.append(settings, PROMOTIONS, [promotion])

    with VectorIndex(settings) as index:
        assert follow(settings, index, "d") == {"serving": None}
        assert index.alias_target("d") is None
        with pytest.raises(VitrineError, match="fill it first"):
            index.point_alias(D1)
        index.sync(D1)
        assert index.point_alias(D1)
        assert not index.point_alias(D1)
        promote(V2)
        assert follow(settings, index, "d") == {"serving": V2}
        assert index.alias_target("d") == V2
        assert index.count(D2) == 20
        with pytest.raises(VitrineError, match="serves"):
            index.drop(f"d__{V2}")
        index.drop(f"d__{V1}")
        index.drop(f"d__{V1}")
        assert (index.count(D1), list(index.ids(D1))) == (0, [])
    with VectorIndex(settings) as index:
        assert index.alias_target("d") == V2


def test_what_cannot_be_is_said(settings: Settings) -> None:
    lake.create_tables(settings)
    with VectorIndex(settings) as index:
        with pytest.raises(UserError, match="vitrine embed"):
            index.sync(D1)
        with pytest.raises(UserError, match="data set name"):
            index.sync(EncodedSet("d/e", "e", V1))
        with pytest.raises(UserError, match="16 hex digits"):
            index.count(EncodedSet("d", "e", "latest"))
        with pytest.raises(VitrineError, match="vitrine index"):
            index.search(D1, unit(1), 1)
        assert index.count(D1) == 0


def test_an_image_without_a_vector_is_an_error_of_ours(settings: Settings) -> None:
    lake.append(settings, EMBEDDINGS, [row("d/a", unit(1)[0]), row("d/b", unit(1, dim=3)[0])])
    with pytest.raises(VitrineError, match="lengths"), VectorIndex(settings) as index:
        index.sync(D1)


def test_a_server_that_is_not_there(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VITRINE_MILVUS__URI", "http://127.0.0.1:9")
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1)
    with pytest.raises(VitrineError, match="cannot open Milvus"), VectorIndex(load_settings(tmp_path)):
        pass


def test_lite_waits_for_whoever_has_it(settings: Settings, tmp_path: Path) -> None:
    with VectorIndex(settings):
        pass
    lock = settings.home / "milvus.db" / "LOCK"
    with lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(VitrineError, match="in use by another process"), VectorIndex(settings, 0.3):
            pass
    holder = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(1)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    with VectorIndex(settings, 20) as index:
        assert index.count(D1) == 0
    process.wait()
