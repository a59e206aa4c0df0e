"""``vitrine serve``: the online features over HTTP."""

from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from evaluation.milvus import more_like_this, photo_search
from vitrine import addresses
from vitrine.errors import VitrineError
from vitrine.online import feature_server
from vitrine.settings import load_settings


def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen. Left out: feast.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Left out: feast.port.", min=1, max=65_535)] = None,
    workers: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
) -> None:
    """Serve online features over HTTP until Ctrl-C: Feast's feature server, read-only, similar products, photo search.

    Where other machines can ask, VITRINE_FEAST__API_KEY has to be set: requests bring it as a bearer token.
    """
    settings = load_settings()

    host, port = host or settings.feast.host, port or settings.feast.port
    feature_server.check_reach(settings.feast, host)
    addresses.check_free(host, port, "--host or --port")
    try:
        uvicorn.run(
            "vitrine.cli.verbs.serve:server_app", factory=True, host=host, port=port, workers=workers, access_log=False
        )
    except SystemExit as ended:  # uvicorn's 3 is a server that did not start, ours a gate that refused
        if not ended.code:
            raise
        raise VitrineError("the server did not start: its log, above, says why") from None


def server_app() -> "FastAPI":
    """What each process of ``vitrine serve`` answers with."""
    settings = load_settings()
    return feature_server.make_app(settings, more_like_this.more_like_this, photo_search.PhotoSearch(settings))
