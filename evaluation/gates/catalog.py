"""The gate on a catalog: is it fit to be embedded?"""

from evaluation.gates.data_docs import Decision, Rule, rule, validate
from evaluation.gates.gate_rows import COPIES, StartSpark, gate_rows
from vitrine import facts
from vitrine.lake import matches, quote
from vitrine.runs import GateFigures
from vitrine.settings import Settings
from vitrine.tables import CATALOG, LABELS, QUARANTINE


def gate_catalog(settings: Settings, dataset: str, spark: StartSpark, run_id: str | None = None) -> GateFigures:
    """Is every photo of ``dataset`` complete, and are few in quarantine?"""
    asked: list[Rule | Decision] = [
        rule("ExpectTableRowCountToBeBetween", "the catalog is not empty", min_value=1),
        rule("ExpectColumnValuesToBeInSet", "image_id is unique", column="copies", value_set=[1]),
        rule("ExpectColumnValuesToNotBeNull", "every photo has a product_id", column="product_id"),
        rule("ExpectColumnValuesToNotBeNull", "every photo is in the label history", column="labelled"),
        rule(
            "ExpectColumnValuesToMatchRegex",
            "content_sha256 is 64 hex digits",
            column="content_sha256",
            regex=r"^[0-9a-f]{64}(?![\s\S])",
        ),
        *(
            rule("ExpectColumnValuesToBeBetween", f"{name} is at least 1", column=name, min_value=1)
            for name in ("width", "height", "size")
        ),
        _few_in_quarantine(settings, dataset),
    ]
    with gate_rows(settings, spark, _photos(dataset), CATALOG, LABELS) as rows:
        return validate(settings, "catalog", dataset, asked, run_id, rows)


def _few_in_quarantine(settings: Settings, dataset: str) -> Decision:
    refused = facts.count(settings, QUARANTINE, matches(dataset=dataset, stage="ingest"))
    photos = facts.count(settings, CATALOG, matches(dataset=dataset))
    total, most = refused + photos, settings.gates.max_quarantine_share
    share = refused / total if total else 0.0
    figures = {"quarantined": refused, "catalog": photos, "share": share, "max_quarantine_share": most}
    return Decision(f"at most {most:.1%} of the photos are in quarantine", refused <= most * total, figures)


def _photos(dataset: str) -> str:
    """A row a photo; what is null or blank is null in ``product_id`` and ``labelled``, and a fault
    elsewhere."""
    here, prefix = matches(dataset=dataset), f"{dataset}/"
    starts, rest = f"left(product_id, {len(prefix)}) = {quote(prefix)}", f"substr(product_id, {len(prefix) + 1})"
    own = f"CASE WHEN {starts} THEN {rest} ELSE product_id END"
    return (
        f"SELECT image_id, {COPIES}, CASE WHEN trim({own}) <> '' THEN product_id END AS product_id, labelled, "
        "coalesce(content_sha256, '') AS content_sha256, "
        f"{', '.join(f'coalesce({name}, 0) AS {name}' for name in ('width', 'height', 'size'))} "
        f"FROM (SELECT * FROM {{catalog}} WHERE {here}) LEFT JOIN "
        f"(SELECT DISTINCT image_id, true AS labelled FROM {{labels}} WHERE {here}) USING (image_id)"
    )
