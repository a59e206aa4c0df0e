"""Feast: its configuration for a home, the names of what it serves, and what belongs online."""

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import yaml

from vitrine import files
from vitrine.feast_parts import (
    BaseRegistry,
    FeatureServiceNotFoundException,
    FeatureStore,
    FeatureView,
    FeatureViewNotFoundException,
    RegistryProto,
    RepoConfig,
    make_tzaware,
)
from vitrine.locations import sqlite_url
from vitrine.setting_sections import RedisSettings
from vitrine.settings import Settings
from vitrine.spark_conf import s3_conf
from vitrine.tables import EMBEDDINGS, PRODUCT_EMBEDDINGS, PRODUCT_TAGS, TAGS, Table

_FROM_ENVIRONMENT = "${VITRINE_FEAST__PASSWORD}"  # Feast puts the variable's value in
_READS = 3
"""Of the registry: a service whose view somebody removed lacks it however often one reads."""


@dataclass(frozen=True, eq=False)
class Kind:
    """What is looked up by key: images or products."""

    name: str
    key: str
    features: tuple[str, ...]
    """What Feast calls what is looked up; the first is the vector, where there is one."""
    table: Table
    stored: tuple[str, ...] = ()
    """The columns of ``table`` that they are; left out: of the same names."""
    vector: bool = True
    """Of a kind that has none, the rows have no attributes either."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of ``table`` that ``features`` are."""
        return self.stored or self.features

    def attributes(self, view: FeatureView) -> list[str]:
        """The attributes that are features of ``view``, beside those of its kind."""
        return [field.name for field in view.features if field.name not in self.features]

    @property
    def remains(self) -> str:
        """The feature that is kept of what left: a row without any value is not stored."""
        return self.features[-1]

    def view(self, encoder: str, version: str) -> str:
        """The name of an encoder version's view."""
        return f"{self.name}_{encoder}_{version}"

    def serving(self, dataset: str) -> str:
        """The name of the service that a recommender asks: it follows the promotions."""
        return f"{dataset}_{self.name}_serving"


IMAGES = Kind("images", "image_id", ("embedding", "product_id", "category", "encoder_version"), EMBEDDINGS)
PRODUCTS = Kind("products", "product_id", ("embedding", "category", "n_images", "encoder_version"), PRODUCT_EMBEDDINGS)
KINDS = (IMAGES, PRODUCTS)
_OF_TAG = {
    "": "value",
    "_probability": "probability",
    "_runner_up": "runner_up",
    "_abstained": "abstained",
    "_reason": "reason",
    "_classifier_version": "classifier_version",
}


@cache
def tags_of(label: str) -> tuple[Kind, ...]:
    """Tags of ``label``, of images and, of a category, of products; as features ``category_tag`` and so on."""
    features, stored = tuple(f"{label}_tag{suffix}" for suffix in _OF_TAG), tuple(_OF_TAG.values())
    images = Kind("image_tags", "image_id", features, TAGS, stored, vector=False)
    products = Kind("product_tags", "product_id", features, PRODUCT_TAGS, stored, vector=False)
    return (images,) if label == "product_id" else (images, products)


def encoder_service(encoder: str, version: str) -> str:
    """The name of an encoder version's service."""
    return f"{encoder}_{version}"


