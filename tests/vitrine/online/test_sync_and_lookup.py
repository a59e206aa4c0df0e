"""vitrine.online.sync, vitrine.online.lookup: the online store follows the lake, and sends what changed alone."""

import shutil
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from feast import FeatureStore

from feature_repo import definitions
from vitrine import facts, feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError, VitrineError
from vitrine.feature_store import IMAGES, open_store
from vitrine.online import sync as online_sync
from vitrine.online.lookup import OnlineFeatures
from vitrine.online.sync import Source, Synced, sync
from vitrine.setting_sections import NightlyDataset, NightlySettings
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, ENCODERS, LABELS, PROMOTIONS

V1, V2 = "00000000000000aa", "00000000000000bb"
HOSTILE = ['d/it\'s "q"', "d/line\nbreak", "d/ünï💡", "d/' OR 1=1 --", "d/{x}%s\\"]
DIM = 8


def vector(seed: int) -> list[float]:
    values = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return [float(value) for value in values / np.linalg.norm(values)]


def row(image_id: str, seed: int = 0, dataset: str = "d", version: str = V1, **other: Any) -> dict[str, Any]:
    moment = lake.now()
    found = {
        "image_id": image_id,
        "encoder_version": version,
        "dataset": dataset,
        "product_id": f"{dataset}/p{seed}",
        "category": None if seed % 2 else "cup",
        "split": None,
        "encoder": "small",
        "content_sha256": str(seed),
        "embedding": vector(seed),
        "event_timestamp": moment,
        "created_timestamp": moment,
    }
    return found | other


def register(settings: Settings, *versions: str) -> None:
    blank: dict[str, Any] = dict.fromkeys(ENCODERS.schema.names, "")
    for version in versions:
        own = {"encoder_version": version, "encoder": "small", "dim": DIM, "created_at": lake.now()}
        lake.append(settings, ENCODERS, [blank | own | {"state": "experiment"}])


def promote(settings: Settings, dataset: str, version: str, encoder: str = "small") -> None:
    blank: dict[str, Any] = dict.fromkeys(PROMOTIONS.schema.names, "")
    own = {"dataset": dataset, "promoted_at": lake.now(), "encoder": encoder, "encoder_version": version}
    lake.append(settings, PROMOTIONS, [blank | own | {"forced": False}])


def merge(settings: Settings, *changed: dict[str, Any], gone: tuple[str, ...] = ()) -> None:
    """Upserts and deletions in one commit, as the embedding job's."""
    import pyarrow as pa

    rows = [*({**item, "gone": False} for item in changed), *({**row(image_id), "gone": True} for image_id in gone)]
    source = pa.Table.from_pylist(rows, schema=EMBEDDINGS.schema.append(pa.field("gone", pa.bool_())))
    columns = {name: f"s.{name}" for name in EMBEDDINGS.schema.names}
    (
        DeltaTable(str(EMBEDDINGS.path(settings)))
        .merge(
            source,
            "t.image_id = s.image_id AND t.encoder_version = s.encoder_version",
            source_alias="s",
            target_alias="t",
        )
        .when_matched_delete("s.gone")
        .when_matched_update(columns)
        .when_not_matched_insert(columns, "NOT s.gone")
        .execute()
    )


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    """A store over a lake with two versions, no rows yet."""
    register(settings, V1, V2)
    found = open_store(settings)
    feature_store.apply(found, definitions.objects(settings))
    return found


class Sent(list[tuple[str, bool]]):
    """(id, whether it is there) of each row that was sent; the ``dies_after``-th batch is the last."""

    dies_after: int | None = None


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    found, real = Sent(), online_sync.write

    def write(store: Any, view: Any, rows: list[Any]) -> None:
        pairs = [
            (key.entity_values[0].string_val, values["embedding"].HasField("float_list_val"))
            for key, values, *_ in rows
        ]
        pairs = [(image_id, there) for image_id, there in pairs if not image_id.startswith("__lake__/")]
        if pairs and found.dies_after is not None:
            found.dies_after -= 1
            if found.dies_after < 0:
                raise KeyboardInterrupt
        found.extend(pairs)
        real(store, view, rows)

    monkeypatch.setattr(online_sync, "write", write)
    return found


def run(
    settings: Settings, store: FeatureStore, dataset: str = "d", version: str = V1, sent: Sent | None = None
) -> Synced:
    if sent is not None:
        sent.clear()
    return sync(store, Source(settings, IMAGES, EncodedSet(dataset, "small", version)))


