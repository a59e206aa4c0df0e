"""Feast: apply the definitions, bring changes online, look up.

The online store follows the lake by Delta version. Each (view, data set) keeps, as a row of the store itself, the
version that it holds (``_cursor_id``); a sync applies the change feed since, deletions included, or fills from scratch
where there is no such row. Feast deletes no online row, so what left is overwritten: only ``encoder_version`` stays.
"""

import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

import feast.infra.offline_stores.contrib.spark_offline_store.spark  # noqa: F401  (see the filter below)
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import yaml
from deltalake.exceptions import DeltaError
from feast import FeatureStore, RepoConfig
from feast.errors import FeatureServiceNotFoundException, FeatureViewNotFoundException

from vitrine import files, lake
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.spark_conf import s3_conf
from vitrine.tables import EMBEDDINGS, LABELS

# Feast's Spark store calls itself experimental each time that one is made, and shows that once it is imported.
warnings.filterwarnings("ignore", message="The spark data source API", category=RuntimeWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="feast")

_BATCH = 1000
_FEATURES = ("embedding", "product_id", "category", "encoder_version")
_LONGEST_GAP_S = 5.0


def image_view(encoder: str, version: str) -> str:
    """The name of an encoder version's view of images."""
    return f"images_{encoder}_{version}"


def encoder_service(encoder: str, version: str) -> str:
    """The name of an encoder version's service."""
    return f"{encoder}_{version}"


def images_serving(dataset: str) -> str:
    """The name of the service that a recommender asks: it follows the promotions."""
    return f"{dataset}_images_serving"


def repo_config(settings: Settings) -> dict[str, Any]:
    """Feast's feature_store.yaml for this home."""
    home = settings.home / "feast"
    return {
        "project": "vitrine",
        "provider": "local",
        "entity_key_serialization_version": 3,
        "registry": {
            "registry_type": "sql",
            "path": settings.feast.registry or f"sqlite:///{home / 'registry.db'}",
        },
        "offline_store": {
            "type": "spark",
            "spark_conf": {
                "spark.master": settings.spark.master or "local[*]",
                "spark.ui.enabled": "false",
                "spark.sql.session.timeZone": "UTC",
                "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
                "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
                **s3_conf(settings),
            },
        },
        "online_store": dict(settings.feast.online_store or {"type": "sqlite", "path": str(home / "online.db")}),
    }


def open_store(settings: Settings) -> FeatureStore:
    """Feast's store of this home, its feature_store.yaml written where it is new."""
    home = settings.home / "feast"
    home.mkdir(parents=True, exist_ok=True)
    config = repo_config(settings)
    if not (settings.feast.registry or settings.feast.online_store):  # those may hold passwords: never written
        text = yaml.safe_dump(config, sort_keys=False)
        path = home / "feature_store.yaml"
        if not path.exists() or path.read_text() != text:
            files.write_text(path, text)
    return FeatureStore(config=RepoConfig(**config, repo_path=home))


def apply(store: FeatureStore, objects: Sequence[Any]) -> None:
    """Register ``objects``; those that are there in the same form cost nothing."""
    if objects:
        store.apply(list(objects), skip_feature_view_validation=True)


@dataclass(frozen=True)
class Synced:
    """What a sync sent to the online store."""

    upserted: int
    deleted: int
    from_version: int | None
    to_version: int


def online(settings: Settings, dataset: str) -> list[tuple[str, str]]:
    """(encoder, version) whose vectors of ``dataset`` belong online: what serves it, and its nightly encoders'."""
    serves = lake.serving(settings, dataset)
    named = {
        row["encoder_version"]: row["encoder"]
        for row in lake.rows(settings, "SELECT encoder, encoder_version FROM encoders")
    }
    # Views go by the name that the version was registered under: it may have been promoted under another one.
    wanted = {(named.get(serves["encoder_version"], serves["encoder"]), serves["encoder_version"])} if serves else set()
    if dataset in {item.name for item in settings.nightly.datasets}:
        for name in settings.nightly.encoders:
            newest = lake.rows(
                settings,
                "SELECT encoder_version FROM encoders "
                f"WHERE encoder = {lake.quote(name)} ORDER BY created_at DESC LIMIT 1",
            )
            wanted |= {(name, row["encoder_version"]) for row in newest}
    return sorted(pair for pair in wanted if lake.embedded(settings, dataset, pair[1]))


