"""``vitrine serve`` as a process of its own, asked over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.support.project import PROJECT
from tests.support.store_servers import free_port

KEY = "a-key-of-many-letters"
FOLLOW_SECONDS = 2


class Server:
    """One in ``folder``, whose log is ``folder / "log"``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any = None, key: str | None = KEY, method: str | None = None) -> tuple[int, Any]:
        """Status and JSON of the answer to ``body`` as JSON."""
        return self.send(path, None if body is None else json.dumps(body).encode(), "application/json", key, method)

    def send(
        self, path: str, data: bytes | None, kind: str, key: str | None = KEY, method: str | None = None
    ) -> tuple[int, Any]:
        """The same of bytes that are of the media type ``kind``."""
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {key}"} if key else {})
        try:
            with urlopen(Request(self.url + path, data, headers, method=method), timeout=120) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except HTTPError as error:
            return error.code, json.loads(error.read() or "null")

    def search(self, dataset: str, data: bytes, query: str = "", kind: str = "image/jpeg") -> tuple[int, Any]:
        """The answer to a search by a photo, once the bundle is made that it needs."""
        until = time.monotonic() + 600
        while True:
            status, answer = self.send(f"/datasets/{dataset}/search{query}", data, kind)
            if status != 503 or "is being made" not in answer["detail"] or time.monotonic() > until:
                return status, answer
            time.sleep(1)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server runs in the block; it asks for ``KEY``, and follows promotions in ``FOLLOW_SECONDS``."""
    own = {"API_KEY": KEY, "FOLLOW_SECONDS": str(FOLLOW_SECONDS), "PORT": str(server.port)}
    env = os.environ | {f"VITRINE_FEAST__{name}": value for name, value in own.items()} | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "vitrine", "serve"]
    with (server.folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=server.folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                assert server.ask("/health", key=None) == (200, {"status": "the online store can be read"})
                break
            except OSError:
                said = (server.folder / "log").read_text()
                assert process.poll() is None and time.monotonic() < until, said
                time.sleep(0.1)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
