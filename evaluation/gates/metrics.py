"""The gate on figures: good by itself, no worse than what serves, and, tuned, no worse than its own backbone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from evaluation.classification.predictions import paired_predictions
from evaluation.gates import gate as decision
from evaluation.gates.data_docs import GateResult, rule, validate
from evaluation.gates.gate import Check
from evaluation.gates.regression import Against, PairedQueries, held_against
from evaluation.metrics_table import ALL_QUERIES
from evaluation.retrieval.retrieval_metrics import metric_names, per_query
from evaluation.retrieval.slices import SHUFFLED
from evaluation.statistics.bootstrap import Floats
from evaluation.task import ALL, Task
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import tuned
from vitrine.errors import UserError, unknown
from vitrine.settings import Settings
from vitrine.tables import CATALOG, ENCODERS, METRICS, QUERY_RESULTS

_QUESTIONS = {
    "floor": "above the floor",
    "chance": "above chance",
    "serving": "no worse than what serves",
    "serving_categories": "no category far worse than by what serves",
    "serving_classifiers": "no classifier worse than by what serves",
    "base": "no worse than its own backbone",
    "base_categories": "no category far worse than by its own backbone",
    "base_classifiers": "no classifier worse than by its own backbone",
}

Row = dict[str, Any]


def gate_metrics(
    settings: Settings, dataset: str, encoder: str, encoder_version: str, run_id: str | None = None
) -> GateResult:
    """Is the encoder version good enough for ``dataset``, by its newest figures on the catalog as it is now?

    Raises:
        UserError: it, what serves, or its own backbone has no such figures yet (the message names the command).
    """
    import pandas as pd

    newest = _newest_metrics(settings, dataset, encoder, encoder_version)
    checks = decision.decide(_figures(newest[ALL_QUERIES]), newest[SHUFFLED]["value"], settings.gates)
    serving = facts.serving(settings, dataset)
    served = serving["encoder_version"] if serving else None
    task = _task(newest[ALL_QUERIES])
    checks += _held_against_serving(settings, task, encoder, serving)
    if served != encoder_version:
        checks += _held_against_base(settings, task, encoder, served)
    frame = pd.DataFrame({check.name: [check.passed] for check in checks})
    rules = [
        rule(
            "ExpectColumnValuesToBeInSet",
            f"{_QUESTIONS[check.name]}: {check.detail}",
            dict(check.figures),
            column=check.name,
            value_set=[True],
        )
        for check in checks
    ]
    return validate(settings, "metrics", f"{dataset} {encoder}", frame, rules, run_id, served)


# ---- the figures ----


def _newest_metrics(settings: Settings, dataset: str, encoder: str, encoder_version: str) -> dict[str, Row]:
    """The newest rows of the gate's metric, by slice, of one protocol."""
    relevant, metric = settings.nightly.relevant, settings.gates.metric
    version = facts.catalog_version(settings, dataset)
    found = _metrics(settings, dataset, encoder_version, version, relevant)
    command = _command(encoder, dataset, relevant)
    if not found:
        raise UserError(f"no figures of encoder {encoder!r} on the catalog of {dataset!r} as it is now: run {command}")
    known = {row["metric"] for row in found} & set(metric_names(settings.evaluate.depth))
    if metric not in known:
        raise unknown("metric for [gates] metric", metric, known)
    newest = next(row for row in found if row["metric"] == metric and row["slice"] == ALL_QUERIES)
    slices = {row["slice"]: row for row in reversed(found) if row["metric"] == metric and _key(row) == _key(newest)}
    if SHUFFLED not in slices:
        raise UserError(f"no figures of encoder {encoder!r} on shuffled labels of {dataset!r}: run {command}")
    return slices


def _metrics(settings: Settings, dataset: str, encoder_version: str, catalog_version: str, relevant: str) -> list[Row]:
    """Retrieval figures, newest first."""
    where = {
        "dataset": dataset,
        "encoder_version": encoder_version,
        "catalog_version": catalog_version,
        "relevant": relevant,
        "classifier": "",
    }
    condition = " AND ".join(f"{column} = {lake.quote(value)}" for column, value in where.items())
    return lake.rows(settings, f"SELECT * FROM {METRICS.name} WHERE {condition} ORDER BY computed_at DESC")


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[column] for column in ("query_split", "index_split", "relevant", "seed"))


def _figures(row: Row) -> decision.Figures:
    return decision.Figures(row["encoder"], row["encoder_version"], row["metric"], row["value"])


def _command(encoder: str, dataset: str, relevant: str, more: str = "") -> str:
    return f"`vitrine evaluate --encoder {encoder} --dataset {dataset}{more} --relevant {relevant}`"


# ---- what it is held against ----


def _task(row: Row) -> Task:
    return Task(
        EncodedSet.of(row), *(row[name] for name in ("catalog_version", "query_split", "index_split", "relevant"))
    )