def repo_config(settings: Settings, show_password: bool = True) -> dict[str, Any]:
    """Feast's feature_store.yaml for this home; without its password, Feast takes that from the environment."""
    home = settings.home / "feast"
    return {
        "project": "vitrine",
        "provider": "local",
        "entity_key_serialization_version": 3,
        "registry": {
            "registry_type": "sql",
            "path": settings.feast.registry or sqlite_url(home / "registry.db"),
            "cache_ttl_seconds": settings.feast.follow_seconds,
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
        "batch_engine": {"type": "spark.engine"},
        "online_store": _online_store(settings, show_password),
    }


def _online_store(settings: Settings, show_password: bool) -> dict[str, Any]:
    chosen, secret = settings.feast.online_store, settings.feast.password
    password = secret.get_secret_value() if secret else ""
    if isinstance(chosen, dict):
        return dict(chosen)
    if chosen == "redis":
        # Feast parts the string at commas and reads each value as JSON where it is that.
        quoted = json.dumps(password).replace(",", "\\u002c") if show_password else _FROM_ENVIRONMENT
        return _redis(settings.feast.redis, quoted if password else "")
    if chosen == "postgres":
        return _postgres(settings, password if show_password or not password else _FROM_ENVIRONMENT)
    return {"type": "sqlite", "path": str(settings.home / "feast" / "online.db")}


def _redis(redis: RedisSettings, password: str) -> dict[str, Any]:
    given = {"db": redis.database, "username": json.dumps(redis.user) if redis.user else "", "password": password}
    given |= {"ssl": "true" if redis.tls else "", "socket_connect_timeout": 5, "socket_timeout": 30}
    options = ",".join(f"{name}={value}" for name, value in given.items() if value != "")
    # A sync writes in order and alone has the last word: what is there need not be read and compared first.
    return {"type": "redis", "connection_string": f"{redis.host}:{redis.port},{options}", "skip_dedup": True}


def _postgres(settings: Settings, password: str) -> dict[str, Any]:
    given = settings.feast.postgres
    store = {"type": "postgres", **given.model_dump(exclude={"ca_certificate"}), "password": password}
    if given.ca_certificate:
        store["sslrootcert_path"] = str(settings.root / given.ca_certificate)
    return store


def keep_utc(store: str) -> None:
    """Have an online store of the type ``store`` keep UTC, in this process: Feast gives its driver times without a
    zone, and SQLite's takes them as of the zone where it runs, PostgreSQL's as of the server's."""
    os.environ["PGTZ"] = "UTC"
    if store != "sqlite":
        return
    # What ``feast.infra.online_stores.sqlite`` registers is replaced: ``feast_parts`` has imported it.
    sqlite3.register_adapter(datetime, lambda moment: int(make_tzaware(moment).timestamp()))
    sqlite3.register_converter("timestamp", lambda text: datetime.fromtimestamp(int(text), UTC))


def open_store(settings: Settings) -> FeatureStore:
    """Feast's store of this home, its feature_store.yaml written where it is new."""
    keep_utc(repo_config(settings)["online_store"]["type"])
    home = settings.home / "feast"
    home.mkdir(parents=True, exist_ok=True)
    if not settings.feast.registry and isinstance(settings.feast.online_store, str):  # else it may hold a password
        text = yaml.safe_dump(repo_config(settings, show_password=False), sort_keys=False)
        path = home / "feature_store.yaml"
        if not path.exists() or path.read_text() != text:
            files.write_text(path, text)
    store = FeatureStore(config=RepoConfig(**repo_config(settings), repo_path=home))
    _keep_whole(store.registry)
    return store


def _keep_whole(registry: BaseRegistry) -> None:
    """Let ``registry`` keep no copy in which a service lacks its view.

    Feast reads the views, then the services, and keeps what it read until the next time. Where another process applies
    a view and its service in between, the copy has the service alone, and Feast's server knows no such view.
    """
    read = registry.proto

    def proto() -> RegistryProto:
        for _ in range(_READS):
            copy = read()
            views = {view.spec.name for view in (*copy.feature_views, *copy.on_demand_feature_views)}
            named = {part.feature_view_name for service in copy.feature_services for part in service.spec.features}
            if named <= views:
                break
        return copy

    registry.proto = proto


def reconnect(store: FeatureStore) -> None:
    """Let the next read or write of ``store`` connect anew: Feast keeps a connection that broke."""
    store._provider = None


def apply(store: FeatureStore, objects: Sequence[Any]) -> None:
    """Register ``objects``; those that are there in the same form cost nothing."""
    if objects:
        store.apply(list(objects), skip_feature_view_validation=True)


def forget(store: FeatureStore, encoder: str, version: str) -> list[str]:
    """Remove a version's views, its service and its online rows, where they are there; the names of what was removed.

    The rows go while their view is known, so that a run that is killed in between can be made again.
    """
    views = []
    for kind in KINDS:
        with suppress(FeatureViewNotFoundException):
            views.append(store.get_feature_view(kind.view(encoder, version)))
    if views:
        store._get_provider().update_infra(store.project, views, [], [], [], partial=True)
    removed = []
    with suppress(FeatureServiceNotFoundException):
        store.delete_feature_service(encoder_service(encoder, version))
        removed.append(encoder_service(encoder, version))
    for view in views:
        store.delete_feature_view(view.name)
        store.registry.delete_data_source(view.name, store.project)
        removed.append(view.name)
    return removed
