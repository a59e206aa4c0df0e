"""``POST /datasets/D/search``: a photo in, the nearest products of what serves out. A real home, server, promotion."""

import http.client
import json
import time
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.feature_server import FOLLOW_SECONDS, KEY, Server, serving
from tests.support.verbs_here import told
from vitrine import lake
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoders import bundle, kept_bundles
from vitrine.settings import Settings, load_settings

pytestmark = pytest.mark.slow
CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[encoders.other]
backbone = "torchvision/squeezenet1_0"
weights = "random:2"
input_size = 64

[embed]
precision = "fp32"
"""
PRODUCTS, PHOTOS = 6, 3
MOST_BYTES = 20 * 1024 * 1024
JPEG = "image/jpeg"


@pytest.fixture(scope="module")
def shop(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Six products of three photos by two encoders, the first of which serves."""
    root = tmp_path_factory.mktemp("search")
    (root / "vitrine.toml").write_text(CONFIG)
    for number in range(PRODUCTS):
        folder = root / "photos" / f"p{number}"
        folder.mkdir(parents=True)
        for photo in range(PHOTOS):
            (folder / f"{photo}.jpg").write_bytes(draw_photo(product(number), photo, size=160))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
        told("ingest", "photos", "--dataset", "shop")
        told("embed", "--dataset", "shop", "--encoder", "small", "--encoder", "other")
        serve_version("small")
        yield load_settings(root)


def serve_version(encoder: str) -> None:
    told("index", "--dataset", "shop", "--encoder", encoder)
    told("promote", encoder, "--dataset", "shop", "--force", "--reason", "a test")


@pytest.fixture(scope="module")
def server(shop: Settings) -> Iterator[Server]:
    with serving(Server(shop.root)) as found:
        yield found


@pytest.fixture
def search(server: Server) -> Callable[..., Any]:
    def ask(data: bytes, query: str = "", kind: str = JPEG) -> tuple[int, Any]:
        return server.search("shop", data, query, kind)

    return ask


def stored(settings: Settings, encoder: str) -> tuple[str, dict[str, tuple[str, np.ndarray]]]:
    """The version of ``encoder``, and by image: its product and its vector."""
    rows = lake.rows(
        settings,
        f"SELECT image_id, product_id, encoder_version, embedding FROM embeddings WHERE encoder = '{encoder}'",
    )
    vectors = {row["image_id"]: (row["product_id"], np.array(row["embedding"], np.float32)) for row in rows}
    return rows[0]["encoder_version"], vectors


def expected(vectors: dict[str, tuple[str, np.ndarray]], asked: str) -> list[tuple[str, str, float]]:
    """By NumPy: each image, its product, and its similarity to the image ``asked``, nearest first."""
    of = vectors[asked][1]
    scores = [(image, product, float(vector @ of)) for image, (product, vector) in vectors.items()]
    return sorted(scores, key=lambda row: -row[2])


