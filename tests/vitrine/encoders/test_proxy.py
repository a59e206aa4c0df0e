"""Weights come through a proxy where there is one, though it alone may know the hub's name."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.project import PROJECT

ASK = """
from huggingface_hub import constants
from vitrine.encoders import weights
weights.do_not_wait_for_hub()
print(constants.HF_HUB_OFFLINE)
"""
FETCH = """
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build
from vitrine.errors import UserError
try:
    build(Backbone("own", "timm", "resnet10t.c3_in1k", "supervised"))
except UserError as error:
    print(error)
"""


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy's address, and what it is asked for; it has none of it."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def run(code: str, folder: Path, **env: str) -> str:
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    base |= {"PYTHONPATH": str(PROJECT), "HF_HOME": str(folder), "HF_ENDPOINT": "http://hub.invalid"}
    ran = subprocess.run([sys.executable, "-c", code], env=base | env, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_who_asks_a_proxy_resolves_no_name(tmp_path: Path, proxy: tuple[str, list[str]]) -> None:
    url, _ = proxy
    assert run(ASK, tmp_path) == "True"  # the hub's name is nobody's
    assert run(ASK, tmp_path, http_proxy=url) == run(ASK, tmp_path, all_proxy=url) == "False"
    assert run(ASK, tmp_path, http_proxy=url, no_proxy="hub.invalid") == "True"
    assert run(ASK, tmp_path, http_proxy="http://127.0.0.1:9") == "True"  # nobody listens
    assert run(ASK, tmp_path, http_proxy="http://127.0.0.1:banana") == "True"
    assert run(ASK, tmp_path, all_proxy=url.replace("http:", "socks5:")) == "True"  # in a language not spoken here


def test_weights_are_asked_of_the_proxy(tmp_path: Path, proxy: tuple[str, list[str]]) -> None:
    url, asked = proxy
    said = run(FETCH, tmp_path, http_proxy=url)
    assert "the weights of timm/resnet10t.c3_in1k could not be fetched from their hub" in said
    assert any(path.startswith("http://hub.invalid/timm/resnet10t.c3_in1k/") for path in asked)
