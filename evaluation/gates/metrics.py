"""The gate on figures: good by itself, no worse than what serves, and, tuned, no worse than its own backbone."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from evaluation.classification.predictions import paired_predictions
from evaluation.gates.data_docs import decided, validate
from evaluation.gates.gate import Check, decide
from evaluation.gates.regression import Against, PairedQueries, held_against
from evaluation.gates.tagging import decided_by_tags, lacking_classifiers, paired_tags
from evaluation.metrics_table import ALL_QUERIES, Evaluation, newest
from evaluation.retrieval.slices import CATEGORY, SHUFFLED
from evaluation.statistics.bootstrap import Floats
from evaluation.task import ALL, Task
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import tuned
from vitrine.errors import UserError, unknown
from vitrine.lake import matches
from vitrine.names import LEARNED_SPLIT, split_joined
from vitrine.retrieval_metrics import metric_names, per_query
from vitrine.runs import GateFigures
from vitrine.settings import Settings
from vitrine.tables import CATALOG, QUERY_RESULTS
from vitrine.vectors import lengths

_QUESTIONS = {
    "floor": "above the floor",
    "chance": "above chance",
    "serving": "no worse than what serves",
    "serving_new_products": "new products no worse than by what serves",
    "serving_categories": "no category far worse than by what serves",
    "serving_classifiers": "no classifier worse than by what serves",
    "base": "no worse than its own backbone",
    "base_new_products": "new products no worse than by its own backbone",
    "base_categories": "no category far worse than by its own backbone",
    "base_classifiers": "no classifier worse than by its own backbone",
}


def _question(name: str) -> str:
    """What the check of that name asks, as Great Expectations' pages say it."""
    kind, by, attribute = name.partition("_by_")
    if not by:
        return _QUESTIONS[name]
    return _QUESTIONS[f"{kind}_categories"].replace("no category", f"no value of {attribute}")


def gate_metrics(settings: Settings, encoded: EncodedSet, run_id: str | None = None) -> GateFigures:
    """Is the encoder version good enough for its data set, by its newest figures on the catalog as it is now?

    Raises:
        UserError: it, what serves, or its own backbone has no such figures yet (the message names the command).
    """
    evaluation, metric = _newest_figures(settings, encoded), settings.gates.metric
    value, chance = (evaluation.scores[name].values[metric] for name in (ALL_QUERIES, SHUFFLED))
    checks = decide(metric, value, chance, settings.gates)
    task = Task(encoded, evaluation.catalog_version, *evaluation.protocol)
    serves = facts.serving_set(settings, encoded.dataset)
    others = compared_with(settings, encoded)
    checks += _skipped_serving(encoded, serves)
    for against in others:
        checks += _compared(settings, task, against)
    checks += _skipped_base(settings, encoded, serves)
    asked = [decided(check, _question(check.name)) for check in checks]
    served = serves.encoder_version if serves else None
    return validate(settings, "metrics", f"{encoded.dataset} {encoded.encoder}", asked, run_id, serving_version=served)


# ---- what it is held against ----


def compared_with(settings: Settings, encoded: EncodedSet) -> list[Against]:
    """What the gate holds ``encoded`` against: what serves, and the backbone that it was tuned from.

    Nothing where it serves itself; one of them where both are one version.
    """
    serves, backbone = facts.serving_set(settings, encoded.dataset), _backbone(settings, encoded)
    if serves and serves.encoder_version == encoded.encoder_version:
        return []
    others = [Against("serving", serves)] if serves else []
    if backbone and not (serves and serves.encoder_version == backbone.encoder_version):
        others.append(Against("base", backbone))
    return others


def _backbone(settings: Settings, encoded: EncodedSet) -> EncodedSet | None:
    """What a tuned encoder was tuned from, the best of several that were joined, or, until that is retired, the head
    whose vectors it makes shorter; None of one that was not tuned."""
    row = facts.find_encoder(settings, encoded.encoder_version)
    joined = row["base_version"] if row else None
    if joined is None:
        return None
    made = tuned.find(settings, encoded.encoder)
    if made and made.encoder_version == encoded.encoder_version and made.shortens and made.shortens_version:
        longer = EncodedSet(encoded.dataset, made.shortens, made.shortens_version)
        if not facts.is_retired(settings, longer.encoder_version):
            return longer
    versions = split_joined(joined)
    names = split_joined(made.base) if made and made.base_version == joined else versions
    known = [facts.find_encoder(settings, version) for version in versions]
    bases = [
        EncodedSet(encoded.dataset, base["encoder"] if base else name, version)
        for base, name, version in zip(known, names, versions, strict=True)
    ]
    return bases[0] if len(bases) == 1 else max(bases, key=lambda base: _newest_value(settings, base))