def form(*files: bytes, name: str = "photo") -> tuple[bytes, str]:
    """A multipart form as browsers send it, and its media type."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n\r\n'
    parts = b"".join(head.encode() + data + b"\r\n" for data in files)
    return parts + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def test_the_nearest_products_of_a_catalogs_own_photo(shop: Settings, search: Callable[..., Any]):
    version, vectors = stored(shop, "small")
    for asked in ("shop/p0/0.jpg", "shop/p4/2.jpg"):
        data = (shop.root / "photos" / asked.removeprefix("shop/")).read_bytes()
        status, answer = search(data)
        assert status == 200 and answer["encoder_version"] == version
        ranked = expected(vectors, asked)
        nearest: dict[str, tuple[str, float]] = {}
        for image, of, similarity in ranked:
            nearest.setdefault(of, (image, similarity))
        assert [row["product_id"] for row in answer["nearest"]] == list(nearest)
        assert answer["nearest"][0]["similarity"] == pytest.approx(1, abs=1e-4)
        for row in answer["nearest"]:
            image, similarity = nearest[row["product_id"]]
            assert (row["image_id"], row["n_images"]) == (image, PHOTOS) and "category" in row
            assert row["similarity"] == pytest.approx(similarity, abs=1e-4)
        status, images = search(data, "?of=images&limit=5")
        assert status == 200 and images["encoder_version"] == version
        assert [(row["image_id"], row["product_id"]) for row in images["nearest"]] == [row[:2] for row in ranked[:5]]
        assert search(*form(data)[:1], "?limit=2", form(data)[1])[0] == 400  # of another boundary
        body, kind = form(data)
        assert search(body, "?limit=2", kind) == (200, answer | {"nearest": answer["nearest"][:2]})
    kept = kept_bundles.folder(shop, version)
    assert bundle.verify(kept, "small", version).least_cosine > 0.9999


def test_photos_are_checked_as_a_catalogs(shop: Settings, server: Server, search: Callable[..., Any]):
    photo = (shop.root / "photos" / "p0" / "0.jpg").read_bytes()
    huge, narrow = BytesIO(), BytesIO()
    Image.new("1", (20_000, 6_000)).save(huge, "PNG")
    Image.new("L", (60_000, 1)).save(narrow, "PNG")
    for data, code, said in (
        (b"", 422, "the file is empty"),
        (b"words", 415, "not a picture in a format read here"),
        (photo[:-300], 422, "the file ends before its picture does"),
        (huge.getvalue(), 413, "more than the limit of 100000000"),
        (narrow.getvalue(), 413, "too long and narrow"),
    ):
        for body, kind in ((data, JPEG), form(data)):
            status, answer = search(body, "", kind)
            assert status == code and said in answer["detail"] and "\n" not in answer["detail"], answer
    for body, kind in (
        form(),
        form(photo, photo),
        (b"x", "multipart/form-data"),
        (photo, "multipart/form-data; boundary=z"),
    ):
        status, answer = search(body, "", kind)
        assert status == 400 and answer["detail"].startswith("the form "), answer
    for query in ("?limit=0", "?limit=101", "?of=prices"):
        assert search(photo, query)[0] == 422
    assert server.send("/datasets/nothing/search", photo, JPEG)[0] == 404
    assert server.send("/datasets/D%27/search", photo, JPEG)[0] == 404
    assert server.send("/datasets/shop/search", photo, JPEG, key=None)[0] == 401
    assert server.ask("/datasets/shop/search")[0] == 405
    assert KEY not in (server.folder / "log").read_text()


def test_no_more_is_read_than_a_photo_may_have(server: Server):
    def send(headers: dict[str, str], chunks: list[bytes]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.putrequest("POST", "/datasets/shop/search")
        for name, value in (headers | {"Authorization": f"Bearer {KEY}", "Content-Type": JPEG}).items():
            connection.putheader(name, value)
        connection.endheaders()
        for chunk in chunks:
            connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    for headers, chunks in (
        ({"Content-Length": str(MOST_BYTES + 1)}, []),  # it is refused before it is sent
        ({"Transfer-Encoding": "chunked"}, [bytes(1024 * 1024)] * 20 + [b"x"]),
    ):
        status, answer = send(headers, chunks)
        assert status == 413 and "over the limit of 20,971,520" in answer["detail"]


def test_a_promotion_changes_the_encoder_and_interrupts_nothing(shop: Settings, search: Callable[..., Any]):  # the last
    data = (shop.root / "photos" / "p3" / "1.jpg").read_bytes()
    ranked = {}
    for encoder in ("small", "other"):
        version, vectors = stored(shop, encoder)
        ranked[version] = [row[0] for row in expected(vectors, "shop/p3/1.jpg")]
    before, after = ranked
    assert search(data)[1]["encoder_version"] == before
    serve_version("other")
    until = time.monotonic() + FOLLOW_SECONDS + 600  # the export is a process of its own, on a machine that has work
    versions: list[str] = []
    while not versions or versions[-1] != after:
        status, answer = search(data, "?of=images&limit=18")
        assert status == 200, answer
        versions.append(answer["encoder_version"])
        assert [row["image_id"] for row in answer["nearest"]] == ranked[versions[-1]]
        assert time.monotonic() < until, "the promotion was not followed"
        time.sleep(0.1)
    assert sorted(set(versions), key=versions.index) == [before, after] and versions.count(before) > 1
    assert versions == sorted(versions, key=[before, after].index)
    made = {path.name for path in kept_bundles.folder(shop, before).parent.iterdir()}
    assert made == {before, after}
