"""``vitrine serve``: a real server of its own process, asked over HTTP, and the examples that ask it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest

from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion.milvus_alias import follow as point
from tests.support.feature_server import FOLLOW_SECONDS, KEY, Server, serving
from tests.support.project import PROJECT
from tests.support.served_home import V1, V2, add, follow, promote, register, vector
from vitrine import feature_store
from vitrine.cli.main import main
from vitrine.settings import Settings, load_settings

pytestmark = pytest.mark.slow
PRODUCTS = {"d/0": 1, "d/1": 2, "d/a b/ü?": 3, "d/3": 4}


def products(server: Server, *keys: str) -> list[dict[str, Any]]:
    body = {"feature_service": "d_products_serving", "entities": {"product_id": keys}}
    status, answer = server.ask("/get-online-features", body)
    assert status == 200, answer
    columns = [result["values"] for result in answer["results"]]
    return [dict(zip(answer["metadata"]["feature_names"], row, strict=True)) for row in zip(*columns, strict=True)]


def serve_version(settings: Settings, version: str) -> None:
    """As ``vitrine promote``."""
    promote(settings, version)
    with VectorIndex(settings) as milvus:
        point(settings, milvus, "d")
    follow(settings, feature_store.open_store(settings))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A home with two versions, the first of which serves, and a server that asks for a key."""
    found = Server(tmp_path_factory.mktemp("serve"))
    (found.folder / "vitrine.toml").touch()
    settings = load_settings(found.folder)
    register(settings, V1, V2)
    add(settings, V1, PRODUCTS)
    add(settings, V2, {product: seed + 10 for product, seed in PRODUCTS.items()})
    serve_version(settings, V1)
    with serving(found):
        yield found


def test_products_by_what_serves(server: Server):
    rows = products(server, *PRODUCTS, "d/nobody")
    assert [row["product_id"] for row in rows] == [*PRODUCTS, "d/nobody"]
    for row in rows[:-1]:
        assert row["embedding"] == vector(PRODUCTS[row["product_id"]])
        assert (row["encoder_version"], row["n_images"]) == (V1, PRODUCTS[row["product_id"]])
    assert rows[-1] == dict.fromkeys(rows[-1], None) | {"product_id": "d/nobody"}


def test_vectors_as_arrow(server: Server):
    asked = Request(
        f"{server.url}/datasets/d/products",
        json.dumps({"ids": ["d/0", "d/nobody", "d/a b/ü?"]}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )
    with urlopen(asked, timeout=20) as answer:
        rows = pa.ipc.open_stream(answer.read()).read_all().to_pylist()
    assert [row["embedding"] for row in rows] == [vector(1), None, vector(3)]
    assert [row["encoder_version"] for row in rows] == [V1, None, V1]
    for path, body, code in (
        ("/datasets/d/prices", {"ids": []}, 422),
        ("/datasets/d/images", {"ids": "x"}, 422),
        ("/datasets/e/images", {"ids": ["x"]}, 404),
    ):
        assert server.ask(path, body)[0] == code


def test_only_who_has_the_key_gets_an_answer(server: Server):
    body = {"feature_service": "d_products_serving", "entities": {"product_id": ["d/0"]}}
    for key in (None, "", KEY[:-1], KEY + "x"):
        status, answer = server.ask("/get-online-features", body, key)
        assert (status, answer) == (401, {"detail": "the key is missing or wrong"})
        assert server.ask("/datasets/d/products/d%2F0/similar", None, key)[0] == 401
    assert server.ask("/health", key=None)[0] == 200
    assert KEY not in (server.folder / "log").read_text()


def test_nothing_can_be_written_or_searched_in_the_wrong_store(server: Server):
    for path in ("push", "write-to-online-store", "materialize", "materialize-incremental", "search", "chat", "docs"):
        assert server.ask(f"/{path}", {}, method="POST")[0] == 404
        assert server.ask(f"/{path}")[0] == 404


def test_mistakes_are_told_in_one_line(server: Server):
    ask = {"feature_service": "nothing_serving", "entities": {"product_id": ["d/0"]}}
    for body, code in (
        (ask, 404),
        ({**ask, "feature_service": "d_products_serving", "entities": {"colour": ["red"]}}, 400),
        ({"entities": 1}, 422),
    ):
        status, answer = server.ask("/get-online-features", body)
        assert status == code and answer["detail"] and "Traceback" not in str(answer)
    for path, code in (
        ("/datasets/d/products/d%2Fnobody/similar", 404),
        ("/datasets/e/products/d%2F0/similar", 404),
        ("/datasets/D%27/products/d%2F0/similar", 404),
        ("/datasets/d/products/d%2F0/similar?k=0", 422),
        ("/datasets/d/products/d%2F0/similar?k=101", 422),
    ):
        assert server.ask(path)[0] == code, path


def test_the_examples_ask_it(server: Server):
    env = os.environ | {"VITRINE_URL": server.url, "VITRINE_FEAST__API_KEY": KEY}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ranked = run(sys.executable, "examples/recommender_client.py", "d", "d/0", "d/1").splitlines()
    assert {line.split(" ", 1)[1] for line in ranked} == {"d/a b/ü?", "d/3"}
    shown = run("sh", "examples/recommender_client.sh", "d", "d/0").strip().splitlines()
    features, similar = (json.loads(line) for line in shown[-2:])
    assert vector(1) in [value for result in features["results"] for value in result["values"]]
    assert {row["product_id"] for row in similar["similar"]} == PRODUCTS.keys() - {"d/0"}
    env["VITRINE_FEAST__API_KEY"] = "another-key-of-letters"
    refused = subprocess.run(
        ["sh", "examples/recommender_client.sh", "d", "d/0"], cwd=PROJECT, env=env, capture_output=True, text=True
    )
    assert refused.returncode != 0 and "the key is missing or wrong" in refused.stdout


def test_a_promotion_is_followed_in_the_stated_time(server: Server):  # the last: what serves is another then
    serve_version(load_settings(server.folder), V2)
    until = time.monotonic() + FOLLOW_SECONDS + 1
    versions = []
    while time.monotonic() < until or versions[-1] != {V2}:
        rows = products(server, *PRODUCTS)
        versions.append({row["encoder_version"] for row in rows})
        of = {V1: 0, V2: 10}[rows[0]["encoder_version"]]
        assert [row["embedding"] for row in rows] == [vector(seed + of) for seed in PRODUCTS.values()]
        _, similar = server.ask(f"/datasets/d/products/{quote('d/a b/ü?', safe='')}/similar")
        assert similar["encoder_version"] in (V1, V2) and len(similar["similar"]) == 3
        assert time.monotonic() < until + 1, "the promotion was not followed"
    assert versions == sorted(versions, key=sorted)  # once, and for good


def test_without_a_key_it_listens_to_this_machine_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org"):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--host", host])
        assert ended.value.code == 2
    monkeypatch.setenv("VITRINE_FEAST__API_KEY", "too short")
    with pytest.raises(SystemExit) as ended:
        main(["serve"])
    assert ended.value.code == 2
