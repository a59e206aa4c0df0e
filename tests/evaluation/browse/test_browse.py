"""The browsing page: what it computes, and what a real browser shows of it."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from evaluation.browse.address import Address, TagAddress
from evaluation.browse.catalog import Catalog, read_candidates, read_catalog
from evaluation.browse.outcomes import Outcomes
from evaluation.browse.photo_cache import PhotoCache
from evaluation.browse.search import Vectors, nearest
from evaluation.browse.site import NothingToShow, Query, Site, Snapshot, TagSnapshot
from evaluation.browse.uploads import Uploads
from tests.support.project import PROJECT
from vitrine import images, lake, photo_files, tables
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

CHROMIUM = Path("/usr/bin/chromium")
EVIL = "<script>window.evil = 1</script>"
EVIL_FILE = '"><img src=x onerror="window.evil = 1">.jpg'
TOML = """
[encoders.bold]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64
[encoders.plain]
backbone = "torchvision/squeezenet1_0"
weights = "random:2"
input_size = 64
"""


# ---- a small shop: 8 products of 3 photos, one of them named by an enemy; two encoders, evaluated ----


def shop(root: Path) -> Settings:
    from vitrine.encoders import by_name

    (root / "vitrine.toml").write_text(TOML)
    settings = load_settings(root)
    rows = catalog_rows(root / "photos")
    lake.append(settings, tables.CATALOG, rows)
    for name in ("bold", "plain"):
        version = by_name.version(settings, name)
        vectors = embed(settings, name, version, rows)
        evaluated(settings, name, version, rows, vectors)
    serving = {"dataset": "shop", "promoted_at": lake.now(), "encoder": "bold", "catalog_version": "c", "gates": "{}"}
    version = by_name.version(settings, "bold")
    lake.append(settings, tables.PROMOTIONS, [serving | {"encoder_version": version, "forced": False}])
    lake.append(settings, tables.TAGS, tag_rows(rows, version))
    return settings


def tag_rows(photos: list[dict[str, Any]], encoder_version: str) -> list[dict[str, Any]]:
    """Of four photos: sure tags that labels disagree with, one of them an enemy's; an unsure one; one unlike all."""
    same = {"label": "category", "dataset": "shop", "runner_up": "other", "classifier_version": "c"}
    same |= {"encoder_version": encoder_version, "tagged_at": lake.now()}
    said = [("wrong kind", 0.97, None), (EVIL, 0.99, None), ("kind", 0.41, "unsure")]
    said += [("kind", 0.6, "unlike anything learned")]
    return [
        same
        | {name: photos[at][name] for name in ("image_id", "content_sha256")}
        | {"value": value, "probability": probability, "reason": reason, "abstained": reason is not None}
        for at, (value, probability, reason) in zip((0, 21, 3, 6), said, strict=True)
    ]


def catalog_rows(folder: Path) -> list[dict[str, Any]]:
    from vitrine.datasets.drawn.photos import draw_photo, product

    folder.mkdir()
    rows = []
    for number in range(8):
        item = product(number)
        named = EVIL if number == 7 else item.slug
        for photo in range(3):
            file = EVIL_FILE if number == 7 and photo == 0 else f"{photo:02d}.jpg"
            path = folder / f"{number}-{file}"
            path.write_bytes(draw_photo(item, photo, size=96))
            checked = photo_files.check(str(path))
            rows.append(
                {
                    **{"image_id": f"shop/{named}/{file}", "dataset": "shop", "product_id": f"shop/{named}"},
                    **{"category": "evil & co" if number == 7 else item.kind, "uri": str(path)},
                    **{
                        name: getattr(checked, name)
                        for name in ("size", "modified_at", "content_sha256", "width", "height")
                    },
                    **dict.fromkeys(("content_seen_at", "updated_at"), lake.now()),
                    "attributes": {"made_in": EVIL if photo == 0 else "Oslo"} if number else None,
                }
            )
    return rows


def embed(settings: Settings, name: str, version: str, rows: list[dict[str, Any]]) -> np.ndarray:
    """The vectors, (N, D), and their rows: as the job does it, without Spark."""
    uploads, when = Uploads(settings), lake.now()
    labels = ("image_id", "dataset", "product_id", "category", "content_sha256")
    made = {"encoder": name, "encoder_version": version, "event_timestamp": when, "created_timestamp": when}
    vectors = [uploads._forward(Path(row["uri"]).read_bytes(), name) for row in rows]
    new = [
        {key: row[key] for key in labels} | made | {"embedding": vector.tolist()}
        for row, vector in zip(rows, vectors, strict=True)
    ]
    lake.append(settings, tables.EMBEDDINGS, new)
    about = {"state": "nightly", "backbone": "torchvision/squeezenet1_0", "family": "supervised"}
    about |= {"strategy": "pretrained", "dim": len(vectors[0]), "weights_uri": "random", "licence": "none"}
    lake.append(settings, tables.ENCODERS, [about | {"encoder": name, "encoder_version": version, "created_at": when}])
    return np.array(vectors)


