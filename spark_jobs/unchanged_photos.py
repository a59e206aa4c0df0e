"""Is a source as the catalog has it? Asked in this process, of a catalog that is small enough: most nights of a small
shop start no JVM for it.

Nothing is written, and whatever else is to be done (a photo that is new, changed or refused, one that left, a row of
quarantine, a label that the history lacks) is left to Spark, from the start.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from spark_jobs.checked_photos import KNOWN, LISTED, check_row
from vitrine import facts, lake
from vitrine.datasets.photo import Layout, Photo
from vitrine.lake import matches
from vitrine.locations import Location
from vitrine.runs import IngestCounts
from vitrine.settings import Settings
from vitrine.tables import CATALOG, LINKS, QUARANTINE

MOST_PHOTOS = 50_000
"""Of a catalog: listing 20,000 of this machine and asking the system for each takes about two seconds."""


def unchanged(
    settings: Settings, dataset: str, layout: Layout, units: Sequence[str], test_share: float | None
) -> IngestCounts | None:
    """What an ingest finds where there is nothing at all to do; None where there may be, or where asking is not for
    this process: photos are not files of this machine, or the catalog has more than ``MOST_PHOTOS``."""
    here = matches(dataset=dataset)
    count = facts.count(settings, CATALOG, here)
    if not 0 < count <= MOST_PHOTOS or facts.count(settings, LINKS, here):
        return None
    if facts.count(settings, QUARANTINE, f"{here} AND {matches(stage='ingest')}"):
        return None
    if facts.lacking_labels(settings, dataset):
        return None
    columns = ", ".join(("image_id", *KNOWN))
    batches = lake.stream(settings, f"SELECT {columns} FROM {CATALOG.name} WHERE {here}")
    known = {row["image_id"]: row for batch in batches for row in batch.to_pylist()}
    for photo in (photo for unit in units for photo in layout.photos(unit)):
        row = known.pop(f"{dataset}/{photo.image_id}", None)
        if row is None or not _is_local(photo) or not _is_same(settings, dataset, photo, row, test_share):
            return None
    return None if known else IngestCounts(images=count, unchanged=count)


def _is_local(photo: Photo) -> bool:
    return photo.refusal is None and photo.kept_sha256 is None and Location(photo.uri).is_local


def _is_same(settings: Settings, dataset: str, photo: Photo, known: dict[str, Any], test_share: float | None) -> bool:
    """Would ``check_row`` say so, of the row that the job makes of the photo?"""
    split = "val" if photo.split == "validation" else photo.split
    listed: dict[str, Any] = dict.fromkeys(LISTED.names) | {
        "image_id": known["image_id"],
        "product_id": f"{dataset}/{photo.product_id}",
        "category": photo.category,
        "split": _drawn(known["image_id"], test_share) if split is None and test_share is not None else split,
        "uri": photo.uri,
        "attributes": list(photo.attributes) or None,
    }
    said = check_row(listed | {f"known_{name}": known[name] for name in KNOWN}, settings.max_pixels, settings.photos)
    return bool(said["same_row"])


def _drawn(image_id: str, test_share: float) -> str:
    """As ``ingest_catalog`` draws it."""
    digest = hashlib.sha256(image_id.encode()).hexdigest()
    return "test" if int(digest[:8], 16) / 2**32 < test_share else "train"
