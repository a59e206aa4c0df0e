"""Shops' formats: a miniature of each as published, and what bad ones are said to be, without Spark."""

import gzip
import re
from pathlib import Path

import openpyxl
import pytest

from tests.support.photo_server import Page, photo_server
from vitrine.datasets import registry
from vitrine.datasets.photo import BLANK, REFUSED, Photo
from vitrine.datasets.shops import feed_xml
from vitrine.errors import UserError, VitrineError
from vitrine.setting_sections import SourceSettings
from vitrine.settings import Settings

RSS = """<?xml version="1.0"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0">
<channel>
<title>Example - Online Store</title>
<link>https://store.example</link>
<description>This is a sample feed</description>
<item>
<g:id>SKU-00123-M</g:id>
<g:title>Wool sweater, M</g:title>
<title>A title of RSS itself</title>
<g:description><![CDATA[Soft & <b>warm</b>]]></g:description>
<g:link>https://store.example/sweater?size=m</g:link>
<g:image_link>https://cdn.example/sweater.jpg?w=1&amp;h=2</g:image_link>
<g:additional_image_link>https://cdn.example/w_100,h_100/back.jpg</g:additional_image_link>
<g:additional_image_link>
  https://cdn.example/side.jpg
</g:additional_image_link>
<g:item_group_id>00123</g:item_group_id>
<g:product_type>Home &gt; Women &gt; Sweaters</g:product_type>
<g:product_type>Sale</g:product_type>
<g:google_product_category>1604</g:google_product_category>
<g:shipping><g:country>DE</g:country><g:id>no id of an item</g:id></g:shipping>
</item>
<item>
<g:id>MUG</g:id>
<g:image_link>https://cdn.example/mug.jpg</g:image_link>
<g:google_product_category>Home &amp; Garden &gt; Mugs</g:google_product_category>
<g:additional_image_link></g:additional_image_link>
</item>
</channel>
</rss>
"""
ATOM = """<?xml version="1.0" encoding="ISO-8859-1"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0">
<title>The name of your data feed</title>
<link href="http://www.example.com" rel="alternate" type="text/html" />
<updated>2006-06-11T18:30:02Z</updated>
<author><name>Google</name></author>
<id>tag:example.com,2006-06-11:/support/products</id>
<entry>
<title>Red wool sweater</title>
<id>1a</id>
<link href="http://www.example.com/item1-info-page.html" />
<g:image_link>http://www.example.com/image1.jpg</g:image_link>
<g:product_type>V\u00eatements</g:product_type>
</entry>
<entry>
<id>tag:example.com/2b</id>
<g:id>2b</g:id>
<g:image_link>http://www.example.com/image2.jpg</g:image_link>
</entry>
</feed>
"""
TSV = (
    "id\ttitle\tdescription\timage link\tadditional_image_link\titem group id\tproduct_type\n"
    'SKU-00123-M\tWool sweater\t12" wide\thttps://cdn.example/sweater.jpg\t'
    '"https://cdn.example/w_100,h_100/back.jpg,https://cdn.example/side.jpg"\t00123\tHome > Women > Sweaters\n'
    "MUG\tMug\t\thttps://cdn.example/mug.jpg\t\t\t\n"
)
SHOPIFY = """Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,\
Variant SKU,Variant Price,Image Src,Image Position,Image Alt Text,Gift Card,Variant Image,Status
example-t-shirt,Example T-Shirt,"<p>Two
lines, ""quoted""</p>",Acme,Apparel & Accessories > Clothing,Shirts,mens t-shirt,true,Title,"Lithograph, S",,25.00,\
https://cdn.shopify.com/s/files/1/green.jpg?v=1,1,,false,https://cdn.shopify.com/s/files/1/blue.jpg?v=2,active
example-t-shirt,,,,,,,,,Small,example-shirt-s,19.99,https://cdn.shopify.com/s/files/1/back.jpg?v=1,2,,,\
https://cdn.shopify.com/s/files/1/blue.jpg?v=2,
example-t-shirt,,,,,,,,,Medium,example-shirt-m,19.99,,,,,,
example-pants,Pants,,Acme,Apparel & Accessories > Clothing > Pants,,,true,Title,Default,,49.99,\
https://cdn.shopify.com/s/files/1/pants.jpg,1,,false,,active
gift,Gift card,,Acme,,,,true,Title,Default,,10.00,,,,true,,draft
"""
SHOPIFY_OF_NOW = """Title,URL handle,Description,Vendor,Product category,Type,Option1 name,Option1 value,SKU,\
Product image URL,Image position,Image alt text,Variant image URL
Example T-Shirt,example-t-shirt,,Acme,Apparel & Accessories > Clothing,Shirts,Size,S,1,\
https://cdn.shopify.com/s/files/1/green.jpg?v=1,1,,https://cdn.shopify.com/s/files/1/blue.jpg?v=2
"""
WOOCOMMERCE = """\ufeffID,Type,SKU,"GTIN, UPC, EAN, or ISBN",Name,Published,Categories,Images,Parent,"Attribute 1 name"
44,variable,woo-vneck-tee,,V-Neck T-Shirt,1,"Clothing > Tshirts, Clothing","https://shop.example/vneck.jpg, \
https://shop.example/w_1\\,h_2/vneck-blue.jpg",,Color
45,variation,woo-vneck-tee-red,,V-Neck T-Shirt - Red,1,,https://shop.example/vneck-red.jpg,woo-vneck-tee,Color
46,simple,,,Cap,1,"Hats\\, Caps",https://shop.example/cap.jpg,,
47,variation,,,Cap - Red,1,,,id:46,
48,grouped,logo-set,,Logo set,0,Clothing,,,
"""