def online(store: FeatureStore, image_ids: list[str], version: str = V1) -> dict[str, Any]:
    view = IMAGES.view("small", version)
    found = store.get_online_features(
        features=[f"{view}:{name}" for name in ("embedding", "product_id", "category", "encoder_version")],
        entity_rows=[{"image_id": image_id} for image_id in image_ids],
    ).to_dict()
    return {
        image_id: (found["embedding"][at], found["product_id"][at], found["category"][at])
        for at, image_id in enumerate(image_ids)
    }


def same(settings: Settings, store: FeatureStore, image_ids: list[str], version: str = V1) -> bool:
    """The store says of these ids what the lake says."""
    where = f"encoder_version = '{version}'"
    there = {item["image_id"]: item for item in lake.rows(settings, f"SELECT * FROM embeddings WHERE {where}")}
    for image_id, (embedding, product_id, category) in online(store, image_ids, version).items():
        wanted = there.get(image_id, {})
        assert embedding == (wanted.get("embedding")), image_id
        assert (product_id, category) == (wanted.get("product_id"), wanted.get("category")), image_id
    return True


def test_names_and_configuration(settings: Settings):
    assert IMAGES.view("small", V1) == f"images_small_{V1}"
    open_store(settings)
    written = (settings.home / "feast" / "feature_store.yaml").read_text()
    assert str(settings.home / "feast" / "online.db") in written
    secret = settings.model_copy(
        update={"home": settings.home / "2", "feast": settings.feast.model_copy(update={"registry": "sqlite://"})}
    )
    open_store(secret)
    assert not (settings.home / "2" / "feast" / "feature_store.yaml").exists()


def test_a_sync_sends_what_changed_and_nothing_else(settings: Settings, store: FeatureStore, sent: Sent):
    ids = [f"d/{number}" for number in range(20)]
    kept = [*ids, *HOSTILE]
    everything = [*kept, "d/nobody"]
    lake.append(settings, EMBEDDINGS, [row(image_id, seed) for seed, image_id in enumerate(kept)])
    lake.append(settings, EMBEDDINGS, [row("e/1", 1, "e"), row("d/0", 3, version=V2)])
    first = run(settings, store, sent=sent)
    assert (first.upserted, first.deleted, first.from_version) == (len(kept), 0, None)
    assert sorted(sent) == sorted((image_id, True) for image_id in kept)
    assert same(settings, store, everything)

    assert run(settings, store, sent=sent) == Synced(0, 0, first.to_version, first.to_version) and sent == []

    # Changed, added and deleted in one commit; then one of them again, so that the last word counts.
    merge(settings, row("d/0", 50), row("d/new", 51), row("d/1", 52), gone=("d/2", "d/3", HOSTILE[1]))
    merge(settings, row("d/1", 53), gone=("d/new",))
    merge(settings, row("d/3", 54), row("e/1", 55, "e"), row("d/0", 56, version=V2))
    night = run(settings, store, sent=sent)
    assert sorted(sent) == sorted(
        [("d/0", True), ("d/1", True), ("d/2", False), ("d/3", True), ("d/new", False), (HOSTILE[1], False)]
    )
    assert (night.upserted, night.deleted, night.from_version) == (3, 3, first.to_version)
    assert same(settings, store, [*everything, "d/new"])
    assert online(store, ["d/2", "d/nobody"]) == dict.fromkeys(["d/2", "d/nobody"], (None, None, None))

    merge(settings, gone=("d/4", "d/5"))  # a batch of deletions alone
    assert (run(settings, store, sent=sent).deleted, len(sent)) == (2, 2)
    merge(settings, row("d/4", 60))  # and one comes back
    assert run(settings, store, sent=sent).upserted == 1
    assert same(settings, store, [*everything, "d/new"])

    # Relabelled: the same vector and event time under another product.
    (old,) = lake.rows(settings, "SELECT * FROM embeddings WHERE image_id = 'd/6'")
    merge(settings, old | {"product_id": "d/other", "created_timestamp": lake.now()})
    assert run(settings, store, sent=sent).upserted == 1
    assert online(store, ["d/6"])["d/6"][1] == "d/other"


def test_data_sets_and_versions_follow_on_their_own(settings: Settings, store: FeatureStore):
    lake.append(settings, EMBEDDINGS, [row("d/1", 1), row("e/1", 2, "e"), row("d/1", 3, version=V2)])
    assert run(settings, store, "d").upserted == 1
    assert online(store, ["e/1"])["e/1"][0] is None
    merge(settings, row("d/1", 4), row("e/1", 5, "e"))
    assert run(settings, store, "e") == Synced(1, 0, None, lake.version(settings, EMBEDDINGS))
    assert run(settings, store, "d").upserted == 1
    assert run(settings, store, "d", V2).from_version is None
    assert same(settings, store, ["d/1", "e/1"]) and same(settings, store, ["d/1"], V2)