def evaluated(settings: Settings, name: str, version: str, rows: list[dict[str, Any]], vectors: np.ndarray) -> None:
    """The rows of an evaluation that leaves one out, one query at a time."""
    key = {"encoder_version": version, "dataset": "shop", "catalog_version": "c", "relevant": "product_id"}
    key |= {"query_split": "all", "index_split": "all"}
    results, products = [], [row["product_id"] for row in rows]
    for at, cosines in enumerate(vectors @ vectors.T):
        ranked = [int(one) for one in np.argsort(-cosines) if one != at]
        results.append(
            key
            | {
                "query_id": rows[at]["image_id"],
                "neighbours": [rows[one]["image_id"] for one in ranked],
                "similarities": [float(cosines[one]) for one in ranked],
                "relevance": [products[one] == products[at] for one in ranked],
                "n_relevant": products.count(products[at]) - 1,
            }
        )
    lake.append(settings, tables.QUERY_RESULTS, results)
    figure = {"encoder": name, "classifier": "", "slice": "all", "seed": 0, "metric": "mR@1", "run_id": "r"}
    figure |= {"value": 0.5, "queries": len(rows), "queries_left_out": 0, "index_size": len(rows)}
    lake.append(settings, tables.METRICS, [key | figure | {"computed_at": lake.now()}])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def site(home: Settings) -> Site:
    return Site(home)


def catalog(**of: list[Any]) -> Catalog:
    ids = [f"shop/{at}" for at in range(len(of["products"]))]
    none = [None] * len(ids)
    named = (np.array(of.get(name, none), dtype=object) for name in ("products", "categories", "splits"))
    return Catalog("shop", ids, *named, uris=ids, contents=ids)


# ---- what it computes ----


def test_neighbours_are_those_of_brute_force_without_the_query_and_in_the_category_alone() -> None:
    noise = np.random.default_rng(0)
    matrix = noise.normal(size=(300, 16)).astype(np.float32)
    matrix[7] = matrix[8]
    photos = catalog(products=list(range(300)), categories=["even" if at % 2 == 0 else "odd" for at in range(300)])
    order = np.argsort(np.array(photos.ids, dtype=object))
    vectors = Vectors(np.array(photos.ids, dtype=object)[order], matrix[order])
    for category, chosen in (("", range(300)), ("even", range(0, 300, 2))):
        labels = {"category": category} if category else {}
        near = nearest(photos, vectors, matrix[4], photos.within(labels), 10, "shop/4")
        others = [at for at in chosen if at != 4]
        expected = sorted(others, key=lambda at: (-float(matrix[at] @ matrix[4]), photos.ids[at]))[:10]
        assert near.positions.tolist() == expected
        assert near.searched == len(others)
        assert near.similarities == pytest.approx([matrix[at] @ matrix[4] for at in expected], rel=1e-5)


def test_a_photo_that_left_the_catalog_is_no_neighbour() -> None:
    photos = catalog(products=["a", "b"])
    vectors = Vectors(np.array(["shop/0", "shop/1", "shop/gone"], dtype=object), np.eye(3, dtype=np.float32))
    near = nearest(photos, vectors, np.ones(3, np.float32), photos.within(), 5, "shop/0")
    assert near.positions.tolist() == [1]


def test_a_search_by_name_lists_what_begins_with_it_first_and_no_more_than_asked() -> None:
    photos = catalog(products=["shop/a hat", "shop/hat 2", "shop/mug", "shop/HAT 1"])
    assert [photo.product_id for photo in photos.like("Hat", 50)] == ["shop/hat 2", "shop/HAT 1", "shop/a hat"]
    assert len(photos.like("hat", 2)) == 2
    assert photos.like("  ", 50) == []


def test_queries_that_differ_are_those_that_all_were_asked_and_not_all_answered_alike() -> None:
    outcomes = Outcomes("product_id", right={"a": {"1": True, "2": True, "3": False}, "b": {"1": True, "2": False}})
    assert outcomes.differing(["a", "b", "never evaluated"]) == {"2"}
    assert outcomes.differing(["a"]) == set()
    assert outcomes.wrong("a") == {"3"}


