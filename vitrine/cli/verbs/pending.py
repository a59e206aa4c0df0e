"""``vitrine pending``: what a night has to do."""

from typing import Any

from evaluation.milvus import vector_index
from evaluation.promotion import milvus_alias, promote
from vitrine import facts
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Dataset, Json
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name
from vitrine.errors import UserError
from vitrine.online import sync
from vitrine.settings import Settings, load_settings


def pending(dataset: Dataset, as_json: Json = False) -> None:
    """Which of the nightly encoders have work to do on a data set, and why; those that are retired are left out.

    Asks the tables, Milvus and Feast for the versions that they hold, without Spark. The first nightly encoder is the
    one that nights promote.
    """
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    retired = [name for name in settings.nightly.encoders if _retired(settings, name)]
    waiting = []
    with vector_index.VectorIndex(settings) as milvus:
        for name in settings.nightly.encoders:
            first = name == settings.nightly.encoders[0]
            if name not in retired and (why := _why_pending(settings, milvus, dataset, name, first)):
                waiting.append({"encoder": name, "first": first, "why": why})
    kept_up = [name for name in settings.nightly.encoders if name not in retired]
    if kept_up and not waiting and (why := sync.lag(settings, dataset)):
        waiting = [{"encoder": kept_up[0], "first": kept_up[0] == settings.nightly.encoders[0], "why": why}]
    figures: dict[str, Any] = {"dataset": dataset, "pending": waiting, "retired": retired}
    output.show(f"pending {dataset}", figures, as_json)


def _retired(settings: Settings, name: str) -> bool:
    try:
        version = by_name.version(settings, name)
    except UserError:
        return False
    return facts.is_retired(settings, version)


def _why_pending(
    settings: Settings, milvus: "vector_index.VectorIndex", dataset: str, name: str, first: bool
) -> str | None:
    """The first thing found that is not as it should be; what only a later step would find is found by that step."""
    try:
        version = by_name.version(settings, name)
    except UserError as error:  # the task of this encoder says so, and fails alone
        return str(error)
    encoded = EncodedSet(dataset, name, version)
    if facts.settled(settings, encoded) is None:
        return "embeddings are not those of the catalog"
    if problems := promote.unpassed_gates(settings, encoded, with_index=first):
        return problems[0]
    if first and not promote.served_before(settings, encoded):
        return "never promoted"
    return milvus_alias.lag(settings, milvus, encoded)
