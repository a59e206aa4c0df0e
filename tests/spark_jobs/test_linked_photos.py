"""Nights of a feed of links: what is asked, what is kept, what stays when a server is away."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from feature_repo import definitions
from spark_jobs.embed_catalog import embed
from spark_jobs.ingest_catalog import ingest
from tests.support.photo_server import Page, PhotoServer, photo_server
from training.build_training_set import build_training_set
from training.training_set import open_part
from vitrine import feature_store, lake, photo_store
from vitrine.setting_sections import EmbedSettings, EncoderSettings, SourceSettings
from vitrine.settings import Settings

pytestmark = pytest.mark.usefixtures("spark")

SOURCES = SourceSettings(
    allow_hosts=("127.0.0.1", "localhost"), connect_seconds=2, total_seconds=1, retries=1, longest_wait=1, per_host=4
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PhotoServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with photo_server() as pages:
        yield pages


@pytest.fixture
def shop(settings: Settings) -> Settings:
    return settings.model_copy(update={"sources": SOURCES})


def jpeg(seed: int) -> bytes:
    data = io.BytesIO()
    colours = bytes((seed * 37 + at * (7 + seed)) % 256 for at in range(48))
    Image.frombytes("RGB", (4, 4), colours).resize((40, 30)).save(data, "JPEG")
    return data.getvalue()


def row(key: str, uri: str) -> dict[str, str]:
    return {"id": key, "link": uri, "sku": str(sum(key.encode()) % 2), "split": "train"}


def feed(path: Path, uris: dict[str, str]) -> str:
    path.write_text("".join(json.dumps(row(*pair)) + "\n" for pair in uris.items()))
    return str(path)


def night(settings: Settings, source: str, dataset: str = "d") -> dict[str, int]:
    columns = {"uri": "link", "product_id": "sku", "image_id": "id"}
    counts = ingest(settings, source, dataset, "table", columns=columns)
    return {name: count for name, count in counts.items() if count}


def catalog(settings: Settings) -> dict[str, dict[str, Any]]:
    return {row["image_id"]: row for row in lake.rows(settings, "SELECT * FROM catalog")}


def quarantine(settings: Settings) -> dict[str, str]:
    return {row["image_id"]: row["code"] for row in lake.rows(settings, "SELECT * FROM quarantine")}


def test_nights_of_a_feed(shop: Settings, tmp_path: Path, server: PhotoServer):
    kinds = ("etag", "date", "neither")
    for number in range(9):
        server.pages[f"{number}.jpg"] = Page(jpeg(number), validators=kinds[number % 3])
    server.pages["moved.jpg"] = Page(status=301, headers={"Location": "/8.jpg"})
    server.pages["words.jpg"] = Page(b"<html>no picture</html>")
    server.pages["gone.jpg"] = Page(status=410)
    server.pages["closed.jpg"] = Page(status=403)
    server.pages["slow.jpg"] = Page(jpeg(1), seconds=3)
    server.pages["lies.jpg"] = Page(jpeg(20), headers={"Content-Type": "text/html"})
    names = [*(f"{number}.jpg" for number in range(9)), "moved.jpg", "words.jpg", "gone.jpg", "closed.jpg", "slow.jpg"]
    uris = {name: server.url(name) for name in (*names, "lies.jpg", "none.jpg")}
    uris["login.jpg"] = server.url("0.jpg", "user:secret@127.0.0.1")
    uris["same.jpg"] = uris["7.jpg"]  # as feeds have a link for each size of a shoe
    source = feed(tmp_path / "feed.jsonl", uris)
    first = night(shop, source)
    assert server.asked["7.jpg"] == 1
    fetched = first.pop("fetched_bytes")
    assert first == {"images": 12, "added": 12, "quarantined": 6, "asked": 16}
    assert fetched == sum(len(jpeg(number)) for number in (*range(9), 8, 20)) + len(server.pages["words.jpg"].data)
    codes = {"words": "not_an_image", "gone": "http_410", "closed": "http_403", "slow": "too_slow", "none": "http_404"}
    codes = {f"d/{name}.jpg": code for name, code in codes.items()} | {"d/login.jpg": "login_data"}
    assert quarantine(shop) == codes
    assert "secret" not in "".join(map(str, lake.rows(shop, "SELECT * FROM quarantine")))
    row = catalog(shop)["d/1.jpg"]
    assert (row["uri"], row["content_sha256"]) == (uris["1.jpg"], hashlib.sha256(jpeg(1)).hexdigest())
    assert row["modified_at"].timestamp() == server.pages["1.jpg"].changed
    kept = {copy.content_sha256: copy.size for copy in photo_store.copies(shop)}
    assert kept == {row["content_sha256"]: row["size"] for row in catalog(shop).values()}
    path = Path(photo_store.readable(shop, row["uri"], row["content_sha256"]))
    assert path.read_bytes() == jpeg(1) and path.parent.parent.parent == shop.home / "photos"

    # A night without change: what has validators costs no bytes, what has none is not asked for a week.
    server.forget()
    before = catalog(shop)
    assert night(shop, source) == {
        "images": 12, "unchanged": 12, "quarantined": 6, "asked": 12, "not_modified": 7, "fetched_bytes": 23,
    }  # fmt: skip
    assert server.answers[304] == 7 and server.asked["2.jpg"] == 0 and catalog(shop) == before
    links = {row["image_id"]: row for row in lake.rows(shop, "SELECT * FROM links")}
    assert set(links) == set(before) and links["d/2.jpg"]["etag"] is None

    # One changed, one came back, one went, a copy was lost; those without validators are asked after their days.
    server.pages["0.jpg"].data = jpeg(30)
    server.pages["gone.jpg"] = Page(jpeg(31))
    server.pages["3.jpg"] = Page(status=404)
    path.unlink()
    soon = shop.model_copy(update={"sources": SOURCES.model_copy(update={"ask_again_days": 0})})
    server.forget()
    found = night(soon, source)
    assert found.pop("fetched_bytes") == sum(len(jpeg(number)) for number in (30, 31, 1, 2, 5, 8, 8)) + 23
    assert found == {
        **{"images": 12, "added": 1, "changed": 1, "unchanged": 10, "quarantined": 6, "removed": 1, "mended": 1},
        **{"asked": 16, "not_modified": 4},
    }
    del codes["d/gone.jpg"]
    assert quarantine(shop) == codes | {"d/3.jpg": "http_404"}
    assert path.read_bytes() == jpeg(1), "its copy was lost, and it was asked for again"
    assert "d/3.jpg" not in {row["image_id"] for row in lake.rows(shop, "SELECT image_id FROM links")}
    assert server.asked["0.jpg"] == server.asked["4.jpg"] == 1, "writing the catalog asks for nothing again"
    assert server.most_at_once <= SOURCES.per_host


def test_a_host_that_is_away_takes_nothing_away(shop: Settings, tmp_path: Path, server: PhotoServer):
    """As with folders: what cannot be asked is no reason to forget. New photos of it wait in quarantine."""
    quick = shop.model_copy(update={"sources": SOURCES.model_copy(update={"retries": 0})})
    with photo_server() as other:
        for number in range(8):
            server.pages[f"{number}.jpg"] = Page(jpeg(number))
            other.pages[f"{number}.jpg"] = Page(jpeg(10 + number))
        uris = {f"here{number}": server.url(f"{number}.jpg") for number in range(8)}
        uris |= {f"there{number}": other.url(f"{number}.jpg", "localhost") for number in range(8)}
        assert night(quick, feed(tmp_path / "feed", uris))["images"] == 16
        rows = catalog(shop)
        port = other.port
    server.pages["0.jpg"] = Page(status=404)
    uris["there8"] = f"http://localhost:{port}/8.jpg"
    figures = night(quick, feed(tmp_path / "feed", uris))
    assert figures | {"asked": 0} == {
        **{"images": 15, "unchanged": 15, "removed": 1, "quarantined": 2, "not_modified": 7, "away": 8, "asked": 0}
    }
    assert catalog(shop) == {name: row for name, row in rows.items() if name != "d/here0"}
    codes = quarantine(shop)
    assert codes.keys() == {"d/here0", "d/there8"} and codes["d/there8"] in ("unreachable", "host_away")

    # It limits how often it is asked, and answers some: those that it did not answer stay.
    with photo_server(port) as other:
        for number in range(9):
            other.pages[f"{number}.jpg"] = Page(jpeg(10 + number))
        left = iter(range(3))
        other.limit = lambda: None if next(left, None) is not None else 3600.0
        figures = night(quick, feed(tmp_path / "feed", uris))
        assert figures["images"] in (15, 16) and figures["away"] >= 5 and "removed" not in figures
        other.limit = lambda: None
        figures = night(quick, feed(tmp_path / "feed", uris))
        assert figures["images"] == 16 and "away" not in figures
        assert catalog(shop)["d/there8"]["content_sha256"] == hashlib.sha256(jpeg(18)).hexdigest()
    assert quarantine(shop) == {"d/here0": "http_404"}


def test_encoders_read_the_copies_and_ask_the_shop_for_lost_ones(
    shop: Settings, tmp_path: Path, server: PhotoServer, spark: Any
):

    small = {"backbone": "torchvision/squeezenet1_0", "input_size": 64}
    encoders = {name: EncoderSettings(**small, weights=f"random:{at}") for at, name in enumerate(("one", "two"))}
    shop = shop.model_copy(update={"encoders": encoders, "embed": EmbedSettings(batch_size=4, precision="fp32")})
    for number in range(8):
        server.pages[f"{number}.jpg"] = Page(jpeg(number))
    night(shop, feed(tmp_path / "feed", {f"{number}.jpg": server.url(f"{number}.jpg") for number in range(8)}))
    server.forget()
    assert embed(shop, "one", "d")["embedded"] == 8
    assert not server.asked, "vectors are computed from the copies"
    feature_store.apply(feature_store.open_store(shop), definitions.objects(shop))
    made = build_training_set(shop, spark, "d")
    uris = open_part(made.folder, "train").to_table(columns=["uri"])["uri"].to_pylist()
    assert {Path(uri).read_bytes() for uri in uris} <= {jpeg(number) for number in range(8)}

    lost, damaged = (
        Path(photo_store.place(shop.photos, catalog(shop)[f"d/{n}.jpg"]["content_sha256"])) for n in (0, 1)
    )
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"damaged!!")
    figures = embed(shop, "two", "d")
    assert (figures["embedded"], figures["quarantined"]) == (8, 0)
    assert server.asked == {"0.jpg": 1, "1.jpg": 1}


def test_nights_of_photos_in_a_column(shop: Settings, tmp_path: Path, spark: Any):
    """Parquet as Hugging Face has it, then Delta."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

    def write(*contents: bytes) -> None:
        photos = [{"bytes": data, "path": f"{number}.jpg"} for number, data in enumerate(contents)]
        table = pa.table({"image": pa.array(photos, kind), "label": [number % 2 for number in range(len(photos))]})
        pq.write_table(table, tmp_path / "train.parquet")

    def ingested(source: str, dataset: str) -> dict[str, int]:
        counts = ingest(shop, source, dataset, "table", columns={"product_id": "label"})
        return {name: count for name, count in counts.items() if count}

    write(jpeg(0), jpeg(1), b"no picture")
    assert ingested("train.parquet", "d") == {"images": 2, "added": 2, "quarantined": 1}
    rows = catalog(shop)
    assert rows["d/1.jpg"]["uri"] == f"inside:{tmp_path}/train.parquet#1.jpg" and rows["d/1.jpg"]["width"] == 40
    assert quarantine(shop) == {"d/2.jpg": "not_an_image"}
    write(jpeg(0), jpeg(5), jpeg(2))
    assert ingested("train.parquet", "d") == {"images": 3, "added": 1, "changed": 1, "unchanged": 1, "mended": 1}
    assert ingested("train.parquet", "d") == {"images": 3, "unchanged": 3}
    spark.read.parquet(str(tmp_path / "train.parquet")).write.format("delta").save(str(tmp_path / "delta"))
    assert ingested("delta", "e") == {"images": 3, "added": 3}
    assert catalog(shop)["e/1.jpg"]["uri"] == f"inside:{tmp_path}/delta#1.jpg"
    assert len(list(photo_store.copies(shop))) == 5, "one of each content"
    small = {"one": EncoderSettings(backbone="torchvision/squeezenet1_0", input_size=64, weights="random:1")}
    made = embed(shop.model_copy(update={"encoders": small}), "one", "d")
    assert (made["embedded"], made["quarantined"]) == (3, 0)


def test_nothing_of_a_store_is_asked_for_where_there_is_no_link(settings: Settings):
    assert photo_store.readable(settings, "/photos/a.jpg", "ab" * 32) == "/photos/a.jpg"
    assert not list(photo_store.copies(settings))
