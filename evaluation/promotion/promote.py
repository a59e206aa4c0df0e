"""What serves a data set: one row of ``promotions``, written only after the gates passed.

Nothing here touches Milvus or Feast: they follow this table, and the caller brings them to it afterwards.
"""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from evaluation.gates.gate import COMPARING, gates_to_serve
from evaluation.gates.tagging import lacking_classifiers
from vitrine import facts, lake, locks, runs
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.backbones import forbids_commerce
from vitrine.errors import GateRefused, UserError
from vitrine.lake import matches
from vitrine.runs import GateFigures, RecordedRun
from vitrine.settings import Settings
from vitrine.tables import PROMOTIONS

ROLLBACK = "rollback"  # the reason of a row that ``rollback`` wrote; such a row is never forced

Promotion = dict[str, Any]
"""A row of ``promotions``."""


@dataclass(frozen=True)
class Change:
    """What is to serve from now on, and why it may."""

    encoded: EncodedSet
    catalog_version: str
    gates: dict[str, dict[str, Any]] = field(default_factory=dict)
    """How each gate stands, as ``_gates`` gives it."""
    forced: bool = False
    reason: str | None = None


def promote(
    settings: Settings,
    encoded: EncodedSet,
    force: bool = False,
    reason: str | None = None,
    if_new: bool = False,
) -> dict[str, Any]:
    """Let ``encoded`` serve its data set, where its newest gates passed on the catalog as it is now.

    What serves already is left alone. ``if_new`` also leaves a version alone that served this data set before: so
    that a night does not undo a rollback. ``force`` goes past the gates, and is recorded with its ``reason``.

    Returns:
        ``{"promoted": bool, "dataset", "encoder", "encoder_version", "previous_version", "forced"}``.

    Raises:
        UserError: the data set is unknown or has no vector of the version; its weights' licence forbids commercial
            use and ``[licences] allow_non_commercial`` is not set; ``force`` and ``reason`` come one without the other.
        GateRefused: a gate is missing, refused, failed or out of date, or a label is tagged and no classifier by this
            version passed its gate; the message names each and the command.
    """
    with locks.held(settings, f"promote__{encoded.dataset}"):
        return _promote(settings, encoded, force, reason, if_new)


def _promote(settings: Settings, encoded: EncodedSet, force: bool, reason: str | None, if_new: bool) -> dict[str, Any]:
    dataset, version = encoded.dataset, encoded.encoder_version
    facts.check_dataset(settings, dataset)
    reason = (reason or "").strip() or None
    if force != (reason is not None):
        raise UserError("--force needs a --reason, and a --reason goes with --force only: the reason is recorded")
    history = _history(settings, dataset)
    serving = history[-1]["encoder_version"] if history else None
    served = {row["encoder_version"] for row in history} if if_new else {serving}
    if version in served:
        return _answer(False, encoded, serving)
    if not facts.embedded(settings, encoded):
        raise UserError(
            f"data set {dataset!r} has no vector of encoder {encoded.encoder!r} ({version}): "
            f"run `vitrine embed --encoder {encoded.encoder} --dataset {dataset}` first"
        )
    _refuse_retired(settings, encoded)
    _check_licence(settings, encoded)
    catalog_version = facts.catalog_version(settings, dataset, settings.nightly.relevant)
    gates = _gates(settings, encoded, catalog_version, serving)
    lacking = lacking_classifiers(settings, encoded)
    gates |= {f"tags {label}": {"problem": problem} for label, problem in lacking.items()}
    problems = [gate["problem"] for gate in gates.values() if gate["problem"]]
    if problems and not force:
        may_not = f"{encoded.encoder} ({version}) may not serve {dataset}"
        raise GateRefused(f"{may_not}: {'; '.join(problems)}. What serves goes on serving")
    _append(settings, history, Change(encoded, catalog_version, gates, force, reason))
    return _answer(True, encoded, serving, force)


def _refuse_retired(settings: Settings, encoded: EncodedSet) -> None:
    if facts.is_retired(settings, encoded.encoder_version):
        raise UserError(
            f"encoder {encoded.encoder!r} ({encoded.encoder_version}) is retired: `vitrine retire "
            f"{encoded.encoder_version} --undo` brings it back, or promote another"
        )


def _check_licence(settings: Settings, encoded: EncodedSet) -> None:
    licence = facts.encoder_row(settings, encoded.encoder_version)["licence"]
    if forbids_commerce(licence) and not settings.licences.allow_non_commercial:
        raise UserError(
            f"the weights of {encoded.encoder!r} ({encoded.encoder_version}) are under {licence}, which forbids "
            "commercial use: where that is no hindrance, set allow_non_commercial = true in [licences] of "
            "vitrine.toml; else promote another"
        )


def rollback(settings: Settings, dataset: str) -> dict[str, Any]:
    """Let the version serve again that served before the current one; twice goes back twice.

    Returns:
        As ``promote``.

    Raises:
        UserError: the data set is unknown, no version served before the current one, or it has no vectors any more.
    """
    with locks.held(settings, f"promote__{dataset}"):
        return _rollback(settings, dataset)


def _rollback(settings: Settings, dataset: str) -> dict[str, Any]:
    facts.check_dataset(settings, dataset)
    history = _history(settings, dataset)
    line = _not_undone(history)
    if len(line) < 2:
        what = f"only {line[0]['encoder']} ({line[0]['encoder_version']}) ever served" if line else "nothing serves"
        raise UserError(f"data set {dataset!r} cannot be rolled back: {what}, no version before the current one")
    before = EncodedSet.of(line[-2])
    if not facts.embedded(settings, before):
        raise UserError(
            f"data set {dataset!r} cannot be rolled back to {before.encoder} ({before.encoder_version}): it has no "
            f"vectors any more; run `vitrine embed --encoder {before.encoder} --dataset {dataset}`, or promote another "
            "version"
        )
    _refuse_retired(settings, before)
    _append(
        settings,
        history,
        Change(before, facts.catalog_version(settings, dataset, settings.nightly.relevant), reason=ROLLBACK),
    )
    return _answer(True, before, history[-1]["encoder_version"])


