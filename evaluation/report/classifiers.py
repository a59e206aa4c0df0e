"""How well classifiers on each encoder's vectors predict labels: figures, confusion, calibration."""

from statistics import mean, stdev

from evaluation.classification.tag_answers import metrics_name
from evaluation.metrics_table import ALL_QUERIES, Evaluation, newest
from evaluation.report.figures import Entry, Group, Row
from evaluation.report.paired import paired_photos
from vitrine import runs
from vitrine.lake import matches, quote
from vitrine.runs import ClassifierDetails, EvaluateFigures
from vitrine.settings import Settings

FIGURES = ("accuracy", "top5", "macro_f1", "ece")
MOST = 24  # rows of one label
_RUNS = 500


def taggers(settings: Settings, group: Group) -> list[Row]:
    """A group a label (``relevant``) that classifiers predicted on the newest catalog, photos' category first.

    ``rows``, the highest accuracy first: ``key`` (version/classifier), ``entry`` (the encoder's of ``group``),
    ``label``, ``classifier``, ``photos``, ``seeds``, and each of ``FIGURES``: ``value`` (the mean over seeds),
    ``bounds`` (the seeds' mean interval, None where one has none), ``spread`` (standard deviation over seeds, None of
    one). ``paired``: photo by photo. ``details``: confusion and calibration of the first row.
    """
    entries = {entry.encoder_version: entry for entry in group.current}
    where = (
        f"{matches(dataset=group.dataset, catalog_version=group.catalog_version, slice=ALL_QUERIES)} "
        f"AND classifier <> '' AND NOT starts_with(classifier, {quote(metrics_name(''))}) "
        f"AND metric IN ({', '.join(map(quote, FIGURES))}) "
        f"AND encoder_version IN ({', '.join(map(quote, entries)) or 'NULL'})"
    )
    by_label: dict[str, dict[str, list[Evaluation]]] = {}
    for each in sorted(newest(settings, where), key=lambda each: each.seed):
        key = f"{each.encoded.encoder_version}/{each.classifier}"
        by_label.setdefault(each.relevant, {}).setdefault(key, []).append(each)
    result = []
    for relevant in sorted(by_label):  # category before product_id
        rows = [_row(key, entries[key.split("/")[0]], seeds) for key, seeds in by_label[relevant].items()]
        rows = sorted((row for row in rows if "accuracy" in row), key=lambda row: -row["accuracy"]["value"])[:MOST]
        if rows:
            details = _details(settings, rows[0]["entry"], rows[0]["classifier"], relevant)
            paired = paired_photos(settings, group.dataset, relevant)
            result.append({"relevant": relevant, "rows": rows, "paired": paired, "details": details})
    return result


def _row(key: str, entry: Entry, seeds: list[Evaluation]) -> Row:
    scores = [each.scores[ALL_QUERIES] for each in seeds]
    figures: Row = {}
    for name in FIGURES:
        values = [one.values[name] for one in scores if name in one.values]
        bounds = [one.intervals[name] for one in scores if name in one.values]
        if values:
            known = all(None not in pair for pair in bounds)
            figures[name] = {
                "value": mean(values),
                "bounds": tuple(mean(side) for side in zip(*bounds, strict=True)) if known else None,
                "spread": stdev(values) if len(values) > 1 else None,
            }
    return {
        "key": key,
        "entry": entry,
        "label": entry.label,
        "classifier": seeds[0].classifier,
        "photos": scores[0].queries,
        "seeds": len({each.seed for each in seeds}),
        **figures,
    }


def _details(settings: Settings, entry: Entry, classifier: str, label: str) -> ClassifierDetails | None:
    """What the newest evaluation that scored the classifier found; of several seeds, of the first."""
    evaluations = f"{entry.evaluation.encoded.where} AND {matches(verb='evaluate', state='done')}"
    for run in runs.read(settings, evaluations, newest=_RUNS):
        for details in run.read(EvaluateFigures).classifiers:
            if (details.classifier, details.label) == (classifier, label):
                return details
    return None
