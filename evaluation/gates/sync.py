"""The gate on Milvus: does it hold what the lake has?"""

from typing import Any

from evaluation.consistency.differences import Differences
from evaluation.consistency.milvus import MilvusRows, check_behind, check_ids
from evaluation.consistency.tables import StoredVersion
from evaluation.consistency.vectors import compare_vectors
from evaluation.gates.data_docs import EXAMPLES, Decision, validate
from evaluation.milvus.vector_index import VectorIndex
from vitrine.encoded_set import EncodedSet
from vitrine.runs import GateFigures
from vitrine.settings import Settings

_QUESTIONS = {
    "milvus.behind": "Milvus has every change of the lake",
    "milvus.missing": "every photo with a vector is in Milvus",
    "milvus.too_many": "Milvus has no photo without a vector",
    "milvus.other": "vectors and labels of {probes} photos are the lake's",
}


def gate_sync(settings: Settings, encoded: EncodedSet, milvus: VectorIndex, run_id: str | None = None) -> GateFigures:
    """Bring Milvus to the lake's version, then hold the ids of all rows, and what some of them hold, against the lake.

    Judges the exact collection, and that of the served index where it is another and there already. The vectors and
    labels are those of ``gates.probes`` photos, always the same: the first by SHA-256 of their ids.
    """
    apart = settings.milvus.index != "FLAT" and milvus.collection(encoded, served=True).exists()
    version = StoredVersion(encoded, None, True)
    differences = []
    for served in (False, True) if apart else (False,):
        milvus.sync(encoded, served)
        differences += _differences(settings, MilvusRows(settings, milvus, version, served))
    asked = [
        _decision(text.format(probes=settings.gates.probes), [one for one in differences if one["name"] == name])
        for name, text in _QUESTIONS.items()
    ]
    return validate(settings, "sync", f"{encoded.dataset} {encoded.encoder}", asked, run_id)


def _decision(text: str, differences: list[dict[str, Any]]) -> Decision:
    figures: dict[str, Any] = {"value": sum(one["count"] for one in differences)}
    if ids := [image_id for one in differences for image_id in one["ids"]]:
        figures["examples"] = ids[:EXAMPLES]
    return Decision(text, not differences, figures)


def _differences(settings: Settings, rows: MilvusRows) -> list[dict[str, Any]]:
    """As ``Differences.as_list`` gives them; ids are those of all rows, vectors those of the probes."""
    all_ids, probes = Differences(), Differences()
    check_behind(settings, all_ids, rows)
    check_ids(all_ids, rows)
    compare_vectors(settings, probes, rows.version, [rows], f"ORDER BY sha256(image_id) LIMIT {settings.gates.probes}")
    return all_ids.as_list() + [one for one in probes.as_list() if one["name"] == "milvus.other"]
