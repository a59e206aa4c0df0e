"""The server of the page: NiceGUI on localhost, the photos' addresses, and who may ask."""

from pathlib import Path
from typing import Annotated, Literal
from xml.sax.saxutils import escape

from fastapi import HTTPException, Query, Response
from nicegui import PageArguments, app, html, ui
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evaluation.browse.page import show
from evaluation.browse.site import Site
from evaluation.browse.tags_page import show_tags
from evaluation.browse.uploads import MOST_BYTES
from evaluation.pages.style import style_sheet
from evaluation.pages.text import shown
from vitrine import addresses
from vitrine.images import ImageError

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")
"""What a browser on this machine calls it; another name in a request means that a page elsewhere had its own name lead
here (DNS rebinding)."""
_HERE = Path(__file__).parent
# NiceGUI compiles its components in the browser, hence unsafe-eval; nothing may come from, or go to, another host.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws://{host}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """Refuses what no page of this server asks: another origin's requests, and bodies beyond an upload's size."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        refusal = _refusal(headers, host, scope.get("method", "GET"))
        if refusal:
            await refusal(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.setdefault("content-security-policy", _POLICY.format(host=host))
                answer["x-content-type-options"] = "nosniff"
                answer["referrer-policy"] = "no-referrer"
                answer["cross-origin-resource-policy"] = "same-origin"
            await send(message)

        await self._app(scope, receive, send_on)


def _refusal(headers: Headers, host: str, method: str) -> PlainTextResponse | None:
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return PlainTextResponse("another origin", status_code=403)
    if method in ("GET", "HEAD"):
        return None
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return PlainTextResponse("say how long it is", status_code=411)
    if int(length) > MOST_BYTES + 64 * 1024:  # the form around the file
        return PlainTextResponse("too large", status_code=413)
    return None


def add_photos(site: Site) -> None:
    """The addresses of photos: of the catalog by id, of uploads by token; a path is never taken from a request."""

    @app.get("/thumb/{dataset}")
    def thumb(
        dataset: str, image_id: Annotated[str, Query(alias="id")], size: Literal["small", "large"] = "small"
    ) -> Response:
        photo = site.catalogs(dataset).find(image_id) if dataset in site.datasets() else None
        if photo is None:
            raise HTTPException(404, "no such photo in the catalog")
        try:
            data = site.thumbnails.jpeg(photo, size)
        except ImageError as error:
            return Response(_no_photo(str(error)), media_type="image/svg+xml", headers={"cache-control": "no-store"})
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    @app.get("/uploaded/{token}")
    def uploaded(token: str) -> Response:
        upload = site.uploads.find(token)
        if upload is None:
            raise HTTPException(404, "no such upload")
        return Response(upload.shown, media_type="image/jpeg", headers={"cache-control": "no-store"})


def _no_photo(reason: str) -> str:
    """A picture that says why there is none."""
    lines = (("No photo", 40, 11), (shown(reason, 34), 56, 6))
    text = "".join(f'<text x="50" y="{y}" font-size="{size}">{escape(line)}</text>' for line, y, size in lines)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" font-family="sans-serif" '
        f'text-anchor="middle" fill="#777">{text}</svg>'
    )


def serve(site: Site, port: int) -> None:
    """Serve until it is stopped.

    Raises:
        UserError: the port is taken.
    """
    check_port(port)
    app.add_middleware(Guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(NAMES), www_redirect=False)
    add_photos(site)
    ui.add_css(style_sheet(_HERE / "browse.css"), shared=True)
    ui.add_head_html(f"<script>{(_HERE / 'keys.js').read_text()}</script>", shared=True)

    async def view(arguments: PageArguments) -> None:
        await show(site, arguments)

    async def tags(arguments: PageArguments) -> None:
        await show_tags(site, arguments)

    @ui.page("/", title="Vitrine")
    @ui.page("/tags", title="Vitrine")
    def index() -> None:
        with html.header().classes("top"):
            html.a("Vitrine", href="/").classes("eyebrow")
            html.h1("What each encoder finds")
            html.a("Tags", href="/tags")
            dataset_links(site)
        with html.main(id="main"):
            ui.sub_pages({"/": view, "/tags": tags})

    ui.run(
        host=HOST,
        port=port,
        title="Vitrine",
        favicon=_HERE / "icon.svg",
        dark=None,
        show=False,
        reload=False,
        tailwind=False,
        show_welcome_message=False,
        binding_refresh_interval=None,
    )


def dataset_links(site: Site) -> None:
    """The data sets to choose from, where there are several."""
    names = site.datasets()
    if len(names) > 1:
        with html.nav(**{"aria-label": "Data sets"}).classes("datasets"):
            for name in names:
                html.a(name, href=f"/?dataset={name}")


def check_port(port: int) -> None:
    """Raises UserError where another program listens on ``port``, or this one may not."""
    addresses.check_free(HOST, port, "--port")
