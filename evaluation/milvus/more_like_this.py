"""'More like this': the products nearest to one, each with its features. A recommender's first use."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.milvus.collection import Collection, Labels
from evaluation.milvus.vector_index import VectorIndex
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError, VitrineError, unknown
from vitrine.feast_parts import FeatureView
from vitrine.feature_store import PRODUCTS, Kind
from vitrine.names import check_name
from vitrine.online.lookup import OnlineFeatures
from vitrine.settings import Settings
from vitrine.tables import LABEL_COLUMNS

WAIT_SECONDS = 5.0
"""For Milvus Lite, which one process at a time can open."""
_MOST_IMAGES = 16_384  # Milvus answers with no more


def more_like_this(
    settings: Settings, online: OnlineFeatures, dataset: str, product_id: str, k: int = 10, where: Labels = ()
) -> dict[str, Any]:
    """The ``k`` products whose photos are nearest to the mean of ``product_id``'s, by what serves ``dataset``; of
    photos with the labels ``where`` alone.

    Everything comes from one encoder version, whatever is promoted meanwhile: the vector says which one it is of, that
    version's own collection is searched (not the alias, which may have moved on), and the features come from its view.

    Returns:
        ``{"product_id", "encoder_version", "similar": [{"product_id", "similarity", "image_id", "category",
        "n_images", "attributes"}, ...]}``, nearest first: the cosine similarity of the product's nearest photo, and
        that photo. Fewer than ``k`` where there are no more. The product itself is not among them, nor one that has
        left.

    Raises:
        UserError: nothing serves the data set, it has no such product, or a label is unknown.
        VitrineError: Milvus fails, or is in use by another process.
    """
    served = online.serving(check_name(dataset, "data set"), PRODUCTS)
    check_labels(where, served.view, PRODUCTS)
    (asked,) = online.rows(served.view, [product_id], PRODUCTS)
    if asked["embedding"] is None:
        raise UserError(f"data set {dataset!r} has no product {product_id!r} online")
    with VectorIndex(settings, wait_seconds=WAIT_SECONDS) as milvus:
        encoded = EncodedSet(dataset, served.view.tags["encoder"], served.encoder_version)
        nearest = nearest_products(collection_of(milvus, encoded), asked["embedding"], k, where, without=product_id)
    similar = with_features(online, served.view, nearest)
    return {"product_id": product_id, "encoder_version": served.encoder_version, "similar": similar}


def check_labels(where: Labels, view: FeatureView, kind: Kind) -> None:
    """Raises UserError, with the choices, where a label is none of the photos of ``view``."""
    known = (*LABEL_COLUMNS, *kind.attributes(view))
    for label, _ in where:
        if label not in known:
            raise unknown("label to search by", label, known)


def own_attributes(row: dict[str, Any], view: FeatureView, kind: Kind) -> dict[str, str]:
    """The attributes that a row of ``OnlineFeatures.rows`` has a value of."""
    return {name: row[name] for name in kind.attributes(view) if row[name] is not None}


def with_features(
    online: OnlineFeatures, view: FeatureView, nearest: dict[str, tuple[str, float]]
) -> list[dict[str, Any]]:
    """What ``nearest_products`` found, in its order, each with its features by ``view``; what has left is left out."""
    return [
        {
            "product_id": row["product_id"],
            "similarity": round(nearest[row["product_id"]][1], 6),
            "image_id": nearest[row["product_id"]][0],
            "category": row["category"],
            "n_images": row["n_images"],
            "attributes": own_attributes(row, view, PRODUCTS),
        }
        for row in online.rows(view, list(nearest), PRODUCTS)
        if row["embedding"] is not None
    ]


def collection_of(milvus: VectorIndex, encoded: EncodedSet) -> Collection:
    """The one with the index that serves; the exact one where the index was changed since."""
    for served in (True, False):
        collection = milvus.collection(encoded, served)
        if collection.exists():
            collection.load()
            return collection
    raise VitrineError(
        f"Milvus has no collection of {encoded.dataset!r} and version {encoded.encoder_version}: "
        "run `vitrine index` first"
    )


def nearest_products(
    collection: Collection, vector: NDArray[np.float32], k: int, where: Labels = (), without: str = ""
) -> dict[str, tuple[str, float]]:
    """The nearest image of each of the ``k`` nearest products but ``without``, and its similarity, nearest first; of
    images with the labels ``where`` alone.

    Milvus finds images: more of them are asked for until they are of enough products.
    """
    limit = min(_MOST_IMAGES, 10 * (k + 1))
    while True:
        hits = collection.nearest(vector, limit, where)
        nearest: dict[str, tuple[str, float]] = {}
        for product, image, similarity in hits:
            if product != without:
                nearest.setdefault(product, (image, similarity))
        if len(nearest) >= k or len(hits) < limit or limit == _MOST_IMAGES:
            return dict(list(nearest.items())[:k])
        limit = min(_MOST_IMAGES, 4 * limit)