def sync(settings: Settings, store: FeatureStore, dataset: str, encoder: str, version: str) -> Synced:
    """Bring the online rows of one encoder version and data set to the lake's version; only what changed is sent.

    Fills from scratch where the store notes no version, one of another lake, or one that the feed no longer reaches.
    """
    view = image_view(encoder, version)
    held = _read_cursor(store, view, dataset)  # before the lake's version, which then is the newer one
    until, table = lake.version(settings, EMBEDDINGS), lake.identity(settings, EMBEDDINGS)
    if held == (table, until):
        return Synced(0, 0, until, until)
    if held and (held[0] != table or held[1] > until):
        _empty(store, view)  # rows of another lake, of which nobody knows which are there
        held = None
    since, rows = held[1] if held else None, None
    if since is not None:
        try:
            last = _last_changes(settings, dataset, version, since, until)
            rows = _changed_rows(settings, dataset, version, since, until, last)
        except (DeltaError, OSError, pa.ArrowException) as error:  # vacuumed
            said = " ".join(str(error).split())[:200]
            print(
                f"the change feed of {EMBEDDINGS.name} since {since} cannot be read ({said}): filling afresh",
                file=sys.stderr,
            )
            since, rows = (
                None,
                chain(_all_rows(settings, dataset, version, until), _left_rows(settings, dataset, version, until)),
            )
    upserted = deleted = 0
    for frame in _frames(rows if rows is not None else _all_rows(settings, dataset, version, until)):
        gone = int(frame["embedding"].isna().sum())
        upserted, deleted = upserted + len(frame) - gone, deleted + gone
        store.write_to_online_store(view, frame)
        if upserted % 20_000 < _BATCH <= upserted:
            print(f"online {dataset} {encoder}: {upserted} rows", file=sys.stderr)
    _write_cursor(store, view, dataset, table, until)
    return Synced(upserted, deleted, since, until)


def _empty(store: FeatureStore, view: str) -> None:
    """Drop the view's online rows, those of other data sets and their cursors too: each then fills from scratch."""
    found = store.get_feature_view(view)
    for delete, keep in (([found], []), ([], [found])):
        store._get_provider().update_infra(
            project=store.project,
            tables_to_delete=delete,
            tables_to_keep=keep,
            entities_to_delete=[],
            entities_to_keep=[],
            partial=True,
        )


def _where(dataset: str, version: str) -> str:
    return f"encoder_version = {lake.quote(version)} AND dataset = {lake.quote(dataset)}"


def _all_rows(settings: Settings, dataset: str, version: str, until: int) -> Iterator[dict[str, Any]]:
    columns = ("image_id", *_FEATURES, "created_timestamp")
    sql = f"SELECT {', '.join(columns)} FROM {EMBEDDINGS.name} WHERE {_where(dataset, version)}"
    for batch in lake.stream(settings, sql, {EMBEDDINGS.name: until}):
        for row in batch.to_pylist():
            # The online store's clock is the commit's: stores that skip rows that are not newer then skip none.
            yield {**row, "event_timestamp": row["created_timestamp"]}


def _left_rows(settings: Settings, dataset: str, version: str, until: int) -> Iterator[dict[str, Any]]:
    """A deletion for every image that the data set ever had and that has no vector now."""
    sql = (
        f"SELECT DISTINCT l.image_id FROM {LABELS.name} l LEFT ANTI JOIN "
        f"(SELECT image_id FROM {EMBEDDINGS.name} WHERE {_where(dataset, version)}) e ON l.image_id = e.image_id "
        f"WHERE l.dataset = {lake.quote(dataset)}"
    )
    for batch in lake.stream(settings, sql, {EMBEDDINGS.name: until}):
        for image_id in batch.column("image_id").to_pylist():
            yield _deletion(image_id, version, lake.now())