def unfinished_rollback(settings: Settings, dataset: str) -> dict[str, Any] | None:
    """The rollback that a killed run wrote and did not bring to those who follow: to be finished, not done once more.

    Returns:
        As ``rollback`` returned it, or None where the newest promotion is none, or its run ended well.
    """
    history = _history(settings, dataset)
    if not history or history[-1]["reason"] != ROLLBACK:
        return None
    last = history[-1]
    done = runs.read(settings, matches(verb="rollback", state="done", dataset=dataset), newest=1)
    if done and done[0].ended_at > last["promoted_at"]:
        return None
    return _answer(True, EncodedSet.of(last), last["previous_version"])


def served_before(settings: Settings, encoded: EncodedSet) -> bool:
    """Does the version serve its data set, or did it ever?"""
    history = _history(settings, encoded.dataset)
    return any(row["encoder_version"] == encoded.encoder_version for row in history)


def unpassed_gates(settings: Settings, encoded: EncodedSet, with_index: bool = True) -> list[str]:
    """Why the version's gates do not all stand on the catalog as it is now; empty where they do."""
    serves = facts.serving_set(settings, encoded.dataset)
    catalog_version = facts.catalog_version(settings, encoded.dataset, settings.nightly.relevant)
    gates = _gates(settings, encoded, catalog_version, serves.encoder_version if serves else None)
    return [str(gate["problem"]) for name, gate in gates.items() if gate["problem"] and (with_index or name != "index")]


def standing(settings: Settings, dataset: str) -> list[Promotion]:
    """The promotions that no rollback has undone, oldest first: what serves is the last, before it what a rollback
    goes back to."""
    return _not_undone(_history(settings, dataset))


def _not_undone(history: list[Promotion]) -> list[Promotion]:
    line: list[Promotion] = []
    for row in history:
        if row["reason"] == ROLLBACK and not row["forced"]:
            line.pop()
        else:
            line.append(row)
    return line


def _history(settings: Settings, dataset: str) -> list[Promotion]:
    where = matches(dataset=dataset)
    return lake.rows(settings, f"SELECT * FROM {PROMOTIONS.name} WHERE {where} ORDER BY promoted_at")


def _append(settings: Settings, history: list[Promotion], change: Change) -> None:
    """One row, newer than all others, also where the clock was set back."""
    moment = lake.now()
    if history:
        moment = max(moment, history[-1]["promoted_at"] + timedelta(microseconds=1))
    row = {
        "dataset": change.encoded.dataset,
        "promoted_at": moment,
        "encoder": change.encoded.encoder,
        "encoder_version": change.encoded.encoder_version,
        "previous_version": history[-1]["encoder_version"] if history else None,
        "catalog_version": change.catalog_version,
        "gates": json.dumps(change.gates, default=str),
        "forced": change.forced,
        "reason": change.reason,
    }
    lake.append(settings, PROMOTIONS, [row])


def _answer(promoted: bool, encoded: EncodedSet, previous: str | None, forced: bool = False) -> dict[str, Any]:
    return {
        "promoted": promoted,
        "dataset": encoded.dataset,
        "encoder": encoded.encoder,
        "encoder_version": encoded.encoder_version,
        "previous_version": previous,
        "forced": forced,
    }


# ---- the gates' runs ----


def _gates(
    settings: Settings, encoded: EncodedSet, catalog_version: str, serving: str | None
) -> dict[str, dict[str, Any]]:
    """What the newest run of each gate said, and ``problem``: why it does not let the version through, or None."""
    own = f"(encoder_version IS NULL OR {matches(encoder_version=encoded.encoder_version)})"
    newest: dict[tuple[str, bool], RecordedRun] = {}
    for run in runs.read(settings, f"{matches(verb='gate', dataset=encoded.dataset)} AND {own}"):  # oldest first
        newest[run.gate, run.encoder_version is not None] = run
    gates: dict[str, dict[str, Any]] = {}
    for gate in gates_to_serve(settings):
        of_encoder = gate != "catalog"
        subject = f" --encoder {encoded.encoder}" if of_encoder else ""
        command = f"run `vitrine gate {gate} --dataset {encoded.dataset}{subject}`"
        asked = newest.get((gate, of_encoder))
        if asked is None:
            gates[gate] = {"problem": f"gate {gate} has not been asked: {command}"}
        else:
            kept = {name: getattr(asked, name) for name in ("run_id", "state", "catalog_version", "started_at")}
            problem = _problem(asked, catalog_version, serving, command)
            gates[gate] = kept | {"problem": problem, "checks": asked.read(GateFigures).checks}
    return gates


def _problem(run: RecordedRun, catalog_version: str, serving: str | None, command: str) -> str | None:
    """Why a gate's run does not let its version through."""
    gate, figures = run.gate, run.read(GateFigures)
    if run.state == "refused":
        failed = ", ".join(str(check.get("expectation")) for check in figures.failed)
        return f"gate {gate} refused ({failed}): mend that, then {command}"
    if run.state != "done":
        return f"gate {gate} did not end ({run.error or run.state}): {command}"
    if run.catalog_version != catalog_version:
        return f"gate {gate} is out of date, the catalog has changed since: {command}"
    if gate in COMPARING and serving not in (run.encoder_version, figures.serving_version):
        return f"gate {gate} is out of date, it compared with another version than the one that serves: {command}"
    return None
