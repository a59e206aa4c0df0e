"""What tags a data set's photos now: its figures, what it said, and photos to look at."""

from evaluation.classification.tag_answers import class_slice, metrics_name
from evaluation.gates.tag_drift import QUESTION
from evaluation.metrics_table import ALL_QUERIES, Scores, newest
from evaluation.report import photos
from evaluation.report.figures import Row
from vitrine import facts, lake, runs, tag_review
from vitrine.encoders.classifiers import UNLIKE, UNSURE
from vitrine.lake import matches
from vitrine.runs import GateFigures, TagFigures
from vitrine.settings import Settings
from vitrine.tag_review import CORRECTED, DISAGREES, OPEN

FIGURES = {
    "accuracy": "Accuracy",
    "top5": "Top 5",
    "macro_f1": "Macro F1",
    "coverage": "Coverage",
    "tag_precision": "Precision of tags",
    "ece": "Calibration error",
}
SHOWN = {
    "disagrees": (
        "Labels that a sure tag disagrees with, surest first",
        f"outcome = '{DISAGREES}' AND NOT abstained ORDER BY probability DESC, image_id",
    ),
    "tagged": (
        "Photos without a label that got a tag",
        f"outcome = '{OPEN}' AND NOT abstained ORDER BY md5(image_id)",
    ),
    "corrected": (
        "Tags that a person has corrected since, newest first",
        f"outcome = '{CORRECTED}' AND NOT abstained ORDER BY tagged_at DESC, image_id",
    ),
    "unlike": ("Unlike anything learned: not tagged", f"reason = {lake.quote(UNLIKE)} ORDER BY md5(image_id)"),
}
"""Kinds of photos: a title, and which rows of ``tag_review.tags_beside_labels``, in what order."""
PHOTOS = 6
"""Of each kind."""
CLASSES = 10
"""That are shown by themselves."""
_RUNS = 200


def sections(settings: Settings, dataset: str, pictures: bool) -> list[Row]:
    """One for each label that something tags: ``label``; ``row``, its newest of ``classifiers``; ``figures`` by name
    of ``FIGURES``, each ``value`` and ``bounds`` (None where none is defined); ``photos`` that it was asked about;
    ``classes``, those with the least precise tags, ``more_classes`` that are left out; ``counts`` of its tags and
    ``outcomes``, what became of them; ``drift``, what the gate last said of new photos' classes, None where it was not
    asked; ``calibration``, the reliability diagram's bins; and, with ``pictures``, ``shown``: photos by ``SHOWN``."""
    found = []
    for _, label in facts.tagged_labels(settings, dataset):
        row = facts.tagging(settings, dataset, label)
        if row is None:
            continue
        section = {
            "label": label,
            "row": row,
            **_figures(settings, row),
            "counts": _counts(settings, dataset, label),
            "outcomes": tag_review.outcomes(settings, dataset, label),
            "drift": _drift(settings, dataset, label),
            "calibration": _calibration(settings, row),
            "shown": _shown(settings, dataset, label) if pictures else {},
        }
        found.append(section)
    return found


def _figures(settings: Settings, row: Row) -> Row:
    named = metrics_name(row["classifier_version"])
    where = matches(dataset=row["dataset"], relevant=row["label"], classifier=named)
    evaluations = newest(settings, where)
    if not evaluations:
        return {"figures": {}, "photos": 0, "classes": [], "more_classes": 0}
    by_slice = evaluations[0].scores
    scores = by_slice[ALL_QUERIES]
    figures = {name: _figure(scores, name) for name in FIGURES if name in scores.values}
    classes = [_of_class(name, of_class) for name, of_class in by_slice.items() if name.startswith(class_slice(""))]
    # The least precise first; those of which nothing was said have no precision, and come last.
    classes.sort(key=lambda one: (one["tag_precision"]["value"] if one["tag_precision"] else 2.0, one["name"]))
    more = max(len(classes) - CLASSES, 0)
    return {"figures": figures, "photos": scores.queries, "classes": classes[:CLASSES], "more_classes": more}


def _figure(scores: Scores, name: str) -> Row:
    bounds = scores.intervals[name]
    return {"value": scores.values[name], "bounds": None if None in bounds else bounds}


def _of_class(name: str, scores: Scores) -> Row:
    each = {name: _figure(scores, name) if name in scores.values else None for name in ("coverage", "tag_precision")}
    return {"name": name.removeprefix(class_slice("")), "photos": scores.queries, **each}


def _calibration(settings: Settings, row: Row) -> list[Row]:
    where = matches(verb=f"learn {row['label']}", dataset=row["dataset"])
    for run in runs.read(settings, where, newest=_RUNS):
        figures = run.read(TagFigures)
        if figures.classifier_version == row["classifier_version"]:
            return figures.calibration
    return []


def _drift(settings: Settings, dataset: str, label: str) -> Row | None:
    """``said``, ``warned`` and ``at`` of the newest gate that asked for it."""
    for run in runs.read(settings, matches(verb="gate", dataset=dataset), newest=_RUNS):
        for check in run.read(GateFigures).asked if run.gate == "tags" else ():
            if check["expectation"].startswith(QUESTION) and check["figures"].get("label") == label:
                warned = not check["success"] or "warning" in check["figures"]
                said = check["expectation"].removeprefix(QUESTION).removeprefix(": ")
                return {"said": said, "warned": warned, "at": run.started_at}
    return None


def _counts(settings: Settings, dataset: str, label: str) -> Row:
    sql = (
        "SELECT count(*) AS photos, coalesce(sum(CASE WHEN reason IS NULL THEN 1 ELSE 0 END), 0) AS tagged, "
        f"coalesce(sum(CASE WHEN reason = {lake.quote(UNSURE)} THEN 1 ELSE 0 END), 0) AS unsure, "
        f"coalesce(sum(CASE WHEN reason = {lake.quote(UNLIKE)} THEN 1 ELSE 0 END), 0) AS unlike FROM tags "
        f"WHERE {matches(dataset=dataset, label=label)}"
    )
    return lake.rows(settings, sql)[0]


def _shown(settings: Settings, dataset: str, label: str) -> dict[str, list[Row]]:
    tags = f"SELECT * FROM ({tag_review.tags_beside_labels(dataset, label)}) WHERE"
    found = {}
    for kind, (_, condition) in SHOWN.items():
        if rows := lake.rows(settings, f"{tags} {condition} LIMIT {PHOTOS}"):
            found[kind] = photos.pictured(settings, dataset, rows)
    return found
