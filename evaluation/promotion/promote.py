"""What serves a data set: one row of ``promotions``, written only after the gates passed.

Nothing here touches Milvus or Feast: they follow this table, and the caller brings them to it afterwards.
"""

import json
from datetime import timedelta
from typing import Any

from evaluation.gates.gate import COMPARING, gates_to_serve
from vitrine import facts, lake, locks
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.backbones import forbids_commerce
from vitrine.errors import GateRefused, UserError
from vitrine.lake import quote
from vitrine.settings import Settings
from vitrine.tables import PROMOTIONS, RUNS

ROLLBACK = "rollback"  # the reason of a row that ``rollback`` wrote; such a row is never forced

Row = dict[str, Any]


def promote(
    settings: Settings,
    dataset: str,
    encoder: str,
    encoder_version: str,
    force: bool = False,
    reason: str | None = None,
    if_new: bool = False,
) -> dict[str, Any]:
    """Let ``encoder_version`` serve ``dataset``, where its newest gates passed on the catalog as it is now.

    What serves already is left alone. ``if_new`` also leaves a version alone that served this data set before: so
    that a night does not undo a rollback. ``force`` goes past the gates, and is recorded with its ``reason``.

    Returns:
        ``{"promoted": bool, "dataset", "encoder", "encoder_version", "previous_version", "forced"}``.

    Raises:
        UserError: the data set is unknown or has no vector of the version; its weights' licence forbids commercial
            use and ``[licences] allow_non_commercial`` is not set; ``force`` and ``reason`` come one without the other.
        GateRefused: a gate is missing, refused, failed or out of date; the message names each and the command.
    """
    with locks.held(settings, f"promote__{dataset}"):
        return _promote(settings, dataset, encoder, encoder_version, force, reason, if_new)


def _promote(
    settings: Settings,
    dataset: str,
    encoder: str,
    encoder_version: str,
    force: bool,
    reason: str | None,
    if_new: bool,
) -> dict[str, Any]:
    facts.check_dataset(settings, dataset)
    reason = (reason or "").strip() or None
    if force != (reason is not None):
        raise UserError("--force needs a --reason, and a --reason goes with --force only: the reason is recorded")
    history = _history(settings, dataset)
    serving = history[-1]["encoder_version"] if history else None
    served = {row["encoder_version"] for row in history} if if_new else {serving}
    if encoder_version in served:
        return _answer(False, dataset, encoder, encoder_version, serving, False)
    if not facts.embedded(settings, EncodedSet(dataset, encoder, encoder_version)):
        raise UserError(
            f"data set {dataset!r} has no vector of encoder {encoder!r} ({encoder_version}): "
            f"run `vitrine embed --encoder {encoder} --dataset {dataset}` first"
        )
    _refuse_retired(settings, encoder, encoder_version)
    _check_licence(settings, encoder, encoder_version)
    catalog_version = facts.catalog_version(settings, dataset)
    gates = _gates(settings, dataset, encoder, encoder_version, catalog_version, serving)
    problems = [gate["problem"] for gate in gates.values() if gate["problem"]]
    if problems and not force:
        raise GateRefused(
            f"{encoder} ({encoder_version}) may not serve {dataset}: {'; '.join(problems)}. What serves goes on serving"
        )
    _append(settings, history, dataset, encoder, encoder_version, catalog_version, gates, force, reason)
    return _answer(True, dataset, encoder, encoder_version, serving, force)


def _refuse_retired(settings: Settings, encoder: str, encoder_version: str) -> None:
    if facts.is_retired(settings, encoder_version):
        raise UserError(
            f"encoder {encoder!r} ({encoder_version}) is retired: `vitrine retire {encoder_version} --undo` brings it "
            "back, or promote another"
        )