def test_an_address_says_all_of_a_page_whatever_its_names_are() -> None:
    address = Address(dataset="shop", image=f"shop/{EVIL}/{EVIL_FILE}#?&\n../x", category="a & b")
    for label, value in (("colour", EVIL), ("brand", "a=b&c")):
        address = replace(address, **address.choosing(label, value))
    assert address.labels == {"category": "a & b", "colour": EVIL, "brand": "a=b&c"}
    assert Address.read(dict(httpx.URL(address.link()).params)) == address
    fewer = replace(address, **address.choosing("colour", ""), **address.choosing("category", ""))
    assert fewer.labels == {"brand": "a=b&c"}


def test_wrong_queries_are_those_whose_first_neighbour_is_another_product(site: Site) -> None:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    for one in snapshot.candidates.shown:
        wrong = snapshot.outcomes.wrong(one.encoder_version)
        for image_id in snapshot.catalog.ids:
            near = site.search(snapshot, Query(image_id=image_id), one)
            assert not isinstance(near, str)
            first = snapshot.catalog.photo(int(near.positions[0]))
            photo = snapshot.catalog.find(image_id)
            assert photo and (first.product_id != photo.product_id) == (image_id in wrong)


def test_what_serves_is_shown_first_and_only_what_is_asked_for(home: Settings) -> None:
    at = {table.name: lake.version(home, table) for table in (tables.ENCODERS, tables.EMBEDDINGS)}
    assert [(one.encoder, one.serves) for one in read_candidates(home, at, "shop").shown] == [
        ("bold", True),
        ("plain", False),
    ]
    assert [one.encoder for one in read_candidates(home, at, "shop", asked=("plain",)).shown] == ["plain"]
    fewer = read_candidates(home, at, "shop", most=1)
    assert (len(fewer.shown), fewer.left_off) == (1, 1)


def test_an_uploaded_photo_of_the_catalog_finds_itself(site: Site) -> None:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    photo = snapshot.catalog.photo(5)
    upload = site.uploads.find(site.uploads.take("x.jpg", Path(photo.uri).read_bytes()))
    for one in snapshot.candidates.shown:
        near = site.search(snapshot, Query(upload=upload), one)
        assert not isinstance(near, str)
        assert near.positions[0] == 5
        assert near.similarities[0] == pytest.approx(1, abs=1e-5)


def test_an_upload_by_an_encoder_that_is_another_version_by_now_is_refused(home: Settings, site: Site) -> None:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    other = home.model_copy(update={"encoders": {"bold": home.encoders["plain"], "plain": home.encoders["plain"]}})
    uploads = Uploads(other)
    upload = uploads.find(uploads.take("x.jpg", Path(snapshot.catalog.uris[0]).read_bytes()))
    assert upload
    with pytest.raises(UserError, match=r"encoder 'bold' is version .* by now"):
        uploads.vector(upload, snapshot.candidates.shown[0])


def test_uploads_are_pictures_and_only_the_last_are_kept(home: Settings) -> None:
    uploads, picture = Uploads(home), BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    with pytest.raises(images.ImageError, match="not a picture"):
        uploads.take("x.jpg", b"hello")
    tokens = [uploads.take("x.png", picture.getvalue()) for _ in range(9)]
    assert [uploads.find(token) is None for token in tokens] == [True] + 8 * [False]


def test_thumbnails_are_kept_up_to_a_size_and_not_of_a_file_that_changed(tmp_path: Path, home: Settings) -> None:
    settings = home.model_copy(update={"home": tmp_path})
    photos = read_catalog(home, {"catalog": lake.version(home, tables.CATALOG)}, "shop")
    cache = PhotoCache(settings, most_bytes=10_000)
    first = cache.jpeg(photos.photo(0), "small")
    assert Image.open(BytesIO(first)).size <= (256, 256)
    kept = list(tmp_path.rglob("*.jpg"))
    assert [path.read_bytes() for path in kept] == [first]
    kept[0].write_bytes(b"kept")
    assert cache.jpeg(photos.photo(0), "small") == b"kept"
    changed = photos.photo(1).__class__(**{**vars(photos.photo(1)), "content_sha256": "another"})
    cache.jpeg(changed, "small")
    assert len(list(tmp_path.rglob("*.jpg"))) == 1
    for at in range(2, 20):
        cache.jpeg(photos.photo(at), "large")
    cache.prune()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.jpg")) <= 10_000


