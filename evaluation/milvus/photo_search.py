"""Search by a photo: the products, or photos, nearest to one that is in no catalog, each with its features."""

from typing import Any

from evaluation.milvus.collection import Labels
from evaluation.milvus.more_like_this import (
    WAIT_SECONDS,
    check_labels,
    collection_of,
    nearest_products,
    own_attributes,
    with_features,
)
from evaluation.milvus.vector_index import VectorIndex
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.kept_bundles import KeptBundles
from vitrine.encoders.query_encoder import QueryEncoder
from vitrine.errors import VitrineError
from vitrine.feature_store import IMAGES, PRODUCTS, Kind
from vitrine.names import check_name
from vitrine.online.lookup import OnlineFeatures, Served
from vitrine.settings import Settings
from vitrine.vectors import Floats

MAKING_SECONDS = 20.0
"""How long a search waits for a bundle that is being made, where no version before can answer."""


class PhotoSearch:
    """Searches of one home, for a process that lives on: keeps the encoder of what serves each data set.

    When a promotion moves what serves, the new version's bundle is made beside it; until it is, the version before goes
    on answering, whole and named as such.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bundles = KeptBundles(settings)
        self._ready: dict[tuple[str, Kind], tuple[Served, QueryEncoder]] = {}

    def __call__(
        self, online: OnlineFeatures, dataset: str, data: bytes, limit: int, kind: Kind, where: Labels = ()
    ) -> dict[str, Any]:
        """The ``limit`` products (or images) of ``dataset`` nearest to the photo ``data``, nearest first; of photos
        with the labels ``where`` alone.

        Everything comes from one encoder version: the vector, the collection, and the features.

        Returns:
            ``{"encoder_version", "nearest": [...]}``: rows of ``more_like_this``; of images ``image_id``,
            ``similarity``, ``product_id``, ``category`` and ``attributes``. Fewer than ``limit`` where there are no
            more.

        Raises:
            ImageError: the photo cannot be used.
            UserError: nothing serves the data set, or a label is unknown.
            VitrineError: the encoder that serves cannot be exported, or is being exported for the first time; Milvus
                fails, or is in use.
        """
        served, encoder = self._serving(online, check_name(dataset, "data set"), kind)
        check_labels(where, served.view, kind)
        vector = encoder.encode(data)
        encoded = EncodedSet(dataset, served.view.tags["encoder"], served.encoder_version)
        nearest = self._products if kind is PRODUCTS else self._images
        found = nearest(online, served, encoded, vector, limit, where)
        return {"encoder_version": served.encoder_version, "nearest": found}

    def _serving(self, online: OnlineFeatures, dataset: str, kind: Kind) -> tuple[Served, QueryEncoder]:
        served = online.serving(dataset, kind)
        encoder = self._bundles.encoder(served.encoder_version)
        before = self._ready.get((dataset, kind))
        if before and not encoder.done():
            return before
        try:
            self._ready[dataset, kind] = now = served, encoder.result(MAKING_SECONDS)
        except TimeoutError:
            raise VitrineError(
                f"the bundle of encoder version {served.encoder_version} is being made: ask again in a minute"
            ) from None
        self._bundles.forget_others({served.encoder_version for served, _ in list(self._ready.values())})
        return now

    def _products(
        self, online: OnlineFeatures, served: Served, encoded: EncodedSet, vector: Floats, limit: int, where: Labels
    ) -> list[dict[str, Any]]:
        with VectorIndex(self._settings, wait_seconds=WAIT_SECONDS) as milvus:
            nearest = nearest_products(collection_of(milvus, encoded), vector, limit, where)
        return with_features(online, served.view, nearest)

    def _images(
        self, online: OnlineFeatures, served: Served, encoded: EncodedSet, vector: Floats, limit: int, where: Labels
    ) -> list[dict[str, Any]]:
        with VectorIndex(self._settings, wait_seconds=WAIT_SECONDS) as milvus:
            hits = collection_of(milvus, encoded).nearest(vector, limit, where)
        similarities = {image: round(similarity, 6) for _, image, similarity in hits}
        return [
            {
                "image_id": row["image_id"],
                "similarity": similarities[row["image_id"]],
                "product_id": row["product_id"],
                "category": row["category"],
                "attributes": own_attributes(row, served.view, IMAGES),
            }
            for row in online.rows(served.view, list(similarities), IMAGES)
            if row["embedding"] is not None
        ]
