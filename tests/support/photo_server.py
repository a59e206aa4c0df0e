"""A server of photos as the web has them: slow, failing, redirecting, rate-limiting, lying about types."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """What is at a path."""

    data: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    validators: str = "etag"
    """``etag``, ``date``, or neither."""
    changed: float = 1_700_000_000.0
    seconds: float = 0.0
    """Before the answer."""
    drip: float = 0.0
    """Seconds between bytes."""
    failures: int = 0
    """Requests that are answered with 503 first."""
    tells_length: bool = True
    cut: bool = False
    """Is the connection closed half way?"""


class PhotoServer:
    """Pages by path; what was asked, answered and sent is counted."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.sent = 0
        self.agents: set[str] = set()
        self.most_at_once = 0
        self.limit: Callable[[], float | None] = lambda: None
        """Seconds of a Retry-After for the next request, which is then answered with 429; None: it is served."""
        self._now = 0
        self._lock = threading.Lock()
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"

    def forget(self) -> None:
        """Count anew."""
        self.asked.clear()
        self.answers.clear()
        self.sent = self.most_at_once = 0

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.lstrip("/")
        with self._lock:
            self.asked[path] += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.agents.add(handler.headers.get("User-Agent", ""))
            wait = self.limit()
        try:
            page = self.pages.get(path, Page(b"no such page", 404))
            time.sleep(page.seconds)
            if wait is not None:
                page = Page(b"later", 429, {"Retry-After": f"{wait:g}"})
            elif page.failures:
                page.failures -= 1
                page = Page(b"busy", 503)
            self._answer(handler, page)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, page: Page) -> None:
        etag, date = f'"{hashlib.md5(page.data).hexdigest()}"', formatdate(page.changed, usegmt=True)
        said = {"etag": {"ETag": etag}, "date": {"Last-Modified": date}}.get(page.validators, {})
        unchanged = page.status == 200 and (
            (page.validators == "etag" and handler.headers.get("If-None-Match") == etag)
            or (page.validators == "date" and handler.headers.get("If-Modified-Since") == date)
        )
        status, data = (304, b"") if unchanged else (page.status, page.data)
        self.answers[status] += 1
        handler.send_response(status)
        headers = {"Content-Type": "image/jpeg", **(said if status in (200, 304) else {}), **page.headers}
        if status != 304 and page.tells_length:
            headers.setdefault("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        parts = [data[: len(data) // 2]] if page.cut else [data[at : at + 1] for at in range(len(data))]
        for part in parts if page.cut or page.drip else [data]:
            handler.wfile.write(part)
            self.sent += len(part)
            time.sleep(page.drip)
        if page.cut or not page.tells_length:
            handler.close_connection = True


@contextmanager
def photo_server(port: int = 0) -> Iterator[PhotoServer]:
    """A running server on this machine."""
    pages = PhotoServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            pages.serve(self)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:  # clients that give up are what it is here for
            pass

    with Server(("127.0.0.1", port), Handler) as server:
        pages.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield pages
        finally:
            server.shutdown()
            thread.join()
