"""The feature server: Feast's own HTTP app, cut down to what a recommender may ask, with a key and similar products."""

import hmac
import ipaddress
import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
import pyarrow as pa
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from vitrine import feature_store
from vitrine.errors import UserError, VitrineError, one_line
from vitrine.feast_parts import FeastError, FeatureStore, get_app
from vitrine.feature_store import IMAGES, PRODUCTS, Kind
from vitrine.images import ImageError
from vitrine.names import check_name
from vitrine.online.lookup import OnlineFeatures
from vitrine.online.photo_body import photo_of
from vitrine.setting_sections import FeastSettings
from vitrine.settings import Settings

FEASTS_OWN = "/get-online-features"
"""Its other routes write, search in a store that holds keys alone, or are well when the store is not."""
ARROW = "application/vnd.apache.arrow.stream"
LOOPBACK = ["localhost", "127.0.0.1"]
Similar = Callable[[Settings, OnlineFeatures, str, str, int, list[tuple[str, str]]], dict[str, Any]]
"""``evaluation.milvus.more_like_this.more_like_this``."""
Search = Callable[[OnlineFeatures, str, bytes, int, Kind, list[tuple[str, str]]], dict[str, Any]]
"""An ``evaluation.milvus.photo_search.PhotoSearch``."""
Where = Annotated[list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*=")]], Query(default_factory=list, max_length=16)]
"""Labels that what is found has to have, as ``colour=red``: ``category``, ``product_id``, ``split`` or attributes."""
SEARCHES = 4
"""Photos that a process decodes and encodes at once; others wait, and hold up no lookup."""
_STATUS = {"too_large": 413, "not_an_image": 415, "unsupported": 415}
"""Of an ImageError's code; of all others 422."""


class Keys(BaseModel):
    """What ``POST /datasets/DATASET/products`` asks for."""

    ids: list[str] = Field(max_length=10_000)


def make_app(settings: Settings, similar: Similar, search: Search) -> FastAPI:
    """The app; a promotion is followed within ``[feast] follow_seconds``, without a request waiting for it."""
    feast = settings.feast
    # Half of the time after which Feast's cache expires: so none expires, and no request waits for a new one.
    store = feature_store.open_store(settings)
    app = get_app(store, registry_ttl_sec=max(1, feast.follow_seconds // 2))
    app.router.routes[:] = [route for route in app.routes if getattr(route, "path", "") == FEASTS_OWN]
    online = OnlineFeatures(settings)

    @app.get("/health")
    def health() -> dict[str, str]:
        online.check()
        return {"status": "the online store can be read"}

    searches = anyio.CapacityLimiter(SEARCHES)

    @app.post("/datasets/{dataset}/search")  # before the next one, which would take it for a kind
    async def search_by_photo(
        request: Request,
        dataset: str,
        where: Where,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        of: Literal["products", "images"] = "products",
    ) -> dict[str, Any]:
        data = await photo_of(request)
        kind = IMAGES if of == IMAGES.name else PRODUCTS
        asked = (online, dataset, data, limit, kind, labels_of(where))
        return await anyio.to_thread.run_sync(search, *asked, limiter=searches)

    @app.post("/datasets/{dataset}/{kind}")
    def look_up(dataset: str, kind: Literal["images", "products"], asked: Keys) -> Response:
        of = IMAGES if kind == IMAGES.name else PRODUCTS
        rows = online.lookup(check_name(dataset, "data set"), asked.ids, of)
        return Response(arrow_stream(of, rows), media_type=ARROW)

    @app.get("/datasets/{dataset}/products/{product_id:path}/similar")
    def similar_products(
        dataset: str,
        product_id: str,
        where: Where,
        k: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> dict[str, Any]:
        return similar(settings, online, dataset, product_id, k, labels_of(where))

    _say_errors(app, store)
    if feast.api_key:
        app.add_middleware(KeyRequired, key=feast.api_key.get_secret_value())
    else:  # a page in a browser here must not reach it under another name
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK)
    return app


def labels_of(where: list[str]) -> list[tuple[str, str]]:
    """Labels and their values."""
    return [(label, value) for label, _, value in (each.partition("=") for each in where)]


def arrow_stream(kind: Kind, rows: list[dict[str, Any]]) -> bytes:
    """``OnlineFeatures.lookup``'s rows as an Arrow IPC stream: JSON spells each float, which takes far longer."""
    schema = pa.schema([kind.table.schema.field(name).with_nullable(True) for name in (kind.key, *kind.features)])
    own = [name for name in (rows[0] if rows else ()) if name not in schema.names]
    schema = pa.schema([*schema, *(pa.field(name, pa.string()) for name in own)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_pylist(rows, schema))
    return bytes(sink.getvalue())


def check_reach(feast: FeastSettings, host: str) -> None:
    """Raises UserError where another machine could ask without a key."""
    try:
        here = host == "localhost" or ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        here = False
    if not here and not feast.api_key:
        raise UserError(
            f"host {host!r} can be reached from other machines: set VITRINE_FEAST__API_KEY (16 characters or more), "
            "or listen on 127.0.0.1"
        )


class KeyRequired:
    """Refuses requests without ``Authorization: Bearer KEY``; whether the server is well may be asked by anyone."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given, self._key):
                headers = {"WWW-Authenticate": "Bearer"}
                refused = JSONResponse({"detail": "the key is missing or wrong"}, 401, headers)
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _say_errors(app: FastAPI, store: FeatureStore) -> None:
    """One line under ``detail``; what nobody foresaw, a store that is away in most cases, is said in the log alone."""

    def say(code: Callable[[Any], int]) -> Callable[[Request, Exception], JSONResponse]:
        return lambda _, error: JSONResponse({"detail": one_line(error)}, code(error))

    app.add_exception_handler(ImageError, say(lambda error: _STATUS.get(error.code, 422)))
    app.add_exception_handler(UserError, say(lambda _: 404))
    app.add_exception_handler(VitrineError, say(lambda _: 503))
    app.add_exception_handler(FeastError, say(lambda error: error.http_status_code()))
    for mistake in (KeyError, ValueError, TypeError):  # Feast's words on entities that its service does not know
        app.add_exception_handler(mistake, say(lambda _: 400))

    def unforeseen(_: Request, error: Exception) -> JSONResponse:
        logging.getLogger("uvicorn.error").error("%s: %s", type(error).__name__, error)
        feature_store.reconnect(store)
        return JSONResponse({"detail": "the online store could not be read; the server's log says why"}, 503)

    app.add_exception_handler(Exception, unforeseen)