def _newest_value(settings: Settings, encoded: EncodedSet) -> float:
    """The gate's metric by the newest figures; above every figure where there are none: they are asked for then."""
    relevant = settings.nightly.relevant
    evaluations = newest(settings, f"{encoded.where} AND {matches(classifier='', relevant=relevant)}")
    scores = next((one.scores[ALL_QUERIES] for one in evaluations if ALL_QUERIES in one.scores), None)
    return scores.values.get(settings.gates.metric, np.inf) if scores else np.inf


def _skipped_serving(encoded: EncodedSet, serves: EncodedSet | None) -> list[Check]:
    if serves is None:
        return [Check.skipped("serving", "nothing serves yet")]
    if serves.encoder_version == encoded.encoder_version:
        return [Check.skipped("serving", "this version is what serves", "it is what serves")]
    return []


def _skipped_base(settings: Settings, encoded: EncodedSet, serves: EncodedSet | None) -> list[Check]:
    backbone = _backbone(settings, encoded)
    if serves and backbone and serves.encoder_version == backbone.encoder_version:
        return [Check.skipped("base", "its own backbone is what serves", "it is what serves")]
    return []


# ---- the figures ----


def _newest_figures(settings: Settings, encoded: EncodedSet) -> Evaluation:
    """The newest evaluation that has the gate's metric, on all queries and on shuffled labels."""
    metric, relevant = settings.gates.metric, settings.nightly.relevant
    where = {"catalog_version": facts.catalog_version(settings, encoded.dataset, relevant), "relevant": relevant}
    evaluations = newest(settings, f"{encoded.where} AND {matches(classifier='', **where)}")
    command = _command(encoded, relevant)
    if not evaluations:
        raise UserError(
            f"no figures of encoder {encoded.encoder!r} on the catalog of {encoded.dataset!r} as it is now: "
            f"run {command}"
        )
    metrics = {name for one in evaluations for scores in one.scores.values() for name in scores.values}
    known = metrics & set(metric_names(settings.evaluate.depth))
    if metric not in known:
        raise unknown("metric for [gates] metric", metric, known)
    evaluation = next(one for one in evaluations if _has(one, ALL_QUERIES, metric))
    if not _has(evaluation, SHUFFLED, metric):
        raise UserError(
            f"no figures of encoder {encoded.encoder!r} on shuffled labels of {encoded.dataset!r}: run {command}"
        )
    return evaluation


def _has(evaluation: Evaluation, name: str, metric: str) -> bool:
    return name in evaluation.scores and metric in evaluation.scores[name].values


def _command(encoded: EncodedSet, relevant: str, more: str = "") -> str:
    asked = f"--encoder {encoded.encoder} --dataset {encoded.dataset}{more} --relevant {relevant}"
    return f"`vitrine evaluate {asked}`"


# ---- query by query ----


def _compared(settings: Settings, task: Task, against: Against) -> list[Check]:
    """The checks of ``held_against``, on the queries that both versions answered."""
    encoded, other, relevant = task.encoded, against.encoded, task.relevant
    _refuse_unembedded(settings, encoded, against, relevant)
    what = f"what serves {encoded.dataset!r}" if against.kind == "serving" else f"the backbone of {encoded.encoder!r}"
    who = f"{what}, {other.encoder} ({other.encoder_version}),"
    splits = "" if task.query_split == ALL else f" --queries {task.query_split} --index {task.index_split}"
    theirs = _read(settings, replace(task, encoded=other))
    if theirs is None:
        command, advice = _command(other, relevant, splits), _advice(encoded, against)
        raise UserError(f"{who} has no figures on the same queries and catalog: run {command}{advice}")
    ours = _read(settings, task)
    again = f"{splits} --again"
    if ours is None:
        raise UserError(
            f"the queries' results of {encoded.encoder!r} are gone: run {_command(encoded, relevant, again)}"
        )
    paired = _paired(settings, task, ours, theirs)
    most, least = max(len(ours[0]), len(theirs[0])), (1 - 2 * settings.gates.max_quarantine_share)
    if not len(paired.candidate) or len(paired.candidate) < least * most:
        commands = " and ".join(_command(side, relevant, again) for side in (encoded, other))
        raise UserError(
            f"{who} has {len(paired.candidate)} of {most} queries in common with {encoded.encoder!r}: run {commands}"
        )
    classifiers = paired_predictions(settings, task, replace(task, encoded=other))
    if against.kind == "base":
        return held_against(against, paired, classifiers, settings.gates)
    lacking = lacking_classifiers(settings, encoded)
    classifiers += [] if lacking else paired_tags(settings, encoded, other)
    *checks, last = held_against(against, paired, classifiers, settings.gates)
    return [*checks, decided_by_tags(settings, encoded, last, lacking)]