def read(settings: Settings, layout: str, path: Path, text: str | bytes, **how: object) -> list[Photo]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = registry.find(layout, **how)  # type: ignore[arg-type]
    return [photo for unit in found.units(settings, str(path)) for photo in found.photos(unit)]


def shown(photos: list[Photo]) -> list[tuple[str, str, str | None]]:
    assert not [photo.refusal for photo in photos if photo.refusal]
    assert all(photo.image_id == f"{photo.product_id}/{photo.uri}" for photo in photos)
    return [(photo.product_id, photo.uri, photo.category) for photo in photos]


def refusal(photos: list[Photo]) -> str:
    (reason,) = (photo.refusal[1] for photo in photos if photo.refusal and photo.refusal[0] == REFUSED)
    assert reason.isprintable() and len(reason) < 700, reason
    return reason


CDN = "https://cdn.example/"
SWEATER = [
    ("00123", f"{CDN}sweater.jpg?w=1&h=2", "Home > Women > Sweaters"),
    ("00123", f"{CDN}w_100,h_100/back.jpg", "Home > Women > Sweaters"),
    ("00123", f"{CDN}side.jpg", "Home > Women > Sweaters"),
    ("MUG", f"{CDN}mug.jpg", "Home & Garden > Mugs"),
]


@pytest.mark.parametrize("name", ["feed.xml", "feed", "feed.xml.gz"])
def test_a_google_feed_in_rss(settings: Settings, tmp_path: Path, name: str):
    for data in (RSS.encode(), RSS.encode("utf-8-sig"), RSS.encode("utf-16")):
        data = gzip.compress(data, mtime=0) if name.endswith("gz") else data
        assert shown(read(settings, "google_feed", tmp_path / name, data)) == SWEATER
    plain = RSS.replace("g:", "")
    assert shown(read(settings, "google_feed", tmp_path / name, plain)) == SWEATER


def test_a_google_feed_in_atom(settings: Settings, tmp_path: Path):
    expected = [("1a", "http://www.example.com/image1.jpg", "V\u00eatements")]
    expected += [("2b", "http://www.example.com/image2.jpg", None)]  # type: ignore[list-item]
    assert shown(read(settings, "google_feed", tmp_path / "feed", ATOM.encode("latin-1"))) == expected
    cp1252 = ATOM.replace("ISO-8859-1", "windows-1252").encode("cp1252")
    assert shown(read(settings, "google_feed", tmp_path / "feed", cp1252)) == expected
    unnamed = ATOM.replace(' encoding="ISO-8859-1"', "").encode("latin-1")
    assert "not well-formed" in refusal(read(settings, "google_feed", tmp_path / "feed", unnamed))
    assert shown(read(settings, "google_feed", tmp_path / "feed", unnamed, encoding="iso-8859-1")) == expected


def test_a_google_feed_in_text(settings: Settings, tmp_path: Path):
    photos = shown(read(settings, "google_feed", tmp_path / "feed.txt", TSV))
    assert photos == [(SWEATER[0][0], f"{CDN}sweater.jpg", SWEATER[0][2]), *SWEATER[1:3], (*SWEATER[3][:2], None)]