def test_a_page_follows_the_tables(settings: Settings, home: Settings) -> None:
    site = Site(settings)
    nothing = site.snapshot("")
    assert isinstance(nothing, NothingToShow) and "vitrine ingest" in nothing.commands[0]
    rows = lake.rows(home, "SELECT * FROM catalog")
    lake.append(settings, tables.CATALOG, rows)
    bare = site.snapshot("shop")
    assert isinstance(bare, NothingToShow)
    assert bare.commands == ("vitrine embed --encoder efficientnet_lite0 --dataset shop",)
    other = site.snapshot("other")
    assert isinstance(other, NothingToShow) and other.title == "No data set 'other'"


def test_a_page_of_tags_is_what_is_to_be_looked_at_first(home: Settings, site: Site) -> None:
    shown = site.tags(TagAddress())
    assert isinstance(shown, TagSnapshot)
    assert shown.address == TagAddress("shop", "category", "review", "")
    assert [(tag.tag, round(tag.probability, 2), tag.outcome) for tag in shown.page.tags] == [
        (EVIL, 0.99, "disagrees"),
        ("wrong kind", 0.97, "disagrees"),
    ]
    all_of_them = site.tags(TagAddress(kind="all", page="0"))
    assert isinstance(all_of_them, TagSnapshot) and all_of_them.page.total == 4
    far = site.tags(TagAddress(kind="unlike"))
    assert isinstance(far, TagSnapshot) and [tag.reason for tag in far.page.tags] == ["unlike anything learned"]
    past = site.tags(TagAddress(kind="all", page="7"))
    assert isinstance(past, TagSnapshot) and not past.page.tags and past.page.total == 4
    (tag,) = site.photo_tags("shop", far.page.tags[0].image_id).values()
    assert (tag.tag, tag.reason) == ("kind", "unlike anything learned")
    assert site.photo_tags("shop", "shop/none") == {}


def test_tags_follow_their_table(settings: Settings, home: Settings) -> None:
    site = Site(settings)
    lake.append(settings, tables.CATALOG, lake.rows(home, "SELECT * FROM catalog"))
    nothing = site.tags(TagAddress())
    assert isinstance(nothing, NothingToShow) and nothing.commands == ("vitrine tag --dataset shop --label category",)
    lake.append(settings, tables.TAGS, lake.rows(home, "SELECT * FROM tags"))
    assert isinstance(site.tags(TagAddress()), TagSnapshot)


# ---- in a browser ----


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Start ``vitrine browse`` on a home; returns the page's address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, *arguments: str) -> str:
        port = free_port()
        # NiceGUI behaves otherwise where it takes itself for a test.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= {"PYTHONPATH": str(PROJECT), "VITRINE_HOME": str(folder / ".vitrine")}
        log = (tmp_path_factory.mktemp("log") / "log").open("wb")
        command = [sys.executable, "-m", "vitrine", "browse", "--port", str(port), *arguments]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        started.append(process)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            assert process.poll() is None, Path(log.name).read_text()
            time.sleep(0.1)
        raise AssertionError(Path(log.name).read_text())

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(home: Settings, serve: Callable[..., str]) -> str:
    return serve(home.root)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """A page that is asked nothing of another host, logs no error and runs no enemy's script."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, base_url=address)
    page.set_default_timeout(90_000)  # the first upload loads torch and two networks
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    at_home = {"", host_of(address)}
    page.on("request", lambda asked: None if host_of(asked.url) in at_home else wrong.append(asked.url))
    page.on("websocket", lambda opened: None if host_of(opened.url) in at_home else wrong.append(opened.url))
    yield page
    assert page.evaluate("window.evil") is None
    page.close()
    assert wrong == []


def host_of(url: str) -> str:
    return "" if url.startswith(("data:", "blob:")) else httpx.URL(url).netloc.decode()


def searched(page: Any) -> None:
    """Wait until each encoder's row has its neighbours."""
    page.wait_for_function("document.querySelectorAll('.encoder').length == 2")
    page.wait_for_function("document.querySelectorAll('.near').length == 2")


def near(page: Any, encoder: str) -> list[str]:
    """The alternative texts of an encoder's neighbours."""
    row = page.get_by_role("region", name=f"By {encoder}")
    return [picture.get_attribute("alt") for picture in row.locator(".near img").all()]


