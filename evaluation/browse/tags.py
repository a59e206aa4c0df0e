"""Tags as the page shows them: of one label, page by page, beside what the source says."""

from dataclasses import dataclass

from evaluation.browse.table_cache import TableVersions
from vitrine import lake, tag_review
from vitrine.encoders.classifiers import UNLIKE, UNSURE
from vitrine.lake import matches, quote
from vitrine.settings import Settings
from vitrine.tables import TAGS

PAGE = 48
"""Photos on a page."""
_SUREST, _LEAST_SURE = "probability DESC, image_id", "probability, image_id"
KINDS: dict[str, tuple[str, str, str]] = {
    "review": ("To look at", tag_review.TO_REVIEW, tag_review.FIRST),
    "disagrees": ("Labels in doubt", f"outcome = '{tag_review.DISAGREES}' AND NOT abstained", _SUREST),
    "tagged": ("Tagged", "NOT abstained", _LEAST_SURE),
    "unsure": ("Unsure", f"reason = {quote(UNSURE)}", _SUREST),
    "unlike": ("Unlike anything learned", f"reason = {quote(UNLIKE)}", _LEAST_SURE),
    "corrected": ("Corrected", f"outcome = '{tag_review.CORRECTED}'", _SUREST),
    "all": ("All", "true", "image_id"),
}
"""What is shown: its name, which tags, in which order."""


@dataclass(frozen=True)
class PhotoTag:
    """What a classifier says of one photo."""

    image_id: str
    label: str | None
    """What the source says; None where nobody does."""
    tag: str
    probability: float
    runner_up: str
    reason: str | None
    """Why it abstains; None where it tags."""
    outcome: str
    """One of ``tag_review.OUTCOMES``."""


@dataclass(frozen=True)
class TagPage:
    """One page of a kind of tags, and how many there are in all."""

    tags: list[PhotoTag]
    total: int


def read_tagged_labels(settings: Settings, at: TableVersions, dataset: str) -> list[str]:
    """The labels that photos of ``dataset`` have tags of."""
    sql = f"SELECT DISTINCT label FROM {TAGS.name} WHERE {matches(dataset=dataset)} ORDER BY label"
    return [str(row["label"]) for row in lake.query(settings, sql, at).to_pylist()]


def read_tag_page(settings: Settings, at: TableVersions, dataset: str, label: str, kind: str, page: str) -> TagPage:
    """Page ``page`` (0 is the first) of one of ``KINDS``, as of ``at``."""
    _, chosen, order = KINDS[kind]
    columns = "image_id, label, tag, probability, runner_up, reason, outcome"
    some = f"SELECT {columns}, abstained FROM ({tag_review.tags_beside_labels(dataset, label)}) WHERE {chosen}"
    limits = f"LIMIT {PAGE} OFFSET {int(page) * PAGE}"
    rows = lake.query(settings, f"SELECT {columns} FROM ({some}) ORDER BY {order} {limits}", at).to_pylist()
    total = lake.query(settings, f"SELECT count(*) AS n FROM ({some})", at).to_pylist()[0]["n"]
    return TagPage([PhotoTag(**row) for row in rows], total)


def read_photo_tags(settings: Settings, dataset: str, image_id: str) -> dict[str, PhotoTag]:
    """The tags of a photo of the catalog, by label."""
    here = matches(dataset=dataset, image_id=image_id)
    tags = {}
    for tagged in lake.rows(settings, f"SELECT label FROM {TAGS.name} WHERE {here} ORDER BY label"):
        beside = tag_review.tags_beside_labels(dataset, tagged["label"])
        for row in lake.rows(settings, f"SELECT * FROM ({beside}) WHERE {matches(image_id=image_id)}"):
            tags[tagged["label"]] = PhotoTag(**{name: row[name] for name in PhotoTag.__dataclass_fields__})
    return tags
