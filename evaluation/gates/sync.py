"""The gate on Milvus: does it hold what the lake has?"""

from typing import Any

import pandas as pd

from evaluation.consistency.differences import Differences
from evaluation.consistency.milvus import MilvusRows, check_behind, check_ids
from evaluation.consistency.tables import StoredVersion
from evaluation.consistency.vectors import compare_vectors
from evaluation.gates.data_docs import GateResult, rule, validate
from evaluation.milvus.vector_index import VectorIndex
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings

_EXAMPLES = 3
_ASKED = {
    "behind": "Milvus has every change of the lake",
    "missing": "every photo with a vector is in Milvus",
    "too_many": "Milvus has no photo without a vector",
    "other": "vectors and labels of {probes} photos are the lake's",
}


def gate_sync(
    settings: Settings,
    milvus: VectorIndex,
    dataset: str,
    encoder: str,
    encoder_version: str,
    run_id: str | None = None,
) -> GateResult:
    """Bring Milvus to the lake's version, then hold the ids of all rows, and what some of them hold, against the lake.

    Judges the exact collection, and that of the served index where it is another and there already. The vectors and
    labels are those of ``gates.probes`` photos, always the same: the first by SHA-256 of their ids.
    """
    version = StoredVersion(EncodedSet(dataset, encoder, encoder_version), None, True)
    apart = settings.milvus.index != "FLAT" and milvus.collection(version.encoded, served=True).exists()
    held = []
    for served in (False, True) if apart else (False,):
        milvus.sync(version.encoded, served)
        held.append(_differences(MilvusRows(settings, milvus, version, served)))
    rules = []
    for kind, text in _ASKED.items():
        told = [each[kind] for each in held if kind in each]
        figures: dict[str, Any] = {"value": sum(one["count"] for one in told)}
        if ids := [image_id for one in told for image_id in one["ids"]]:
            figures["examples"] = ids[:_EXAMPLES]
        text = text.format(probes=settings.gates.probes)
        rules.append(rule("ExpectColumnValuesToBeInSet", text, figures, column=kind, value_set=[0]))
    frame = pd.DataFrame([{kind: each[kind]["count"] if kind in each else 0 for kind in _ASKED} for each in held])
    return validate(settings, "sync", f"{dataset} {encoder}", frame, rules, run_id)


def _differences(rows: MilvusRows) -> dict[str, dict[str, Any]]:
    """By name, of those in ``_ASKED``, the differences that there are."""
    settings, all_ids, some_vectors = rows.settings, Differences(), Differences()
    check_behind(settings, all_ids, rows)
    check_ids(all_ids, rows)
    tail = f"ORDER BY sha256(image_id) LIMIT {settings.gates.probes}"
    compare_vectors(settings, some_vectors, rows.version, [rows], tail)
    by_name = {one["name"]: one for one in (*some_vectors.as_list(), *all_ids.as_list())}
    return {name: by_name[f"milvus.{name}"] for name in _ASKED if f"milvus.{name}" in by_name}
