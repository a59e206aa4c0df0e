"""``vitrine lookup`` and ``vitrine serve``: what serves, asked by key, from the command line and over HTTP."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from vitrine.cli import output
from vitrine.cli.options import Dataset, Json, chosen_datasets
from vitrine.settings import load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI


class Of(StrEnum):
    images = "images"
    products = "products"


def lookup(
    key: Annotated[list[str], typer.Argument(help="Image ids (or product ids), as in the catalog.")],
    dataset: Dataset,
    of: Annotated[Of, typer.Option(help="What the keys are of.")] = Of.images,
    as_json: Json = False,
) -> None:
    """Look images or products up online, through the data set's serving service."""
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    from vitrine.feature_store import IMAGES, PRODUCTS
    from vitrine.online.lookup import OnlineFeatures

    kind = IMAGES if of is Of.images else PRODUCTS
    found = OnlineFeatures(settings).lookup(dataset, key, kind)
    if as_json:
        lists = [{**row, "embedding": None if (v := row["embedding"]) is None else v.tolist()} for row in found]
        output.emit_json({"results": lists})
        return
    columns = [kind.key, *kind.features[1:], "embedding"]
    output.emit_rows(columns, [[*(row[name] for name in columns[:-1]), _shown(row["embedding"])] for row in found])


def _shown(vector: Sequence[float] | None) -> str:
    return "-" if vector is None else f"[{', '.join(f'{value:.3f}' for value in vector[:3])}, ...] ({len(vector)})"


def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen. Left out: feast.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Left out: feast.port.", min=1, max=65_535)] = None,
    workers: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
) -> None:
    """Serve the online features over HTTP until Ctrl-C: Feast's feature server, read-only, and similar products.

    Where other machines can ask, VITRINE_FEAST__API_KEY has to be set: requests bring it as a bearer token.
    """
    settings = load_settings()
    import uvicorn

    from vitrine.online.feature_server import check_reach

    host, port = host or settings.feast.host, port or settings.feast.port
    check_reach(settings.feast, host)
    uvicorn.run(
        "vitrine.cli.verbs.serve:server_app", factory=True, host=host, port=port, workers=workers, access_log=False
    )


def server_app() -> "FastAPI":
    """What each process of ``vitrine serve`` answers with."""
    from evaluation.milvus.more_like_this import more_like_this
    from vitrine.online.feature_server import make_app

    return make_app(load_settings(), more_like_this)
