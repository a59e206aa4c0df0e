"""``vitrine tag``: photos without a label get one from their stored vectors, where a classifier is sure."""

import json
from typing import Annotated, Any

import typer

from evaluation.classification import tag_answers
from evaluation.gates import ask_gate
from evaluation.gates import gate as decision
from evaluation.promotion import promote as promotion
from spark_jobs import session, tag_catalog
from training import shared_classes, tagger
from vitrine import facts, lake, runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoded_set
from vitrine.cli.options import Dataset, Json
from vitrine.cli.training_sets import training_sets
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import classifiers
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings
from vitrine.tables import CLASSIFIERS


def tag(
    dataset: Dataset,
    label: Annotated[
        str, typer.Option("--label", help="What to tag: category, product_id, or an attribute.", metavar="LABEL")
    ] = "category",
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Whose vectors to learn from. Left out: what serves.")
    ] = None,
    learn: Annotated[
        bool, typer.Option("--learn", help="Learn a classifier anew, also where one tags already.")
    ] = False,
    ahead: Annotated[
        bool,
        typer.Option(
            "--ahead",
            help="Only learn, for an encoder version that does not serve yet; nothing where no label is tagged.",
        ),
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Tag photos that have the label too.")] = False,
    as_json: Json = False,
) -> None:
    """Tag photos that lack a label from their stored vectors, where a classifier is sure; exit 3 if its gate refuses.

    A classifier is learned where none is by that encoder's version yet. Where another version serves, it waits until
    its own does.
    """
    settings = load_settings()
    (dataset,) = chosen_datasets(settings, [dataset])
    serves = facts.serving_set(settings, dataset)
    encoded = encoded_set(settings, encoder, dataset) if encoder else serves
    if encoded is None:
        raise UserError(f"nothing serves data set {dataset!r}: name an encoder with --encoder, or vitrine promote one")
    facts.check_label(settings, dataset, label)
    row, now = facts.classifier_of(settings, encoded, label), facts.tagging(settings, dataset, label)
    waits = serves is not None and serves.encoder_version != encoded.encoder_version
    figures: dict[str, Any] = {"dataset": dataset, "encoder": encoded.encoder, "label": label}
    if ahead and (now is None or not waits or promotion.served_before(settings, encoded)):
        output.show(f"nothing to learn ahead for {dataset}", figures | {"learned": False}, as_json)
        return
    if fresh := learn or row is None:
        row = _learned(settings, encoded, label, now)
    assert row is not None
    if waits:
        figures |= {"classifier_version": row["classifier_version"], "learned": fresh, "waits": True}
        output.show(f"{label} of {dataset} will be tagged once {encoded.encoder} serves", figures, as_json)
        return
    classifier = classifiers.load(settings, row["classifier_version"])
    if not fresh:
        ask_gate.ask_drift(settings, classifier)
    with runs.record(settings, f"tag {label}", dataset, encoded.encoder) as run:
        run.encoder_version = encoded.encoder_version
        spark = session.build_session(settings, f"tag {dataset} {label}")
        run.figures |= {"label": label, "classifier_version": classifier.version}
        run.figures |= tag_catalog.tag_catalog(spark, settings, classifier, everything=everything)
    output.show(f"tagged {dataset}", figures | run.figures, as_json)


def _learned(settings: Settings, encoded: EncodedSet, label: str, before: dict[str, Any] | None) -> dict[str, Any]:
    """The row of the classifier that was learned, which its gate let through."""
    if len(encoded.parts) > 1:
        raise UserError(f"{encoded.encoder!r} joins encoders: tags follow one encoder's stored vectors")
    (rows,) = training_sets(settings, [(encoded.dataset, encoded.encoder)], label, None).values()
    if why := shared_classes.unshared(settings, rows):
        raise UserError(why)
    with runs.record(settings, f"learn {label}", encoded.dataset, encoded.encoder) as run:
        run.encoder_version = rows.encoder_version
        classifier = tagger.learn(settings, rows)
        about = classifier.about
        run.figures |= {"label": label, "classifier_version": classifier.version, "kind": about.kind}
        run.figures |= {"rule": about.rule, "threshold": about.threshold, "validation": about.validation}
        answers = tag_answers.ask_reported(settings, classifier)
        if answers:
            run.figures |= tag_answers.score_tags(settings, classifier, answers, run.run_id)
    now = classifiers.load(settings, before["classifier_version"]) if before else None
    gate = ask_gate.ask_tags(settings, classifier, answers, now)
    row = {
        "dataset": about.dataset,
        "label": label,
        "promoted_at": lake.now(),
        "classifier_version": classifier.version,
        "encoder": about.encoder,
        "encoder_version": about.encoder_version,
        "kind": about.kind,
        "training_set": about.training_set,
        "threshold": about.threshold,
        "previous_version": before["classifier_version"] if before else None,
        "gate": json.dumps(decision.result_json(gate), default=str),
    }
    lake.append(settings, CLASSIFIERS, [row])
    return row
