"""What became of a tag, and what a person should look at: in Spark's SQL and DataFusion's alike.

The expressions name columns: ``label`` is what the source says of the photo now, null where nobody said it; ``tag``,
``probability``, ``abstained`` and ``tagged_at`` are the tag's; ``labelled_at`` is when the label was first said.
"""

from vitrine import facts, lake
from vitrine.lake import matches
from vitrine.settings import Settings
from vitrine.tables import CATALOG, LABELS, TAGS

OPEN, CONFIRMED, CORRECTED, DISAGREES = "open", "confirmed", "corrected", "disagrees"
OUTCOMES = {
    OPEN: "nobody has said the label",
    CONFIRMED: "the label is the tag",
    CORRECTED: "the label is another one, and was said after the tag",
    DISAGREES: "the label is another one, and was said before the tag",
}
OUTCOME = (
    f"CASE WHEN label IS NULL THEN '{OPEN}' WHEN label = tag THEN '{CONFIRMED}' "
    f"WHEN labelled_at > tagged_at THEN '{CORRECTED}' ELSE '{DISAGREES}' END"
)
TO_REVIEW = f"(outcome = '{OPEN}' OR (outcome = '{DISAGREES}' AND NOT abstained))"
"""Of rows with ``outcome``: those that a person should look at. What a person corrected is answered."""
FIRST = f"outcome = '{OPEN}', CASE WHEN outcome = '{OPEN}' THEN probability ELSE -probability END, image_id"
"""Their order: labels that a sure tag disagrees with, the surest first; then photos without a label, the least sure
first."""


def tags_beside_labels(dataset: str, label: str) -> str:
    """A query, in DataFusion's SQL, of a label's tags: ``image_id``, ``label``, ``tag``, ``probability``,
    ``runner_up``, ``abstained``, ``reason``, ``tagged_at``, ``outcome``."""
    of_set, name = matches(dataset=dataset), facts.label_in_sql(label)
    tags = f"SELECT * FROM {TAGS.name} WHERE {matches(dataset=dataset, label=label)}"
    now = f"SELECT image_id, {name} AS label FROM {CATALOG.name} WHERE {of_set}"
    ever = f"SELECT image_id, {name} AS label, min(valid_from) AS labelled_at FROM {LABELS.name} WHERE {of_set}"
    joined = (
        "SELECT t.image_id, c.label, t.value AS tag, t.probability, t.runner_up, t.abstained, t.reason, t.tagged_at, "
        f"l.labelled_at FROM ({tags}) t JOIN ({now}) c ON t.image_id = c.image_id LEFT JOIN ({ever} GROUP BY image_id, "
        f"{name}) l ON l.image_id = c.image_id AND l.label = c.label"
    )
    return f"SELECT *, {OUTCOME} AS outcome FROM ({joined})"


def outcomes(settings: Settings, dataset: str, label: str) -> dict[str, int]:
    """How many of a label's tags came to each of ``OUTCOMES``, by its name."""
    sql = f"SELECT outcome, count(*) AS n FROM ({tags_beside_labels(dataset, label)}) GROUP BY outcome"
    counts = {row["outcome"]: row["n"] for row in lake.rows(settings, sql)}
    return {name: counts.get(name, 0) for name in OUTCOMES}
