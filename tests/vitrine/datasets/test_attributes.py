"""vitrine.datasets.attributes: names, and what layouts read as attributes; no Spark."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitrine.datasets import attributes, registry
from vitrine.datasets.photo import REFUSED, Photo
from vitrine.errors import UserError
from vitrine.settings import Settings


def read(settings: Settings, layout: str, path: Path, given: dict[str, str], **columns: str) -> list[Photo]:
    found = registry.find(layout, columns=columns, attributes=given)
    return [photo for unit in found.units(settings, str(path)) for photo in found.photos(unit)]


def test_pairs_name_attributes():
    assert attributes.parse(["colour", " brand =Marke", "size=a=b"]) == {
        "colour": "colour",
        "brand": "Marke",
        "size": "a=b",
    }


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (["colour="], "must be NAME or NAME=COLUMN"),
        (["Colour"], "bad attribute 'Colour': it must be lower-case"),
        (["a b"], "bad attribute 'a b'"),
        (["x'; DROP TABLE catalog"], "bad attribute"),
        (["=colour"], "bad attribute ''"),
        (["category"], "bad attribute 'category': it is a column of the tables: give it another name"),
        (["embedding=x"], "it is a column of the tables"),
        (["colour", "colour=Farbe"], "names colour twice: 'colour' and 'Farbe'"),
    ],
)
def test_a_pair_that_names_none_is_one_sentence(pairs: list[str], reason: str):
    with pytest.raises(UserError, match=reason):
        attributes.parse(pairs)


def test_attributes_of_a_layout_without_columns_are_one_sentence():
    for layout in ("folder", "generated", "cars196"):
        with pytest.raises(UserError, match=f"--attribute with layout '{layout}': it is for table, google_feed"):
            registry.find(layout, attributes={"colour": "colour"})
    with pytest.raises(UserError, match="bad attribute 'uri'"):
        registry.find("table", attributes={"uri": "colour"})


def test_attributes_of_tables_are_text_as_it_is_written(settings: Settings, tmp_path: Path):
    given = {"size": "Size", "colour": "colour"}
    rows = [("a.jpg", "1", "042", "red"), ("b.jpg", "1", None, None)]
    expected = [(("colour", "red"), ("size", "042")), ()]
    (tmp_path / "t.csv").write_text(
        "uri;product_id;size;colour\n" + "".join(";".join(value or "" for value in row) + "\n" for row in rows)
    )
    assert [photo.attributes for photo in read(settings, "table", tmp_path / "t.csv", given)] == expected
    columns = ("uri", "product_id", "size", "colour")
    table = {name: [row[at] for row in rows] for at, name in enumerate(columns)}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    assert [photo.attributes for photo in read(settings, "table", tmp_path / "t.parquet", given)] == expected
    (tmp_path / "t.jsonl").write_text('{"uri": "a.jpg", "product_id": 1, "size": 42.50, "colour": "red"}\n')
    (photo,) = read(settings, "table", tmp_path / "t.jsonl", given)
    assert photo.attributes == (("colour", "red"), ("size", "42.50"))
    (tmp_path / "t.jsonl").write_text('{"uri": "a.jpg", "product_id": 1, "size": true, "colour": "red"}\n')
    (photo,) = read(settings, "table", tmp_path / "t.jsonl", given)
    assert photo.refusal and photo.refusal[0] == REFUSED and "has true or false in attribute size" in photo.refusal[1]


def test_attributes_of_shops_and_shards(settings: Settings, tmp_path: Path):
    feed = tmp_path / "feed.xml"
    feed.write_text(
        '<rss xmlns:g="http://base.google.com/ns/1.0"><channel><item><g:id>1</g:id><g:color>Red</g:color>'
        "<g:image_link>https://cdn.example/1.jpg</g:image_link></item></channel></rss>"
    )
    (photo,) = read(settings, "google_feed", feed, {"colour": "color"})
    assert photo.attributes == (("colour", "Red"),)
    *_, refused = read(settings, "google_feed", feed, {"brand": "brand"})
    assert refused.refusal and "no column brand in it" in refused.refusal[1]
    assert refused.refusal[1].endswith("name yours by --attribute brand=COLUMN")
    with tarfile.open(tmp_path / "s.tar", "w") as file:
        for name, data in (("a.jpg", b"x"), ("a.json", json.dumps({"sku": 1, "brand": "Acme"}).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    (photo,) = read(settings, "shards", tmp_path / "s.tar", {"brand": "brand"}, product_id="sku")
    assert photo.attributes == (("brand", "Acme"),)