def _held_against_serving(settings: Settings, task: Task, encoder: str, serving: Row | None) -> list[Check]:
    if serving is None:
        return [Check("serving", True, "skipped: nothing serves yet", {"skipped": "nothing serves yet"})]
    if serving["encoder_version"] == task.encoded.encoder_version:
        return [Check("serving", True, "skipped: this version is what serves", {"skipped": "it is what serves"})]
    against = Against("serving", serving["encoder"], serving["encoder_version"])
    advice = ""
    if serving["encoder"] == encoder:
        advice = (
            f"; {encoder!r} names another version by now: give what serves a name of its own in vitrine.toml first, "
            "or promote with --force and a --reason"
        )
    return _compared(settings, task, encoder, against, f"what serves {task.encoded.dataset!r}", advice)


def _held_against_base(settings: Settings, task: Task, encoder: str, served: str | None) -> list[Check]:
    """A tuned encoder against the backbone that it was tuned from: tuning may have made it worse."""
    about = f"SELECT encoder, base_version FROM {ENCODERS.name} WHERE encoder_version ="
    found = lake.rows(settings, f"{about} {lake.quote(task.encoded.encoder_version)}")
    version = found[0]["base_version"] if found else None
    if version is None:
        return []
    if version == served:
        return [Check("base", True, "skipped: its own backbone is what serves", {"skipped": "it is what serves"})]
    base = lake.rows(settings, f"{about} {lake.quote(version)}")
    if not base:
        made = tuned.find(settings, encoder)
        name = made.base if made else version
        raise UserError(
            f"the backbone of {encoder!r}, {name} ({version}), has no vectors: run `vitrine embed --encoder {name} "
            f"--dataset {task.encoded.dataset}`, then {_command(name, task.encoded.dataset, task.relevant)}"
        )
    against = Against("base", base[0]["encoder"], version)
    return _compared(settings, task, encoder, against, f"the backbone of {encoder!r}")


def _compared(
    settings: Settings, task: Task, encoder: str, against: Against, who: str, advice: str = ""
) -> list[Check]:
    other = replace(task, encoded=EncodedSet(task.encoded.dataset, against.encoder, against.encoder_version))
    who = f"{who}, {against.encoder} ({against.encoder_version}),"
    splits = "" if task.query_split == ALL else f" --queries {task.query_split} --index {task.index_split}"
    theirs = _read(settings, other)
    if theirs is None:
        command = _command(against.encoder, task.encoded.dataset, task.relevant, splits)
        raise UserError(f"{who} has no figures on the same queries and catalog: run {command}{advice}")
    ours = _read(settings, task)
    again = f"{splits} --again"
    if ours is None:
        command = _command(encoder, task.encoded.dataset, task.relevant, again)
        raise UserError(f"the queries' results of {encoder!r} are gone: run {command}")
    paired = _paired(settings, task, ours, theirs)
    most, least = max(len(ours[0]), len(theirs[0])), (1 - 2 * settings.gates.max_quarantine_share)
    if not len(paired.candidate) or len(paired.candidate) < least * most:
        commands = " and ".join(
            _command(name, task.encoded.dataset, task.relevant, again) for name in (encoder, against.encoder)
        )
        raise UserError(
            f"{who} has {len(paired.candidate)} of {most} queries in common with {encoder!r}: run {commands}"
        )
    classifiers = paired_predictions(settings, task, other)
    return held_against(against, paired, classifiers, settings.gates)


def _paired(
    settings: Settings, task: Task, ours: tuple[pa.Array, Floats], theirs: tuple[pa.Array, Floats]
) -> PairedQueries:
    at = pc.index_in(ours[0], value_set=theirs[0])
    both = at.is_valid().to_numpy(zero_copy_only=False)
    rows = lake.query(
        settings,
        f"SELECT image_id, product_id, category FROM {CATALOG.name} WHERE dataset = {lake.quote(task.encoded.dataset)} "
        f"AND image_id IN (SELECT query_id FROM {QUERY_RESULTS.name} WHERE {_where(task)})",
    )
    known = pc.index_in(ours[0].filter(pa.array(both)), value_set=rows.column("image_id").combine_chunks())
    about = rows.take(known)
    return PairedQueries(
        settings.gates.metric,
        ours[1][both],
        theirs[1][at.drop_null().to_numpy()],
        about.column("product_id").combine_chunks().dictionary_encode().indices.to_numpy(),
        np.array(about.column("category").to_pylist(), dtype=object),
    )


def _where(task: Task) -> str:
    return lake.matches(**task.key)


def _read(settings: Settings, task: Task) -> tuple[pa.Array, Floats] | None:
    """The task's queries by id, and each one's figure of the gate's metric, float64 (Q,); None where there are none."""
    sql = f"SELECT query_id, relevance, n_relevant FROM {QUERY_RESULTS.name} WHERE {_where(task)}"
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
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    there = np.arange(max(depth, int(lengths.max(initial=0)))) < lengths[:, None]
    relevance = np.zeros(there.shape, dtype=bool)
    relevance[there] = lists.flatten().to_numpy(zero_copy_only=False)
    return relevance
