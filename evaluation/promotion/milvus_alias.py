"""What serves in Milvus: the alias of a data set follows ``promotions``, by way of a collection that is whole."""

from typing import Any

from evaluation.gates.ask_gate import ask_index
from evaluation.milvus.vector_index import VectorIndex, alias_name
from vitrine import facts
from vitrine.encoded_set import EncodedSet
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
    serves = facts.serving_set(settings, dataset)
    if serves is None:
        milvus.drop_alias(dataset)
        return {"serving": None}
    milvus.sync(serves, served=True)
    figures: dict[str, Any] = {"serving": serves.encoder_version}
    if gated and settings.milvus.index != "FLAT":
        figures["recall"] = ask_index(settings, serves, milvus).checks[0]["figures"]["value"]
    milvus.point_alias(serves)
    return figures


def lag(settings: Settings, milvus: VectorIndex, encoded: EncodedSet) -> str | None:
    """Why Milvus has something to catch up with, of ``encoded`` and of what serves; None where it has not."""
    if milvus.behind(encoded) != 0:
        return f"Milvus has not the newest vectors of {encoded.encoder_version}"
    serves = facts.serving_set(settings, encoded.dataset)
    if serves is None:
        return None
    if milvus.alias_target(encoded.dataset) != serves.encoder_version:
        alias = alias_name(encoded.dataset)
        return f"Milvus's alias {alias} does not name {serves.encoder_version}, which serves"
    if milvus.behind(serves, served=True) != 0:
        return f"Milvus has not the newest vectors of {serves.encoder_version}, which serves"
    return None