def test_many_rows_go_in_batches(settings: Settings, store: FeatureStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(online_sync, "BATCH", 7)
    ids = [f"d/{number}" for number in range(23)]
    lake.append(settings, EMBEDDINGS, [row(image_id, seed) for seed, image_id in enumerate(ids)])
    assert run(settings, store).upserted == 23
    merge(settings, *(row(image_id, 100 + seed) for seed, image_id in enumerate(ids[:10])), gone=tuple(ids[10:]))
    found = run(settings, store)
    assert (found.upserted, found.deleted) == (10, 13) and same(settings, store, ids)


def test_a_killed_sync_ends_right_next_time(
    settings: Settings, store: FeatureStore, sent: Sent, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(online_sync, "BATCH", 4)
    ids = [f"d/{number}" for number in range(10)]
    lake.append(settings, EMBEDDINGS, [row(image_id, seed) for seed, image_id in enumerate(ids)])
    for after in (0, 2):
        sent.dies_after = after
        with pytest.raises(KeyboardInterrupt):
            run(settings, store)
    sent.dies_after = None
    assert run(settings, store).from_version is None and same(settings, store, ids)
    merge(settings, *(row(image_id, 100) for image_id in ids[:5]), gone=tuple(ids[5:]))
    sent.dies_after = 1
    with pytest.raises(KeyboardInterrupt):
        run(settings, store)
    sent.dies_after = None
    merge(settings, row(ids[9], 7))
    found = run(settings, store)
    assert (found.upserted, found.deleted) == (6, 4) and same(settings, store, ids)


def test_a_vector_of_another_length_is_refused(settings: Settings, store: FeatureStore):
    lake.append(settings, EMBEDDINGS, [row("d/1", 1, embedding=vector(1)[:-1])])
    with pytest.raises(VitrineError, match="a view of 8 floats have the lengths"):
        run(settings, store)


def test_a_lake_made_anew_is_filled_from_scratch(settings: Settings, store: FeatureStore):
    lake.append(settings, EMBEDDINGS, [row("d/1", 1), row("d/2", 2), row("e/1", 3, "e")])
    run(settings, store), run(settings, store, "e")
    settings.lake.rename(settings.home / "old lake")
    register(settings, V1, V2)
    lake.append(settings, EMBEDDINGS, [row("d/1", 5), row("d/3", 6), row("e/1", 3, "e")])
    feature_store.apply(store, definitions.objects(settings))
    assert run(settings, store).from_version is None
    run(settings, store, "e")
    assert same(settings, store, ["d/1", "d/2", "d/3", "e/1"])  # d/2 is of another lake

    # A backup of the lake, put back: the same table at a version before the one held.
    shutil.copytree(settings.lake, settings.home / "backup")
    merge(settings, row("d/4", 8), gone=("d/1",))
    run(settings, store)
    shutil.rmtree(settings.lake)
    (settings.home / "backup").rename(settings.lake)
    run(settings, store), run(settings, store, "e")
    assert same(settings, store, ["d/1", "d/2", "d/3", "d/4", "e/1"])


def test_a_feed_that_was_vacuumed_is_made_up_for(settings: Settings, store: FeatureStore):
    def said(image_id: str) -> dict[str, Any]:
        return {"image_id": image_id, "dataset": "d", "product_id": "d/p", "category": None, "valid_from": lake.now()}

    ids = [f"d/{number}" for number in range(6)]
    lake.append(settings, LABELS, [said(image_id) for image_id in ids])
    lake.append(settings, EMBEDDINGS, [row(image_id, seed) for seed, image_id in enumerate(ids)])
    run(settings, store)
    merge(settings, row("d/0", 9), gone=("d/1",))
    merge(settings, row("d/2", 10), gone=("d/3",))
    table = DeltaTable(str(EMBEDDINGS.path(settings)))
    table.optimize.compact()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    for path in EMBEDDINGS.path(settings).rglob("_change_data/*/*.parquet"):  # as Spark's VACUUM does
        path.unlink()
    found = run(settings, store)
    assert (found.upserted, found.deleted, found.from_version) == (4, 2, None)
    assert same(settings, store, ids)
    assert run(settings, store).upserted == 0


def test_a_lost_online_store_is_filled_from_scratch(settings: Settings, store: FeatureStore):
    lake.append(settings, EMBEDDINGS, [row("d/1", 1)])
    run(settings, store)
    (settings.home / "feast" / "online.db").unlink()
    fresh = open_store(settings)
    feature_store.apply(fresh, definitions.objects(settings))
    assert run(settings, fresh).upserted == 1 and same(settings, fresh, ["d/1"])


def test_which_versions_belong_online(settings: Settings, store: FeatureStore):
    nightly = NightlySettings(encoders=("small",), datasets=(NightlyDataset(name="d", source="x"),))
    nights = settings.model_copy(update={"nightly": nightly})
    assert facts.belong_online(nights, "d") == []
    lake.append(settings, EMBEDDINGS, [row("d/1", 1), row("d/1", 1, version=V2), row("e/1", 1, "e")])
    assert facts.belong_online(settings, "d") == []
    assert facts.belong_online(nights, "d") == [EncodedSet("d", "small", V2)]  # the newest
    assert facts.belong_online(nights, "e") == []
    promote(settings, "d", V1)
    assert facts.belong_online(settings, "d") == [EncodedSet("d", "small", V1)]
    assert facts.belong_online(nights, "d") == [EncodedSet("d", "small", V1), EncodedSet("d", "small", V2)]


def test_the_serving_service_follows_the_promotions(settings: Settings, store: FeatureStore):
    lake.append(settings, EMBEDDINGS, [row("d/1", 1), row("d/2", 2), row("d/1", 7, version=V2)])
    with pytest.raises(UserError, match="nothing serves the images of 'd' online: promote"):
        OnlineFeatures(settings).lookup("d", ["d/1"])
    for version in (V1, V2):
        run(settings, store, version=version)
    with pytest.raises(UserError, match="nothing serves"):
        OnlineFeatures(settings, store).lookup("d", ["d/1"])

    promote(settings, "d", V1)
    feature_store.apply(store, definitions.serving_services(settings))
    recommender = OnlineFeatures(settings)  # a client that lives on
    first = recommender.lookup("d", ["d/1", "d/2", "d/nobody", "__lake__/d", "d/1"])
    assert [item["encoder_version"] for item in first] == [V1, V1, None, None, V1]
    assert first[0]["embedding"] == pytest.approx(vector(1)) and first[0]["product_id"] == "d/p1"
    assert first[0]["embedding"].dtype == np.float32
    assert first[2] == dict.fromkeys(first[2], None) | {"image_id": "d/nobody"}
    assert recommender.lookup("d", []) == []
    merge(settings, gone=("d/2",))
    run(settings, store)
    assert recommender.lookup("d", ["d/2"])[0] == first[2] | {"image_id": "d/2"}

    promote(settings, "d", V2)
    feature_store.apply(store, definitions.serving_services(settings))
    (stale,) = recommender.lookup("d", ["d/1"])  # for follow_seconds: old, but of one piece
    assert stale["encoder_version"] == V1 and stale["embedding"] == pytest.approx(vector(1))
    recommender.refresh()
    for client in (recommender, OnlineFeatures(settings)):
        (found,) = client.lookup("d", ["d/1"])
        assert found["encoder_version"] == V2 and found["embedding"] == pytest.approx(vector(7))
    promote(settings, "d", V1, "renamed")  # and back, under another name of the same version
    assert facts.belong_online(settings, "d") == [EncodedSet("d", "small", V1)]
    feature_store.apply(store, definitions.serving_services(settings))
    assert OnlineFeatures(settings).lookup("d", ["d/1"])[0]["encoder_version"] == V1


def test_no_copy_of_the_registry_has_a_service_without_its_view(
    settings: Settings, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
):
    new, reader = "00000000000000cc", open_store(settings)
    registry = reader.registry
    between = registry._list_data_sources

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        """Another process applies a view and its service, once Feast has read the views."""
        monkeypatch.setattr(registry, "_list_data_sources", between)
        register(settings, new)
        promote(settings, "d", new)
        feature_store.apply(store, definitions.objects(settings))
        feature_store.apply(store, definitions.serving_services(settings))
        return between(*args, **kwargs)

    monkeypatch.setattr(registry, "_list_data_sources", meanwhile)
    reader.refresh_registry()
    service = reader.get_feature_service(IMAGES.serving("d"), allow_cache=True)
    (name,) = [part.name for part in service.feature_view_projections]
    assert name == IMAGES.view("small", new)
    assert registry.get_feature_view(name, reader.project, allow_cache=True).name == name
