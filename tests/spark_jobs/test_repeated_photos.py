"""Feeds of shops, ingested: photos that several items list are one photo of one product."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from spark_jobs.ingest_catalog import ingest
from tests.support.photo_server import Page, PhotoServer, photo_server
from vitrine import lake
from vitrine.errors import UserError
from vitrine.setting_sections import SourceSettings
from vitrine.settings import Settings

pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PhotoServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with photo_server() as pages:
        for number, name in enumerate(("green", "blue", "back", "mug", "cap")):
            data = io.BytesIO()
            Image.new("RGB", (8, 8), (number * 40, 99, 7)).save(data, "PNG")
            pages.pages[f"{name}.png"] = Page(data.getvalue())
        yield pages


@pytest.fixture
def shop(settings: Settings) -> Settings:
    return settings.model_copy(update={"sources": SourceSettings(allow_hosts=("127.0.0.1",), retries=0)})


def rows(settings: Settings, table: str, *columns: str) -> set[tuple[str | None, ...]]:
    return {tuple(row[name] for name in columns) for row in lake.rows(settings, f"SELECT * FROM {table}")}


def test_variants_of_a_google_feed(shop: Settings, tmp_path: Path, server: PhotoServer):
    """Sizes share photos, of which each is asked for once; what sizes say differently no photo is said to be."""

    def line(key: str, group: str, links: str, category: str = "", label: str = "") -> str:
        first, _, others = links.partition(" ")
        others = ",".join(server.url(f"{name}.png") for name in others.split())
        return f"{key}\t{group}\t{server.url(f'{first}.png') if first else ''}\t{others}\t{category}\t{label}\n"

    feed = tmp_path / "feed"
    feed.mkdir()
    header = "id\titem_group_id\timage_link\tadditional_image_link\tproduct_type\tcustom_label_0\n"
    (feed / "a.tsv").write_text(
        header + line("1-s", "1", "green back", "Shirts", "train") + line("1-m", "1", "green back blue", "", "test")
    )
    (feed / "b.tsv").write_text(
        header
        + line("1-l", "1", "green", "", "")
        + line("1-xl", "1", "", "", "")
        + line("2", "", "mug green", "Mugs", "train")
        + line("2-b", "2", "mug", "Cups", "train")
        + line("3", "", "")
        + line("3-b", "3", "")
        + "\t\t\t\t\t\n"
    )
    counts = ingest(shop, str(feed), "d", "google_feed", columns={"split": "custom_label_0"})
    expected = {"images": 5, "added": 5, "quarantined": 1, "blank_rows": 1, "asked": 4}
    assert {name: counts[name] for name in expected} == expected
    url = server.url("")
    assert rows(shop, "catalog", "image_id", "product_id", "category", "split") == {
        (f"d/1/{url}green.png", "d/1", "Shirts", None),
        (f"d/1/{url}back.png", "d/1", "Shirts", None),
        (f"d/1/{url}blue.png", "d/1", "Shirts", "test"),
        (f"d/2/{url}mug.png", "d/2", None, "train"),
        (f"d/2/{url}green.png", "d/2", "Mugs", "train"),
    }
    assert rows(shop, "quarantine", "image_id", "code") == {("d/3", "no_photo")}
    assert server.asked["green.png"] == 1
    again = ingest(shop, str(feed), "d", "google_feed", columns={"split": "custom_label_0"})
    assert again["unchanged"] == 5 and again["removed"] == again["quarantined"] - 1 == 0


def test_attributes_that_sizes_agree_on(shop: Settings, tmp_path: Path, server: PhotoServer):
    """What a photo's sizes say differently it has not; what none of them says it has of its product."""
    green, blue, back = (server.url(f"{name}.png") for name in ("green", "blue", "back"))
    path = tmp_path / "feed.tsv"
    path.write_text(
        "id\titem_group_id\timage_link\tadditional_image_link\tcolor\tsize\tbrand\n"
        f"1\tg\t{green}\t{back}\tGreen\tS\tAcme\n"
        f"2\tg\t{green}\t{back}\tGreen\tM\t\n"
        f"3\tg\t{blue}\t{back}\tBlue\tM\t\n"
    )
    ingest(shop, str(path), "d", "google_feed", attributes={"colour": "color", "size": "size", "brand": "brand"})
    found = {row["uri"]: dict(row["attributes"]) for row in lake.rows(shop, "SELECT * FROM catalog")}
    assert found == {
        green: {"brand": "Acme", "colour": "Green"},
        blue: {"brand": "Acme", "colour": "Blue", "size": "M"},
        back: {"brand": "Acme"},
    }


def test_shopifys_lines_are_one_product(shop: Settings, tmp_path: Path, server: PhotoServer):
    green, blue, cap = (server.url(f"{name}.png") for name in ("green", "blue", "cap"))
    path = tmp_path / "products_export.csv"
    path.write_text(
        "Handle,Title,Type,Image Src,Image Position,Variant Image\n"
        f"shirt,A shirt,Shirts,{green},1,{blue}\nshirt,,,{blue},2,\nshirt,,,,,{blue}\n"
        f"cap,A cap,,{cap},1,\ngift,A gift card,,,,\n"
    )
    counts = ingest(shop, str(path), "d", "shopify")
    assert (counts["images"], counts["asked"], counts["quarantined"]) == (3, 3, 1)
    assert rows(shop, "catalog", "uri", "product_id", "category") == {
        (green, "d/shirt", "Shirts"),
        (blue, "d/shirt", "Shirts"),
        (cap, "d/cap", None),
    }


def test_woocommerces_variations_are_photos_of_their_parent(shop: Settings, tmp_path: Path, server: PhotoServer):
    green, blue = (server.url(f"{name}.png") for name in ("green", "blue"))
    path = tmp_path / "products.csv"
    path.write_text(
        "ID,Type,SKU,Name,Categories,Images,Parent\n"
        f'2,variation,tee-red,Tee - Red,,{blue},tee\n1,variable,tee,Tee,"Clothing > Tees, Sale","{green}, {blue}",\n'
    )
    counts = ingest(shop, str(path), "d", "woocommerce")
    assert (counts["images"], counts["asked"], counts["quarantined"]) == (2, 2, 0)
    assert rows(shop, "catalog", "uri", "product_id", "category") == {
        (green, "d/tee", "Clothing > Tees"),
        (blue, "d/tee", "Clothing > Tees"),
    }


def test_a_feed_that_breaks_off_changes_nothing(shop: Settings, tmp_path: Path, server: PhotoServer):
    path = tmp_path / "feed.xml"
    item = f"<item><g:id>1</g:id><g:image_link>{server.url('mug.png')}</g:image_link></item>"
    head = '<rss xmlns:g="http://base.google.com/ns/1.0"><channel>'
    path.write_text(f"{head}{item}</channel></rss>")
    assert ingest(shop, str(path), "d", "google_feed")["added"] == 1
    path.write_text(f"{head}{item}")
    with pytest.raises(UserError, match="line 1 is no XML that can be read"):
        ingest(shop, str(path), "d", "google_feed")
    assert rows(shop, "catalog", "product_id") == {("d/1",)}
