"""What serves in Milvus: the alias of a data set follows ``promotions``, by way of a collection that is whole."""

from typing import Any

from evaluation.gates.run import run_gate
from evaluation.milvus.vector_index import VectorIndex, alias_name
from vitrine import facts
from vitrine.settings import Settings


def follow(settings: Settings, milvus: VectorIndex, dataset: str, gated: bool = False) -> dict[str, Any]:
    """Bring the served collection of what serves to the lake's version, then the alias to that collection.

    Searches meanwhile are answered from the collection that the alias still names. ``gated`` first asks the gate on
    the index, where that is not an exact one; a promotion had it asked before.

    Returns:
        ``{"serving": encoder version}``, None where nothing serves, and ``recall`` where it was measured.

    Raises:
        GateRefused: the served index finds too little; the alias stays where it was.
    """
    serves = facts.serving(settings, dataset)
    if serves is None:
        milvus.drop_alias(dataset)
        return {"serving": None}
    encoder, version = str(serves["encoder"]), str(serves["encoder_version"])
    milvus.sync(dataset, version, served=True)
    said: dict[str, Any] = {"serving": version}
    if gated and settings.milvus.index != "FLAT":
        result = run_gate(settings, "index", dataset, encoder, version, milvus=milvus)
        said["recall"] = result.checks[0]["figures"]["value"]
    milvus.point_alias(dataset, version)
    return said


def lag(settings: Settings, milvus: VectorIndex, dataset: str, encoder_version: str) -> str | None:
    """Why Milvus has something to catch up with, of this version and of what serves; None where it has not."""
    if milvus.behind(dataset, encoder_version) != 0:
        return f"Milvus has not the newest vectors of {encoder_version}"
    serves = facts.serving(settings, dataset)
    if serves is None:
        return None
    version = str(serves["encoder_version"])
    if milvus.alias_target(dataset) != version:
        return f"Milvus's alias {alias_name(dataset)} does not name {version}, which serves"
    if milvus.behind(dataset, version, served=True) != 0:
        return f"Milvus has not the newest vectors of {version}, which serves"
    return None
