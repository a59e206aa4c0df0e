"""A gate is asked: its question is put, its row of ``runs`` written, and what it refuses is raised.

The gates ``catalog``, ``embeddings``, ``sync`` and ``metrics`` stand before what serves, and ``index`` where its index
is not an exact one; ``training_set`` stands before a tuning, and ``tags`` before a classifier that tags.
``docs/gates.md`` says what each asks for.
"""

from collections.abc import Callable
from functools import partial

from evaluation.classification.tag_answers import Answers
from evaluation.gates.catalog import gate_catalog
from evaluation.gates.data_docs import figures_line
from evaluation.gates.embeddings import gate_embeddings
from evaluation.gates.gate import GATES, result_json
from evaluation.gates.gate_rows import StartSpark
from evaluation.gates.index import gate_index
from evaluation.gates.metrics import gate_metrics
from evaluation.gates.sync import gate_sync
from evaluation.gates.tag_drift import drift_check
from evaluation.gates.tags import gate_drift, gate_tags
from evaluation.gates.training_set import WrittenSet, gate_training_set
from evaluation.milvus.vector_index import VectorIndex
from vitrine import facts
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.classifiers import Classifier
from vitrine.errors import GateRefused, UserError, unknown
from vitrine.names import check_name
from vitrine.runs import GateFigures, Run, record
from vitrine.settings import Settings

Judge = Callable[[str], GateFigures]
"""Puts a gate's question, as part of the run with this id."""


def ask_gate(settings: Settings, gate: str, dataset: str, encoded: EncodedSet | None, spark: StartSpark) -> GateFigures:
    """Ask one of ``GATES``, write its Data Docs and its row of ``runs``.

    ``encoded`` goes with all gates but the catalog's; ``spark`` starts Spark, for the gates that need it.

    Raises:
        UserError: the gate or data set is unknown, or there is nothing to judge yet.
        GateRefused: with the expectations that failed and their figures, after all is written.
    """
    if gate not in GATES:
        raise unknown("gate", gate, GATES)
    check_name(dataset, "data set name")
    facts.check_dataset(settings, dataset)
    if gate == "catalog":
        return _ask(settings, gate, dataset, None, partial(gate_catalog, settings, dataset, spark))
    if encoded is None:
        raise UserError(f"gate {gate!r} judges one encoder: name it with --encoder")
    if gate == "embeddings":
        return _ask(settings, gate, dataset, encoded, partial(gate_embeddings, settings, encoded, spark))
    if gate == "metrics":
        return _ask(settings, gate, dataset, encoded, partial(gate_metrics, settings, encoded))
    with VectorIndex(settings) as milvus:
        if gate == "index":
            return ask_index(settings, encoded, milvus)
        return _ask(settings, gate, dataset, encoded, partial(gate_sync, settings, encoded, milvus))


def ask_index(settings: Settings, encoded: EncodedSet, milvus: VectorIndex) -> GateFigures:
    """As ``ask_gate``, of the gate ``index``, where Milvus is open already."""
    return _ask(settings, "index", encoded.dataset, encoded, partial(gate_index, settings, encoded, milvus))


def ask_training_set(settings: Settings, written: WrittenSet, encoder_version: str | None) -> GateFigures:
    """As ``ask_gate``, of a training set that is written already.

    Raises:
        GateRefused: as ``ask_gate``.
    """
    with record(settings, "gate", written.dataset, written.encoder) as run:
        run.encoder_version = encoder_version
        run.catalog_version = facts.catalog_version(settings, written.dataset)
        subject = f"{written.train} photos of {written.dataset}" + (f" by {written.encoder}" if written.encoder else "")
        judge = partial(gate_training_set, settings, written)
        return _judged(run, "training_set", judge, subject, "Nothing is tuned")


def ask_tags(
    settings: Settings, classifier: Classifier, answers: Answers | None, now: Classifier | None
) -> GateFigures:
    """As ``ask_gate``, of a classifier, by its ``answers`` on the reported split, against the one that tags ``now``.

    Raises:
        GateRefused: as ``ask_gate``.
    """
    about = classifier.about
    with record(settings, "gate", about.dataset, about.encoder) as run:
        run.encoder_version = about.encoder_version
        run.catalog_version = facts.catalog_version(settings, about.dataset)
        subject = f"classifier {classifier.version} of {about.label} for {about.dataset}"
        judge = partial(gate_tags, settings, classifier, answers, now)
        return _judged(run, "tags", judge, subject, "What tags goes on tagging")


def ask_drift(settings: Settings, classifier: Classifier) -> GateFigures | None:
    """As ``ask_tags``, on drift alone, of a classifier that tags: before it tags what is new. None where nothing is, or
    too little to tell.

    Raises:
        GateRefused: as ``ask_gate``.
    """
    drift, about = drift_check(settings, classifier), classifier.about
    if drift is None or "skipped" in drift.figures:
        return None
    with record(settings, "gate", about.dataset, about.encoder) as run:
        run.encoder_version = about.encoder_version
        run.catalog_version = facts.catalog_version(settings, about.dataset)
        subject = f"new photos of {about.dataset} by classifier {classifier.version} of {about.label}"
        judge = partial(gate_drift, settings, classifier, drift)
        return _judged(run, "tags", judge, subject, "Nothing new is tagged")


def _ask(settings: Settings, gate: str, dataset: str, encoded: EncodedSet | None, judge: Judge) -> GateFigures:
    with record(settings, "gate", dataset, encoded.encoder if encoded else None) as run:
        run.encoder_version = encoded.encoder_version if encoded else None
        run.catalog_version = facts.catalog_version(settings, dataset, settings.nightly.relevant)
        return _judged(run, gate, judge, str(encoded or dataset), "What serves goes on serving")


def _judged(run: Run, gate: str, judge: Judge, subject: str, what_now: str) -> GateFigures:
    """Put the question, note the figures in ``run``, and raise what was refused."""
    run.figures = {"gate": gate}
    result = judge(run.run_id)
    run.figures = result_json(result)
    if not result.success:
        faults = "; ".join(f"{check['expectation']} [{figures_line(check['figures'])}]" for check in result.failed)
        raise GateRefused(f"gate {gate} refused {subject}: {faults}. {what_now}; see {result.data_docs}")
    return result