def _check_licence(settings: Settings, encoder: str, encoder_version: str) -> None:
    licence = facts.encoder_row(settings, encoder_version)["licence"]
    if forbids_commerce(licence) and not settings.licences.allow_non_commercial:
        raise UserError(
            f"the weights of {encoder!r} ({encoder_version}) are under {licence}, which forbids commercial use: where "
            "that is no hindrance, set allow_non_commercial = true in [licences] of vitrine.toml; else promote another"
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
    line = _line(history)
    if len(line) < 2:
        what = f"only {line[0]['encoder']} ({line[0]['encoder_version']}) ever served" if line else "nothing serves"
        raise UserError(f"data set {dataset!r} cannot be rolled back: {what}, no version before the current one")
    before = line[-2]
    encoder, version = before["encoder"], before["encoder_version"]
    if not facts.embedded(settings, EncodedSet(dataset, encoder, version)):
        raise UserError(
            f"data set {dataset!r} cannot be rolled back to {encoder} ({version}): it has no vectors any more; "
            f"run `vitrine embed --encoder {encoder} --dataset {dataset}`, or promote another version"
        )
    _refuse_retired(settings, encoder, version)
    now = facts.catalog_version(settings, dataset)
    _append(settings, history, dataset, encoder, version, now, {}, False, ROLLBACK)
    return _answer(True, dataset, encoder, version, history[-1]["encoder_version"], False)


def unfinished_rollback(settings: Settings, dataset: str) -> dict[str, Any] | None:
    """The rollback that a killed run wrote and did not bring to those who follow: to be finished, not done once more.

    Returns:
        As ``rollback`` said it, or None where the newest promotion is none, or its run ended well.
    """
    history = _history(settings, dataset)
    if not history or history[-1]["reason"] != ROLLBACK:
        return None
    last = history[-1]
    done = lake.rows(
        settings,
        f"SELECT started_at, seconds FROM {RUNS.name} WHERE verb = 'rollback' AND state = 'done' "
        f"AND dataset = {quote(dataset)} ORDER BY started_at DESC LIMIT 1",
    )
    if done and done[0]["started_at"] + timedelta(seconds=done[0]["seconds"]) > last["promoted_at"]:
        return None
    return _answer(True, dataset, last["encoder"], last["encoder_version"], last["previous_version"], False)


def served_before(settings: Settings, dataset: str, encoder_version: str) -> bool:
    """Does ``encoder_version`` serve ``dataset``, or did it ever?"""
    return any(row["encoder_version"] == encoder_version for row in _history(settings, dataset))


def unpassed_gates(
    settings: Settings, dataset: str, encoder: str, encoder_version: str, with_index: bool = True
) -> list[str]:
    """Why the version's gates do not all stand on the catalog as it is now; empty where they do."""
    serves = facts.serving(settings, dataset)
    now = facts.catalog_version(settings, dataset)
    said = _gates(settings, dataset, encoder, encoder_version, now, serves["encoder_version"] if serves else None)
    return [str(row["problem"]) for gate, row in said.items() if row["problem"] and (with_index or gate != "index")]


def standing(settings: Settings, dataset: str) -> list[Row]:
    """The promotions that no rollback has undone, oldest first: what serves is the last, before it what a rollback
    goes back to."""
    return _line(_history(settings, dataset))


def _line(history: list[Row]) -> list[Row]:
    line: list[Row] = []
    for row in history:
        if row["reason"] == ROLLBACK and not row["forced"]:
            line.pop()
        else:
            line.append(row)
    return line


def _history(settings: Settings, dataset: str) -> list[Row]:
    return lake.rows(settings, f"SELECT * FROM {PROMOTIONS.name} WHERE dataset = {quote(dataset)} ORDER BY promoted_at")


def _append(
    settings: Settings,
    history: list[Row],
    dataset: str,
    encoder: str,
    encoder_version: str,
    catalog_version: str,
    gates: dict[str, Row],
    forced: bool,
    reason: str | None,
) -> None:
    """One row, newer than all others, also where the clock was set back."""
    moment = lake.now()
    if history:
        moment = max(moment, history[-1]["promoted_at"] + timedelta(microseconds=1))
    row = {
        "dataset": dataset,
        "promoted_at": moment,
        "encoder": encoder,
        "encoder_version": encoder_version,
        "previous_version": history[-1]["encoder_version"] if history else None,
        "catalog_version": catalog_version,
        "gates": json.dumps(gates, default=str),
        "forced": forced,
        "reason": reason,
    }
    lake.append(settings, PROMOTIONS, [row])


def _answer(
    promoted: bool, dataset: str, encoder: str, encoder_version: str, previous: str | None, forced: bool
) -> dict[str, Any]:
    return {
        "promoted": promoted,
        "dataset": dataset,
        "encoder": encoder,
        "encoder_version": encoder_version,
        "previous_version": previous,
        "forced": forced,
    }


def _gates(
    settings: Settings, dataset: str, encoder: str, encoder_version: str, catalog_version: str, serving: str | None
) -> dict[str, Row]:
    """What the newest run of each gate said, and ``problem``: why it does not let the version through, or None."""
    found = lake.rows(
        settings,
        f"SELECT * FROM {RUNS.name} WHERE verb = 'gate' AND dataset = {quote(dataset)} "
        f"AND (encoder_version IS NULL OR encoder_version = {quote(encoder_version)}) ORDER BY started_at",
    )
    asked = gates_to_serve(settings)
    newest: dict[str, Row] = {}
    for row in found:
        gate = json.loads(row["figures"] or "{}").get("gate")
        if gate in asked and (row["encoder_version"] is None) == (gate == "catalog"):
            newest[gate] = row
    said = {}
    for gate in asked:
        subject = "" if gate == "catalog" else f" --encoder {encoder}"
        command = f"run `vitrine gate {gate} --dataset {dataset}{subject}`"
        said[gate] = _judged(gate, newest.get(gate), catalog_version, serving, command)
    return said


def _judged(gate: str, row: Row | None, catalog_version: str, serving: str | None, command: str) -> Row:
    if row is None:
        return {"problem": f"gate {gate} has not been asked: {command}"}
    figures = json.loads(row["figures"] or "{}")
    problem = None
    if row["state"] == "refused":
        failed = ", ".join(str(check.get("expectation")) for check in figures.get("failed", []))
        problem = f"gate {gate} refused ({failed}): mend that, then {command}"
    elif row["state"] != "done":
        problem = f"gate {gate} did not end ({figures.get('error', row['state'])}): {command}"
    elif row["catalog_version"] != catalog_version:
        problem = f"gate {gate} is out of date, the catalog has changed since: {command}"
    elif gate in COMPARING and serving not in (row["encoder_version"], figures.get("serving_version")):
        problem = f"gate {gate} is out of date, it compared with another version than the one that serves: {command}"
    kept = {key: row[key] for key in ("run_id", "state", "catalog_version", "started_at")}
    return kept | {"problem": problem, "checks": figures.get("checks", [])}