def _refuse_unembedded(settings: Settings, encoded: EncodedSet, against: Against, relevant: str) -> None:
    other = against.encoded
    if against.kind == "base" and facts.find_encoder(settings, other.encoder_version) is None:
        raise UserError(
            f"the backbone of {encoded.encoder!r}, {other.encoder} ({other.encoder_version}), has no vectors: run "
            f"`vitrine embed --encoder {other.encoder} --dataset {encoded.dataset}`, then {_command(other, relevant)}"
        )


def _advice(encoded: EncodedSet, against: Against) -> str:
    """What to do where what serves cannot be evaluated by its name any more."""
    if against.kind == "base" or against.encoded.encoder != encoded.encoder:
        return ""
    return (
        f"; {encoded.encoder!r} names another version by now: give what serves a name of its own in vitrine.toml "
        "first, or promote with --force and a --reason"
    )


def _paired(
    settings: Settings, task: Task, ours: tuple[pa.Array, Floats], theirs: tuple[pa.Array, Floats]
) -> PairedQueries:
    at = pc.index_in(ours[0], value_set=theirs[0])
    both = at.is_valid().to_numpy(zero_copy_only=False)
    here = matches(dataset=task.encoded.dataset)
    learned = f"SELECT DISTINCT product_id FROM {CATALOG.name} WHERE {here} AND {matches(split=LEARNED_SPLIT)}"
    sliced = {name: f"slice_{at}" for at, name in enumerate((CATEGORY, *settings.evaluate.slices))}
    own = "".join(f", {facts.label_in_sql(name)} AS {column}" for name, column in sliced.items())
    rows = lake.query(
        settings,
        f"SELECT image_id, c.product_id{own}, l.product_id IS NOT NULL AS learned FROM {CATALOG.name} c "
        f"LEFT JOIN ({learned}) l ON c.product_id = l.product_id WHERE {here} "
        f"AND image_id IN (SELECT query_id FROM {QUERY_RESULTS.name} WHERE {task.results})",
    )
    known = pc.index_in(ours[0].filter(pa.array(both)), value_set=rows.column("image_id").combine_chunks())
    about = rows.take(known)
    return PairedQueries(
        settings.gates.metric,
        ours[1][both],
        theirs[1][at.drop_null().to_numpy()],
        about.column("product_id").combine_chunks().dictionary_encode().indices.to_numpy(),
        {name: np.array(about.column(column).to_pylist(), dtype=object) for name, column in sliced.items()},
        about.column("learned").to_numpy(),
    )


def _read(settings: Settings, task: Task) -> tuple[pa.Array, Floats] | None:
    """The task's queries by id, and each one's figure of the gate's metric, float64 (Q,); None where there are none."""
    sql = f"SELECT query_id, relevance, n_relevant FROM {QUERY_RESULTS.name} WHERE {task.results}"
    ids, figures = [], []
    for batch in lake.stream(settings, sql):
        relevance = _padded(batch.column("relevance"), settings.evaluate.depth)
        each = per_query(relevance, batch.column("n_relevant").to_numpy(zero_copy_only=False))
        ids.append(batch.column("query_id"))
        figures.append(each[settings.gates.metric])
    if not sum(map(len, ids)):
        return None
    return pa.concat_arrays(ids), np.concatenate(figures)


def _padded(lists: pa.ListArray, depth: int) -> NDArray[np.bool_]:
    """Lists of up to ``depth`` ranks (or as many as the longest) as bool (Q, ranks), False past the end."""
    ranks = lengths(lists)
    there = np.arange(max(depth, int(ranks.max(initial=0)))) < ranks[:, None]
    relevance = np.zeros(there.shape, dtype=bool)
    relevance[there] = lists.flatten().to_numpy(zero_copy_only=False)
    return relevance
