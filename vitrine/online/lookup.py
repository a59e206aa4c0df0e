"""What a recommender asks: the vectors and features of images and products, by what serves their data set."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vitrine import facts, feature_store, lake
from vitrine.errors import UserError
from vitrine.feast_parts import (
    FeatureServiceNotFoundException,
    FeatureStore,
    FeatureView,
    FeatureViewNotFoundException,
    Value,
    make_tzaware,
)
from vitrine.feature_store import IMAGES, PRODUCTS, Kind
from vitrine.online.values import entity_keys, plain_of, vector_of
from vitrine.settings import Settings

_LONGEST_GAP_S = 5.0
_StoredRow = tuple[datetime | None, dict[str, Value] | None]


@dataclass(frozen=True)
class Served:
    """What a serving service points to."""

    view: FeatureView
    encoder_version: str
    until: float
    """On the monotonic clock: then Feast's registry is asked again."""


class OnlineFeatures:
    """Lookups of one home, for a process that lives on: keeps the connection, and what serves for a while.

    A promotion is followed within ``[feast] follow_seconds``; until then the answers are those of the version that
    served before, whole and named as such.
    """

    def __init__(self, settings: Settings, store: FeatureStore | None = None) -> None:
        self._settings = settings
        self._store = store or feature_store.open_store(settings)
        self._served: dict[tuple[Kind, str], Served] = {}

    def serving(self, dataset: str, kind: Kind = IMAGES) -> Served:
        """What serves the images (or products) of ``dataset``.

        Raises:
            UserError: nothing does.
        """
        known = self._served.get((kind, dataset))
        if known is None or known.until < time.monotonic():
            known = self._served[kind, dataset] = self._ask_registry(dataset, kind)
        return known

    def refresh(self) -> None:
        """Ask the registry at the next lookup, whatever the settings say."""
        self._served.clear()

    def lookup(self, dataset: str, keys: Sequence[str], kind: Kind = IMAGES) -> list[dict[str, Any]]:
        """What serves ``dataset`` says of the images (or products) ``keys``, in their order.

        Returns:
            A dict a key: ``embedding``, float32 of shape (D,) and unit length, the other features of ``kind``, and
            attributes. A key that is unknown, that left, or whose vector is older than ``[feast] ttl_days`` has None
            in each.

        Raises:
            UserError: nothing serves the data set online.
        """
        return self.rows(self.serving(dataset, kind).view, keys, kind)

    def rows(self, view: FeatureView, keys: Sequence[str], kind: Kind) -> list[dict[str, Any]]:
        """The same of one version's view."""
        found = self._read(view, keys, kind) if keys else []
        oldest = lake.now() - view.ttl if view.ttl else None
        features = (*kind.features, *kind.attributes(view))
        dim, (vector_name, *names), unknown = int(view.tags["dim"]), features, dict.fromkeys(features)
        answers: list[dict[str, Any]] = []
        for key, (moment, values) in zip(keys, found, strict=True):
            vector = None
            if values and (oldest is None or make_tzaware(moment) >= oldest):
                vector = vector_of(values[vector_name], dim)
            if values is None or vector is None:  # what left has its encoder_version still
                answers.append({kind.key: key, **unknown})
            else:
                plain = {name: plain_of(values.get(name, Value())) for name in names}  # new ones are not stored yet
                answers.append({kind.key: key, vector_name: vector, **plain})
        return answers

    def check(self) -> None:
        """Ask the store for a key that it has not; raises what its driver raises where it cannot be read."""
        views = {view.name: view for view in self._store.list_feature_views(allow_cache=True)}
        name = next((name for name in views if name.startswith(PRODUCTS.name)), None)
        if name:  # else nothing was ever online
            self._read(views[name], [""], PRODUCTS)

    def _read(self, view: FeatureView, keys: Sequence[str], kind: Kind) -> list[_StoredRow]:
        """The store's own read, which ``get_online_features`` ends in: that copies each vector into a response, and its
        ``to_dict`` makes a Python number of each float."""
        asked, config = entity_keys(kind, keys), self._store.config
        features = [*kind.features, *kind.attributes(view)]
        try:
            found: list[_StoredRow] = self._store._get_provider().online_read(config, view, asked, features)
        except Exception:  # of the store's driver: a connection that broke, and that Feast would keep for good
            feature_store.reconnect(self._store)
            found = self._store._get_provider().online_read(config, view, asked, features)
        return found

    def _ask_registry(self, dataset: str, kind: Kind) -> Served:
        deadline = time.monotonic() + _LONGEST_GAP_S
        while True:
            try:
                service = self._store.get_feature_service(kind.serving(dataset))
                view = self._store.get_feature_view(service.feature_view_projections[0].name)
            except (FeatureServiceNotFoundException, FeatureViewNotFoundException):
                # A reader can come between two steps of another process's apply.
                if time.monotonic() > deadline or not facts.serving(self._settings, dataset):
                    raise UserError(
                        f"nothing serves the {kind.name} of {dataset!r} online: "
                        "promote an encoder, then run vitrine features"
                    ) from None
                time.sleep(0.2)
                continue
            until = time.monotonic() + self._settings.feast.follow_seconds
            return Served(view, service.tags["encoder_version"], until)