def expected(site: Site, image_id: str, encoder: str) -> list[str]:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    by = next(one for one in snapshot.candidates.shown if one.encoder == encoder)
    near = site.search(snapshot, Query(image_id=image_id), by)
    assert not isinstance(near, str)
    return [snapshot.catalog.photo(int(at)).product_id for at in near.positions]


def test_a_photo_found_by_name_shows_its_neighbours_by_each_encoder(page: Any, site: Site) -> None:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    image_id = snapshot.catalog.ids[4]
    page.goto("/")
    page.get_by_label("Product or photo id").fill(image_id.removeprefix("shop/"))
    page.locator(".hit").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    searched(page)
    assert Address.read(dict(httpx.URL(page.url).params)).image == image_id
    product = snapshot.catalog.products[4]
    for encoder in ("bold", "plain"):
        texts = [
            f"Nearest {rank}, {'right' if one == product else 'wrong'}: {one}"
            for rank, one in enumerate(expected(site, image_id, encoder), 1)
        ]
        assert near(page, encoder) == texts
    assert page.get_by_role("region", name="By bold").get_by_text("Serves now").count() == 1
    for picture in page.locator("img").all():
        picture.scroll_into_view_if_needed()
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_back_leads_to_the_photo_before_and_an_address_can_be_sent_on(page: Any) -> None:
    page.goto("/")
    page.locator(".offer .shot").first.click()
    searched(page)
    first, title = page.url, page.locator("h2").inner_text()
    page.locator(".near .shot").nth(3).click()
    page.wait_for_function("before => location.href != before", arg=first)
    searched(page)
    page.go_back()
    page.wait_for_function("title => document.querySelector('h2')?.innerText == title", arg=title)
    assert page.url == first
    page.goto(first)
    searched(page)
    assert page.locator("h2").inner_text() == title


def test_a_category_restricts_what_is_offered_and_what_is_searched(page: Any, site: Site) -> None:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    category = snapshot.catalog.categories[0]
    ids = {i for i, of in zip(snapshot.catalog.ids, snapshot.catalog.categories, strict=True) if of == category}
    page.goto("/?dataset=shop")
    page.get_by_label("Category").click()
    page.get_by_role("option", name=category, exact=True).click()
    page.wait_for_function("n => document.querySelectorAll('.offer .shot').length == n", arg=len(ids))
    shown = page.locator(".offer .id").evaluate_all("all => all.map(one => one.title)")
    assert set(shown) == ids
    page.locator(".offer .shot").first.click()
    searched(page)
    page.get_by_text("Search in this category alone").click()
    page.wait_for_function("n => document.querySelectorAll('.near .shot').length == n", arg=2 * (len(ids) - 1))
    assert "alone=1" in page.url


def test_attributes_restrict_it_too_and_are_shown(page: Any, site: Site) -> None:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    assert snapshot.catalog.choices["made_in"] == sorted([EVIL, "Oslo"])
    page.goto(Address(dataset="shop").link())
    page.get_by_label("Made in").click()
    page.get_by_role("option", name=EVIL, exact=True).click()
    page.wait_for_function("document.querySelectorAll('.offer .shot').length == 7")
    page.locator(".offer .shot").first.click()
    searched(page)
    assert EVIL in page.locator(".facts dd").all_inner_texts()
    page.get_by_text("Search among these alone").click()
    page.wait_for_function("n => document.querySelectorAll('.near .shot').length == n", arg=2 * 6)
    category = str(snapshot.catalog.categories[0])
    page.goto(Address(dataset="shop", category=category, where="made_in=Bergen").link())
    page.get_by_text(f"No photo is of made_in Bergen and category {category}.").wait_for()


def test_a_random_wrong_query_is_one_that_the_served_encoder_got_wrong(page: Any, site: Site) -> None:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    wrong = snapshot.outcomes.wrong(snapshot.candidates.shown[0].encoder_version)
    page.goto("/?dataset=shop")
    page.get_by_role("button", name="Random wrong query").click()
    searched(page)
    assert Address.read(dict(httpx.URL(page.url).params)).image in wrong
    assert ", wrong: " in near(page, "bold")[0]
    before = page.url
    page.get_by_role("button", name="Where they differ").click()
    page.wait_for_function("before => location.href != before", arg=before)
    searched(page)
    assert (", wrong: " in near(page, "bold")[0]) != (", wrong: " in near(page, "plain")[0])


