"""What tags a data set's photos now: its figures, what it said, and photos to look at."""

from evaluation.classification.tag_answers import metrics_name
from evaluation.metrics_table import ALL_QUERIES, newest
from evaluation.report import photos
from evaluation.report.figures import Row
from vitrine import facts, lake, runs
from vitrine.encoders.classifiers import UNLIKE, UNSURE
from vitrine.lake import matches
from vitrine.runs import TagFigures
from vitrine.settings import Settings
from vitrine.tables import LABEL_COLUMNS

FIGURES = {
    "accuracy": "Accuracy",
    "top5": "Top 5",
    "macro_f1": "Macro F1",
    "coverage": "Coverage",
    "tag_precision": "Precision of tags",
    "ece": "Calibration error",
}
SHOWN = 6
"""Photos of each kind."""
_RUNS = 200


def sections(settings: Settings, dataset: str, pictures: bool) -> list[Row]:
    """One for each label that something tags: ``label``; ``row``, its newest of ``classifiers``; ``figures`` by name
    of ``FIGURES``, each ``value`` and ``bounds`` (None where none is defined); ``photos`` that it was asked about;
    ``counts`` of its tags; ``calibration``, the reliability diagram's bins; and, with ``pictures``, ``shown``: photos
    whose label a sure tag disagrees with, sure tags of photos without a label, photos unlike anything learned."""
    found = []
    for _, label in facts.tagged_labels(settings, dataset):
        row = facts.tagging(settings, dataset, label)
        if row is None or label not in LABEL_COLUMNS:
            continue
        shown = _shown(settings, dataset, label) if pictures else {}
        figures = _figures(settings, row)
        section = {"label": label, "row": row, **figures, "counts": _counts(settings, dataset, label), "shown": shown}
        found.append(section | {"calibration": _calibration(settings, row)})
    return found


def _figures(settings: Settings, row: Row) -> Row:
    named = metrics_name(row["classifier_version"])
    where = matches(dataset=row["dataset"], relevant=row["label"], classifier=named, slice=ALL_QUERIES)
    evaluations = newest(settings, where)
    if not evaluations:
        return {"figures": {}, "photos": 0}
    scores = evaluations[0].scores[ALL_QUERIES]
    each = {}
    for name in FIGURES:
        if name in scores.values:
            bounds = scores.intervals[name]
            each[name] = {"value": scores.values[name], "bounds": None if None in bounds else bounds}
    return {"figures": each, "photos": scores.queries}


def _calibration(settings: Settings, row: Row) -> list[Row]:
    where = matches(verb=f"learn {row['label']}", dataset=row["dataset"])
    for run in runs.read(settings, where, newest=_RUNS):
        figures = run.read(TagFigures)
        if figures.classifier_version == row["classifier_version"]:
            return figures.calibration
    return []


def _counts(settings: Settings, dataset: str, label: str) -> Row:
    sql = (
        "SELECT count(*) AS photos, coalesce(sum(CASE WHEN reason IS NULL THEN 1 ELSE 0 END), 0) AS tagged, "
        f"coalesce(sum(CASE WHEN reason = {lake.quote(UNSURE)} THEN 1 ELSE 0 END), 0) AS unsure, "
        f"coalesce(sum(CASE WHEN reason = {lake.quote(UNLIKE)} THEN 1 ELSE 0 END), 0) AS unlike FROM tags "
        f"WHERE {matches(dataset=dataset, label=label)}"
    )
    return lake.rows(settings, sql)[0]


def _shown(settings: Settings, dataset: str, label: str) -> dict[str, list[Row]]:
    here = matches("t", dataset=dataset, label=label)
    joined = (
        f"SELECT t.image_id, t.value, t.probability, t.runner_up, c.{label} AS said FROM tags t "
        f"JOIN catalog c ON c.image_id = t.image_id WHERE {here} AND "
    )
    lacking = "c.category IS NULL" if label == "category" else "false"
    kinds = {
        "disagrees": f"NOT t.abstained AND c.{label} <> t.value ORDER BY t.probability DESC, t.image_id",
        "tagged": f"NOT t.abstained AND {lacking} ORDER BY md5(t.image_id)",
        "unlike": f"t.reason = {lake.quote(UNLIKE)} ORDER BY md5(t.image_id)",
    }
    rows = {kind: lake.rows(settings, f"{joined}{condition} LIMIT {SHOWN}") for kind, condition in kinds.items()}
    return {kind: photos.pictured(settings, dataset, some) for kind, some in rows.items() if some}