def _last_changes(settings: Settings, dataset: str, version: str, since: int, until: int) -> dict[str, int]:
    """The version of each changed image's last change."""
    last: dict[str, int] = {}
    for batch in lake.changes(settings, EMBEDDINGS, since, until, _where(dataset, version), ["image_id"]):
        for row in batch.to_pylist():
            last[row["image_id"]] = max(last.get(row["image_id"], -1), row["_commit_version"])
    return last


def _changed_rows(
    settings: Settings, dataset: str, version: str, since: int, until: int, last: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """The last word of the change feed on each image."""
    columns = ["image_id", *_FEATURES]
    for batch in lake.changes(settings, EMBEDDINGS, since, until, _where(dataset, version), columns):
        for row in batch.filter(pa.compute.not_equal(batch["_change_type"], "update_preimage")).to_pylist():
            if row["_commit_version"] != last[row["image_id"]]:
                continue
            moment = row["_commit_timestamp"]
            moment = moment if moment.tzinfo else moment.replace(tzinfo=lake.now().tzinfo)
            if row["_change_type"] == "delete":
                yield _deletion(row["image_id"], version, moment)
            else:
                yield {**{name: row[name] for name in columns}, **_at(moment)}


def _deletion(image_id: str, version: str, moment: datetime) -> dict[str, Any]:
    return {"image_id": image_id, **dict.fromkeys(_FEATURES), "encoder_version": version, **_at(moment)}


def _at(moment: datetime) -> dict[str, Any]:
    return {"event_timestamp": moment, "created_timestamp": moment}


def _frames(rows: Iterable[dict[str, Any]]) -> Iterator[pd.DataFrame]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield pd.DataFrame(batch)
            batch = []
    if batch:
        yield pd.DataFrame(batch)


def _cursor_id(dataset: str) -> str:
    return f"__lake__/{dataset}"  # no data set's name starts with an underscore


def _read_cursor(store: FeatureStore, view: str, dataset: str) -> tuple[str, int] | None:
    """The table's identity and the version of it that the store holds."""
    found = store.get_online_features(
        features=[f"{view}:encoder_version"], entity_rows=[{"image_id": _cursor_id(dataset)}]
    ).to_dict()
    text = found["encoder_version"][0]
    noted = json.loads(text) if text else None
    return (noted["table"], noted["version"]) if noted else None


def _write_cursor(store: FeatureStore, view: str, dataset: str, table: str, version: int) -> None:
    noted = json.dumps({"table": table, "version": version})
    row = {**dict.fromkeys(_FEATURES), "encoder_version": noted, "image_id": _cursor_id(dataset), **_at(lake.now())}
    store.write_to_online_store(view, pd.DataFrame([row]))


def lookup(
    settings: Settings, dataset: str, image_ids: Sequence[str], store: FeatureStore | None = None
) -> list[dict[str, Any]]:
    """What serves ``dataset`` says of ``image_ids``: a dict each, ``embedding`` a list of floats of unit length.

    An id that is unknown, or whose photo left, has None in every feature.

    Raises:
        UserError: nothing serves the data set online.
    """
    store = store or open_store(settings)
    rows = [{"image_id": image_id} for image_id in image_ids]
    deadline = time.monotonic() + _LONGEST_GAP_S
    while True:
        try:
            service = store.get_feature_service(images_serving(dataset))
            found = store.get_online_features(features=service, entity_rows=rows).to_dict()
            break
        except (FeatureServiceNotFoundException, FeatureViewNotFoundException):
            # A reader can come between two steps of another process's apply.
            if time.monotonic() > deadline or not lake.serving(settings, dataset):
                raise UserError(
                    f"nothing serves the images of {dataset!r} online: promote an encoder, then run vitrine features"
                ) from None
            store.refresh_registry()
            time.sleep(0.2)
    answers = [{name: found[name][at] for name in ("image_id", *_FEATURES)} for at in range(len(rows))]
    blank = dict.fromkeys(_FEATURES)
    return [row if row["embedding"] is not None else {**row, **blank} for row in answers]