def test_an_upload_is_searched_and_a_hostile_name_is_text(page: Any, site: Site) -> None:
    snapshot = site.snapshot("shop")
    assert isinstance(snapshot, Snapshot)
    photo = snapshot.catalog.photo(3)
    file = {"name": EVIL_FILE, "mimeType": "image/jpeg", "buffer": Path(photo.uri).read_bytes()}
    page.goto("/?dataset=shop")
    page.locator("input[type=file]").set_input_files(file)
    searched(page)
    assert near(page, "bold")[0] == f"Nearest 1: {photo.product_id}"
    assert page.locator(".facts dd").first.inner_text().endswith(".jpg")
    assert page.locator("img[src=x]").count() == 0


def test_a_bad_upload_gives_its_reason(page: Any) -> None:
    page.goto("/?dataset=shop")
    file = {"name": EVIL_FILE, "mimeType": "image/jpeg", "buffer": b"no picture at all"}
    page.locator("input[type=file]").set_input_files(file)
    reason = page.get_by_role("alert").filter(has_text="not a picture in a format read here")
    reason.wait_for()
    assert "onerror" in reason.inner_text()


def test_a_hostile_product_name_is_text(page: Any) -> None:
    page.goto(Address(dataset="shop", image=f"shop/{EVIL}/{EVIL_FILE}").link())
    searched(page)
    assert page.locator("h2").inner_text() == EVIL
    assert EVIL in page.title()
    page.wait_for_function("document.querySelector('.large img').naturalWidth > 0")
    page.goto(Address(dataset="shop", category="evil & co").link())
    page.locator(".offer .shot").first.wait_for()
    page.get_by_label("Product or photo id").fill("<script>")
    page.locator(".hit").first.wait_for()


def test_tags_are_shown_with_their_photos_and_lead_to_them(page: Any) -> None:
    page.goto("/")
    page.get_by_role("link", name="Tags").click()
    page.locator(".tags .shot").first.wait_for()
    assert [text.splitlines()[0] for text in page.locator(".tags .caption .id").all_inner_texts() if EVIL in text]
    assert "wrong kind 0.970" in page.locator(".tags").inner_text().replace("\n", " ")
    page.get_by_role("link", name="All", exact=True).click()
    page.wait_for_function("document.querySelectorAll('.tags .shot').length == 4")
    text = page.locator(".tags").inner_text()
    assert "unsure" in text and "unlike anything learned" in text and "disagrees: " in text
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    page.locator(".tags .shot").nth(1).click()
    searched(page)
    assert "Tag: category" in page.locator(".facts").inner_text()
    page.goto("/tags?dataset=none")
    page.get_by_text("No data set 'none'").wait_for()


def test_a_photo_that_is_not_there_is_said(page: Any) -> None:
    page.goto("/?dataset=shop&image=shop/../../etc/passwd")
    page.get_by_role("alert").filter(has_text="There is no photo").wait_for()
    page.goto("/?dataset=none")
    page.get_by_text("No data set 'none'").wait_for()


def test_it_fits_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/?dataset=shop")
    page.locator(".offer .shot").first.click()
    searched(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_empty_home_says_which_command_comes_next(tmp_path: Path, serve: Callable[..., str], chromium: Any) -> None:
    page = chromium.new_page()
    page.goto(f"{serve(tmp_path)}/")
    page.get_by_text("vitrine ingest PHOTOS --dataset shop").wait_for()
    page.close()


# ---- who may ask ----


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/", {"host": "localhost:1"}, 200),
        ("/", {"host": "evil.example"}, 400),
        ("/", {"origin": "http://evil.example"}, 403),
        ("/_nicegui_ws/socket.io/?EIO=4&transport=polling", {"origin": "http://evil.example"}, 403),
        ("/thumb/shop?id=shop/none", {}, 404),
        ("/thumb/shop?id=../../etc/passwd", {}, 404),
        ("/thumb/other?id=x", {}, 404),
        ("/uploaded/guessed", {}, 404),
    ],
)
def test_only_pages_of_this_server_are_answered(address: str, path: str, headers: dict[str, str], status: int) -> None:
    answer = httpx.get(address + path, headers=headers)
    assert answer.status_code == status
    if status == 200:
        policy = answer.headers["content-security-policy"]
        assert not re.search(r"https?:|\*", policy) and "default-src 'none'" in policy


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(address: str) -> None:
    host = host_of(address)
    with socket.create_connection(tuple(host.split(":"))) as connection:
        connection.sendall(f"POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_port_that_is_taken_is_said(address: str, home: Settings) -> None:
    from evaluation.browse.server import check_port

    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port} .*choose another with --port"):
        check_port(port)