def test_a_feed_is_read_item_by_item(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed_xml, "_CHUNK", 7)
    assert shown(read(settings, "google_feed", tmp_path / "feed", RSS)) == SWEATER
    items = RSS[RSS.index("<item>") : RSS.index("</channel>")]
    path = tmp_path / "large"
    path.write_text(RSS.replace(items, items * 3_000))
    layout = registry.find("google_feed")
    (unit,) = layout.units(settings, str(path))
    assert sum(1 for _ in layout.photos(unit)) == 12_000


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RSS.replace("<rss", f"{LAUGHS}<rss").replace("00123<", "&b;<"), "it has a document type"),
        (RSS.replace("<rss", f"{OUTSIDE}<rss").replace("00123<", "&a;<"), "it has a document type"),
        (RSS.replace("<rss", '<!DOCTYPE rss SYSTEM "https://evil.example/x.dtd"><rss'), "it has a document type"),
        (RSS.replace("Soft &", "]]>&nbsp;<![CDATA["), "line 11 is no XML.*undefined entity"),
        (RSS[:-40], "is no XML that can be read"),
        (RSS.replace("</item>", "", 1), "mismatched tag"),
        (RSS.replace(' xmlns:g="http://base.google.com/ns/1.0"', ""), "unbound prefix"),
        (RSS.replace('?xml version="1.0"', '?xml version="1.0" encoding="klingon"'), "unknown encoding"),
        (RSS.replace("item>", "product>"), "no item or entry"),
        ("<html><body>Log in</body></html>", "no item or entry"),
        (RSS.replace("image_link", "picture"), "no column image_link in it.*it has .*picture"),
        (RSS.replace("<g:id>MUG", "<a>" * 101 + "</a>" * 101 + "<g:id>MUG"), "item 2 has elements 100 deep"),
        (
            TSV.replace("image link", "picture"),
            "no column image_link.*Google Merchant.*name yours by --column image_link=COLUMN",
        ),
        ("", "no column id, image_link"),
    ],
    ids=range(14),
)
def test_a_bad_feed_is_one_sentence(settings: Settings, tmp_path: Path, text: str, reason: str):
    assert re.search(reason, refusal(read(settings, "google_feed", tmp_path / "feed", text)))


def test_what_an_item_may_hold_is_bounded(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed_xml, "MOST_CHARACTERS", 100_000)
    for what, reason in (
        (f"<g:id>{'x' * 200_000}</g:id>", "item 2 has over 100000 characters"),
        (f"<g:id a='{'x' * 200_000}'>", "line 25 has a tag of over 100000 characters"),
        (f"<!--{'x' * 200_000}-->", "has a tag of over 100000 characters"),
    ):
        photos = read(settings, "google_feed", tmp_path / "feed", RSS.replace("<g:id>MUG</g:id>", what))
        assert re.search(reason, refusal(photos))


def test_an_item_that_is_not_whole_is_a_row_of_quarantine(settings: Settings, tmp_path: Path):
    text = (
        "id\timage_link\tadditional_image_link\n"
        "1\tpictures/1.jpg\t\n"
        "2\tftp://shop/2.jpg\thttps://cdn.example/2.jpg, https://user:secret@cdn.example/2b.jpg\n"
        "\thttps://cdn.example/3.jpg\t\n"
        "4\t\t\n"
        "\t\t\n"
        f"5\thttps://cdn.example/{'x' * 5000}\t\n"
    )
    photos = read(settings, "google_feed", tmp_path / "feed", text)
    assert [(photo.image_id[:40], photo.refusal and photo.refusal[0]) for photo in photos] == [
        ("1/pictures/1.jpg", "bad_uri"),
        ("2/ftp://shop/2.jpg", "bad_uri"),
        ("2/https://cdn.example/2.jpg", None),
        ("2/https://cdn.example/2b.jpg", "login_data"),
        ("row 4", "no_product"),
        ("4", "no_photo"),
        (f"5/https://cdn.example/{'x' * 18}", "bad_uri"),
        ("", BLANK),
    ]
    assert "secret" not in str(photos) and max(len(photo.image_id) for photo in photos) < 300


def test_shopifys_export(settings: Settings, tmp_path: Path):
    green, blue, back, pants = (
        f"https://cdn.shopify.com/s/files/1/{name}"
        for name in ("green.jpg?v=1", "blue.jpg?v=2", "back.jpg?v=1", "pants.jpg")
    )
    photos = read(settings, "shopify", tmp_path / "products.csv", SHOPIFY)
    assert [photo.product_id for photo in photos if photo.refusal] == ["example-t-shirt", "gift"]
    assert {photo.refusal[0] for photo in photos if photo.refusal} == {"no_photo"}
    shirt, trousers = "example-t-shirt", "Apparel & Accessories > Clothing > Pants"
    expected = [(shirt, green, "Shirts"), (shirt, blue, "Shirts")]
    all_of_them = [*expected, (shirt, back, None), (shirt, blue, None), ("example-pants", pants, trousers)]
    assert shown([photo for photo in photos if not photo.refusal]) == all_of_them
    assert shown(read(settings, "shopify", tmp_path / "new.csv", SHOPIFY_OF_NOW)) == expected
    photos = read(settings, "shopify", tmp_path / "new.csv", SHOPIFY_OF_NOW, columns={"category": "Vendor"})
    assert {photo.category for photo in photos} == {"Acme"}
    rows = [line.split(",") for line in SHOPIFY_OF_NOW.splitlines()]
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "book.xlsx")
    assert shown(read(settings, "shopify", tmp_path / "book", (tmp_path / "book.xlsx").read_bytes())) == expected


