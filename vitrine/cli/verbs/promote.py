"""``vitrine promote``: what serves a data set."""

from typing import Annotated, Any

import typer

from evaluation.milvus import vector_index
from evaluation.promotion import milvus_alias
from evaluation.promotion import promote as promotion
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoded_set
from vitrine.cli.options import Dataset, Json
from vitrine.cli.verbs.features import bring_online
from vitrine.settings import Settings, load_settings


def promote(
    encoder: Annotated[str, typer.Argument(help="An encoder's name, or a version.")],
    dataset: Dataset,
    force: Annotated[bool, typer.Option("--force", help="Past the gates; needs --reason, and is recorded.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why the gates are passed by.")] = None,
    if_new: Annotated[
        bool, typer.Option("--if-new", help="Only a version that never served: what was rolled back stays back.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let an encoder version serve a data set, if its gates passed; what already serves goes on."""
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    encoded = encoded_set(settings, encoder, dataset)
    with runs.record(settings, "promote", dataset, encoded.encoder) as run:
        run.encoder_version = encoded.encoder_version
        run.figures |= promotion.promote(settings, encoded, force, reason, if_new)
        run.figures |= follow(settings, dataset)
    output.show(f"promote {encoded.encoder}", run.figures, as_json)


def follow(settings: Settings, dataset: str) -> dict[str, Any]:
    """Milvus's alias and Feast's services follow the newest row of ``promotions``."""
    with vector_index.VectorIndex(settings) as vectors:
        alias = milvus_alias.follow(settings, vectors, dataset)["serving"]
    return {"milvus_alias": alias, "online": bring_online(settings, [dataset])["views"]}
