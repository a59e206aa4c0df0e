"""Has the photo store a whole copy of every photo that is read from there?"""

from evaluation.consistency.differences import Differences
from vitrine import lake, links, photo_store
from vitrine.lake import matches
from vitrine.settings import Settings
from vitrine.tables import CATALOG

_PARTS = [f"{number:02x}" for number in range(256)]


def check_copies(settings: Settings, differences: Differences, dataset: str) -> None:
    """By their size; what is in them is seen when they are read. With ``[sources] keep_gb``,
    some behind links may be gone."""
    here = f"{matches(dataset=dataset)} AND ({photo_store.KEPT.format(uri='uri')})"
    if not lake.rows(settings, f"SELECT 1 FROM {CATALOG.name} WHERE {here} LIMIT 1"):
        return
    may_be_gone = settings.sources.keep_gb is not None
    for part in _PARTS:  # so that memory does not grow with the catalog
        sizes = {copy.content_sha256: copy.size for copy in photo_store.copies(settings, part)}
        sql = f"SELECT image_id, uri, content_sha256, size FROM {CATALOG.name} WHERE {matches(dataset=dataset)} AND "
        for row in lake.rows(settings, sql + photo_store.contents_in_sql(part)):
            size = sizes.get(row["content_sha256"])
            if size != row["size"] and not (size is None and may_be_gone and links.is_link(row["uri"])):
                differences.add("photos.lost", "", [row["image_id"]])