def test_woocommerces_export(settings: Settings, tmp_path: Path):
    tee, shop = "woo-vneck-tee", "https://shop.example/"
    expected = [
        (tee, f"{shop}vneck.jpg", "Clothing > Tshirts"),
        (tee, f"{shop}w_1,h_2/vneck-blue.jpg", "Clothing > Tshirts"),
        (tee, f"{shop}vneck-red.jpg", None),
        ("id:46", f"{shop}cap.jpg", "Hats, Caps"),
    ]
    photos = read(settings, "woocommerce", tmp_path / "products.csv", WOOCOMMERCE)
    assert [photo.image_id for photo in photos if photo.refusal] == ["id:46", "logo-set"]
    assert shown([photo for photo in photos if not photo.refusal]) == expected
    german = WOOCOMMERCE.replace("SKU", "Artikelnummer").replace("Images", "Bilder").replace("Categories", "Kategorien")
    german = german.replace("Parent", "\u00dcbergeordnetes Produkt")
    assert "no column SKU, Images in it" in refusal(read(settings, "woocommerce", tmp_path / "produkte.csv", german))
    columns = {"SKU": "Artikelnummer", "Images": "Bilder", "Categories": "Kategorien"}
    columns["Parent"] = "\u00dcbergeordnetes Produkt"
    photos = read(settings, "woocommerce", tmp_path / "produkte.csv", german, columns=columns)
    assert shown([photo for photo in photos if not photo.refusal]) == expected


@pytest.mark.parametrize("layout", registry.SHOPS)
def test_what_is_no_export_of_the_shop_is_one_sentence(settings: Settings, tmp_path: Path, layout: str):
    assert "no column" in refusal(read(settings, layout, tmp_path / "t.csv", "uri,product_id\na.jpg,1\n"))
    with pytest.raises(UserError, match="no such table 'nowhere'"):
        registry.find(layout).units(settings, "nowhere")
    with pytest.raises(UserError, match="unknown column 'uri' of --column"):
        registry.find(layout, columns={"uri": "a"})
    (tmp_path / "delta" / "_delta_log").mkdir(parents=True)
    with pytest.raises(UserError, match="--layout table reads it"):
        registry.find(layout).units(settings, str(tmp_path / "delta"))


def test_a_feed_behind_its_own_address(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    hosts = SourceSettings(allow_hosts=("127.0.0.1",), connect_seconds=2, retries=1, longest_wait=1)
    layout, open_settings = registry.find("google_feed"), settings.model_copy(update={"sources": hosts})
    path = tmp_path / "feed.xml"
    path.write_text(RSS)
    expected = [photo for unit in layout.units(settings, str(path)) for photo in layout.photos(unit)]
    assert len(expected) == 4
    with photo_server() as server:
        server.pages |= {
            "feed.xml?of=secret1": Page(RSS.encode(), headers={"Content-Type": "text/html"}, failures=1),
            "moved": Page(b"", 302, {"Location": "/feed.xml?of=secret1"}),
            "packed": Page(gzip.compress(RSS.encode())),
            "cut.xml": Page(RSS.encode()[:600]),
            "busy": Page(b"", 503),
        }
        for name in ("feed.xml?of=secret1", "moved", "packed"):
            units = layout.units(open_settings, server.url(name))
            assert [photo for unit in units for photo in layout.photos(unit)] == expected, name
        (refused,) = [p for unit in layout.units(open_settings, server.url("cut.xml")) for p in layout.photos(unit)][
            -1:
        ]
        assert refused.refusal and refused.refusal[0] == REFUSED
        assert refused.refusal[1].startswith(f"cannot read '{server.url('cut.xml')}'")
        with pytest.raises(UserError, match=r"cannot fetch http://127\.0\.0\.1:\d+/nowhere \(http_404\): ") as error:
            layout.units(open_settings, server.url("nowhere?of=secret1"))
        assert "secret" not in str(error.value)
        with pytest.raises(VitrineError, match=r"\(http_503\)"):
            layout.units(open_settings, server.url("busy"))
        with pytest.raises(UserError, match="refused_address"):
            layout.units(settings, server.url("feed.xml"))
        with pytest.raises(UserError, match="login_data") as error:
            layout.units(open_settings, server.url("feed.xml").replace("//", "//me:secret2@") + "?sig=secret3")
        assert "secret" not in str(error.value)
