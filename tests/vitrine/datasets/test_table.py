"""vitrine.datasets.table: files of a table, read as they are or refused with the row, without Spark."""

import bz2
import gzip
import hashlib
import io
import json
import re
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitrine import photo_store
from vitrine.datasets import columns, registry
from vitrine.datasets.photo import BLANK, REFUSED, Photo
from vitrine.datasets.table import COLUMNS, Table
from vitrine.errors import UserError
from vitrine.settings import Settings

ROWS = [("mug.jpg", "00123"), ("a b#1%20.jpg", "1e3")]
TEXT = "uri,product_id\n" + "".join(f"{uri},{product}\n" for uri, product in ROWS)


def read(settings: Settings, source: Path, encoding: str | None = None, **columns: str) -> list[Photo]:
    layout = Table(encoding, columns)
    return [photo for unit in layout.units(settings, str(source)) for photo in layout.photos(unit)]


def pairs(photos: list[Photo]) -> list[tuple[str, str]]:
    assert not [photo.refusal for photo in photos if photo.refusal]
    return [(photo.image_id, photo.product_id) for photo in photos]


def refusal(photos: list[Photo]) -> str:
    reason = next(photo.refusal[1] for photo in photos if photo.refusal and photo.refusal[0] == REFUSED)
    assert reason.isprintable() and len(reason) < 700, reason
    return reason


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "photos", "t.parquet", "a.tsv.d/t.csv", "[1]{x}*.csv", "_t.csv"])
@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_what_a_file_is_is_told_by_its_content(settings: Settings, tmp_path: Path, name: str, separator: str):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    text = TEXT.replace(",", separator)
    for data in (
        text.encode(),
        text.encode("utf-8-sig"),
        text.encode("utf-16"),
        text.encode("utf-32"),
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r").encode(),
        gzip.compress(text.encode(), mtime=0),
        text.rstrip("\n").encode(),
    ):
        path.write_bytes(data)
        photos = read(settings, path)
        assert pairs(photos) == ROWS
        assert [photo.uri for photo in photos] == [str(path.parent / uri) for uri, _ in ROWS]
    parquet(path, uri=[uri for uri, _ in ROWS], product_id=[product for _, product in ROWS])
    assert pairs(read(settings, path)) == ROWS


def workbook(first: str) -> bytes:
    """As Excel (``[Content_Types].xml``) and LibreOffice (``mimetype``) begin theirs."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(first, TEXT)
    return data.getvalue()


def packed_parquet() -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table({"uri": ["a.jpg"], "product_id": ["1"]}), data)
    return gzip.compress(data.getvalue(), mtime=0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'\xef\xbb\xbf\r\n [\n{"uri": "a.jpg"}]', "it is a JSON list"),
        (b'[{"uri": "a.jpg"}]', "save it as CSV, JSON Lines, Parquet or .xlsx"),
        (bz2.compress(TEXT.encode()), "compressed by bzip2"),
        (workbook("[Content_Types].xml"), "Excel workbook"),
        (workbook("xl/workbook.xml"), "its workbook cannot be read"),
        (workbook("mimetype"), "another zip archive"),
        (gzip.compress(workbook("mimetype"), mtime=0), "another zip archive"),
        (gzip.compress(gzip.compress(TEXT.encode())), "gzip twice"),
        (packed_parquet(), "Parquet within gzip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "old Excel workbook"),
        (b"ORC\x0a", "it is ORC"),
        (b"ARROW1\0\0", "cannot read"),
        (b"<html>", "HTML"),
        (b"PAR1 and no more", "(?i)parquet"),
        (b"\x1f\x8b\x08\x00 damaged", "cannot read"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-12], "(?i)end"),
        (TEXT.encode("utf-16-le"), "--encoding utf-16-le"),
        (b"\x00\x01\x02", "zero bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # archives have the time in them
)
def test_what_is_no_table_is_one_sentence(settings: Settings, tmp_path: Path, data: bytes, reason: str):
    for name in ("t.csv", "t.json", "t.jsonl", "t.ndjson.gz", "t.xlsx", "t.xls", "t.ods", "t"):
        (tmp_path / name).write_bytes(data)
        assert re.search(reason, refusal(read(settings, tmp_path / name))), name


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["a.jpg,1", 'b.jpg,"12" mug', "c.jpg,3"], "row 3 cannot be told"),
        (["a.jpg,1", 'b.jpg,"mug', "c.jpg,3", "d.jpg,4"], "row 3 cannot.*a quote opens and does not close"),
        (["a.jpg,1", 'b.jpg,"mug', "c.jpg,3", 'd.jpg,5"', "e.jpg,6"], "rows 3 to 5 are one value"),
        (["a.jpg,1", 'b.jpg,"mug', "c.jpg,3, red", "d.jpg,4", 'e.jpg,5"'], "rows 3 to 6 are one value"),
        (["a.jpg,1", "b, c.jpg,2"], "row 3 has 3 values, the header 2: 'b, c.jpg,2'"),
        (["a.jpg,1", "b.jpg"], "row 3 has 1 values, the header 2"),
        (["a.jpg,1", 'b.jpg,"12\\" mug"'], "row 3"),
        (["a.jpg,1", ",2"], "have no uri, row 3"),
        ([f"a.jpg,{'1' * 5000}", "b.jpg,2\0"], "row 3 of .* has a zero byte in product_id"),
    ],
)
def test_a_row_that_would_be_half_read_is_refused(settings: Settings, tmp_path: Path, rows: list[str], reason: str):
    path = tmp_path / "t.csv"
    for ends in ("\n", "\r\n"):
        path.write_text(ends.join(["uri,product_id", *rows, ""]), newline="")
        assert re.search(reason, refusal(read(settings, path)))


def test_quotes_and_breaks_that_are_right_are_read(settings: Settings, tmp_path: Path):
    path = tmp_path / "t.csv"
    text = 'about,uri,product_id\n"two\nlines, ""quoted"", of three\n",a.jpg,12" mug\n'
    path.write_text(text + f"{'x' * 200_000},b.jpg,\u00fc\n")
    assert pairs(read(settings, path)) == [("a.jpg", '12" mug'), ("b.jpg", "\u00fc")]


def test_rows_and_columns_of_nothing_are_left_out_and_counted(settings: Settings, tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("uri,product_id,,\na.jpg,1,,\n,,,\n\nb.jpg,2,,\n , ,,\n,,,\n")
    photos = read(settings, path)
    assert photos.pop().refusal == (BLANK, "3")
    assert pairs(photos) == [("a.jpg", "1"), ("b.jpg", "2")]


def test_another_character_set_is_refused_or_named(settings: Settings, tmp_path: Path):
    path = tmp_path / "t.csv"
    for encoding in ("cp1252", "latin-1"):
        path.write_bytes("uri,product_id\na.jpg,1\nb.jpg,caf\u00e9\n".encode(encoding))
        reason = refusal(read(settings, path))
        assert "row 3 has bytes in product_id" in reason and "caf\\xe9" in reason and "--encoding cp1252" in reason
        assert pairs(read(settings, path, encoding)) == [("a.jpg", "1"), ("b.jpg", "caf\u00e9")]
    path.write_bytes("uri,product_id\na.jpg,1\u20ac\n".encode("utf-8-sig"))
    assert "byte-order mark" in refusal(read(settings, path, "cp1252"))
    assert pairs(read(settings, path, "UTF_8")) == [("a.jpg", "1\u20ac")]
    for unknown in ("klingon", "base64", "", "rot13", "a\nb"):
        with pytest.raises(UserError, match="unknown encoding"):
            read(settings, path, unknown)


@pytest.mark.parametrize(
    ("values", "product_ids"),
    [
        (pa.array(["00123", "123"]), ["00123", "123"]),
        (pa.array([1, 1000]), ["1", "1000"]),
        (pa.array([2**64 - 1, 0], pa.uint64()), ["18446744073709551615", "0"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array([1, 2], pa.decimal128(20, 0)), ["1", "2"]),
        (pa.array([1.0, 123456789012.0]), "column product_id is of type double"),
        (pa.array([1.5, None], pa.float32()), "type float"),
        (pa.array([True, False]), "type bool"),
        (pa.array([{"a": 1}, {"a": 2}]), "type struct"),
        (pa.array([["a"], ["b"]]), "type list"),
        (pa.array([b"a", b"b"]), "type binary"),
        (pa.array([1, 2], pa.timestamp("ns")), "type timestamp"),
        (pa.array([1, 2], pa.date32()), "type date32"),
        (pa.array([1, 2], pa.decimal128(20, 2)), "type decimal"),
        (pa.array([True, False]).dictionary_encode(), "type bool"),
        (pa.array([b"a\xff", b"b"]).view(pa.string()), "not UTF-8"),
        (pa.array(["a\0", "b"]), "row 1 .* zero byte"),
    ],
)
def test_ids_are_text_or_whole_numbers(settings: Settings, tmp_path: Path, values: pa.Array, product_ids: Any):
    other = pa.array([1, 2], pa.timestamp("ns"))
    path = parquet(tmp_path / "t.parquet", uri=["a.jpg", "b.jpg"], product_id=values, when=other, score=[1.5, 2.5])
    photos = read(settings, path)
    if isinstance(product_ids, str):
        assert re.search(product_ids, refusal(photos))
    else:
        assert [photo.product_id for photo in photos] == product_ids


def test_columns_without_a_value_say_nothing(settings: Settings, tmp_path: Path):
    nothing = pa.array([None, float("nan")], pa.float64(), from_pandas=False)
    path = parquet(tmp_path / "t.parquet", uri=["a.jpg", "b.jpg"], product_id=["1", "2"], category=nothing)
    assert [photo.category for photo in read(settings, path)] == [None, None]
    assert "uri is of type int64" in refusal(
        read(settings, parquet(tmp_path / "u.parquet", uri=[1, 2], product_id=["1", "2"]))
    )


def test_partitions_are_text_as_they_are_written(settings: Settings, tmp_path: Path):
    for number, product in enumerate(("00123", "123", "1e3", "1000", "a%2Fb", "__HIVE_DEFAULT_PARTITION__")):
        parquet(tmp_path / "t" / f"product_id={product}" / "part-0.parquet", uri=[f"{number}.jpg"], size=[1.5])
    for junk in ("_SUCCESS", "Thumbs.db", "~$t.csv", "@eaDir/t.csv", "__MACOSX/._t.csv", "#recycle/old.parquet"):
        (tmp_path / "t" / junk).parent.mkdir(exist_ok=True)
        (tmp_path / "t" / junk).touch()
    (tmp_path / "t" / "product_id=123" / ".part-0.parquet.crc").touch()
    photos = read(settings, tmp_path / "t")
    assert {photo.product_id for photo in photos} == {"00123", "123", "1e3", "1000", "a/b", ""}
    assert {photo.uri for photo in photos} == {str(tmp_path / "t" / f"{number}.jpg") for number in range(6)}
    parquet(tmp_path / "t" / "product_id=a%FFb" / "part-0.parquet", uri=["7.jpg"])
    assert "a%FFb' spells text that is not UTF-8" in refusal(read(settings, tmp_path / "t"))


def test_a_file_of_another_kind_in_the_folder_is_named(settings: Settings, tmp_path: Path):
    parquet(tmp_path / "t" / "a.parquet", uri=["a.jpg"], product_id=["1"])
    (tmp_path / "t" / "README.md").write_text("About this table")
    assert "README.md" in refusal(read(settings, tmp_path / "t"))
    with pytest.raises(UserError, match="no such table 'nowhere'"):
        Table().units(settings, "nowhere")


def test_relative_uris_of_a_remote_table_are_names(settings: Settings, tmp_path: Path):
    path = tmp_path / "red shoes" / "t.csv"
    path.parent.mkdir()
    path.write_text("uri,product_id\na%20b.jpg,1\ns3://shop/a%20b.jpg,2\n/abs/c%20.jpg,3\n")
    layout = Table()
    uris = [photo.uri for unit in layout.units(settings, path.as_uri()) for photo in layout.photos(unit)]
    assert uris == [f"{path.parent.as_uri()}/a%2520b.jpg", "s3://shop/a%20b.jpg", "/abs/c%20.jpg"]


@pytest.mark.parametrize("kind", ["csv", "csv;", "tsv", "json", "parquet", "xlsx"])
def test_columns_are_found_by_name_whatever_case_and_blanks_or_as_they_are_given(
    settings: Settings, tmp_path: Path, kind: str
):
    given = {"uri": "image url", "product_id": "SKU", "category": "Warengruppe"}
    rows = [("mug.jpg", "00123", "Tassen", "train"), ("lamp.jpg", "1e3", None, "test")]
    path = write(tmp_path / kind, ["Image URL", " sku ", "Warengruppe", "SPLIT "], rows, kind)
    photos = read(settings, path, **given)
    assert [(photo.image_id, photo.product_id, photo.category, photo.split) for photo in photos] == rows
    assert "no column Produkt in it" in refusal(read(settings, path, **given | {"product_id": "Produkt"}))
    reason = refusal(read(settings, path))
    assert "no column uri, product_id in it" in reason
    assert reason.endswith('is it --column "uri=Image URL" --column "product_id= sku "?')
    assert refusal(read(settings, path, **given | {"category": "warengrupe"})).endswith(
        "is it --column category=Warengruppe?"
    )


def write(path: Path, header: list[str], rows: list[tuple[Any, ...]], kind: str) -> Path:
    """A table of one of the formats that are read."""
    if kind == "json":
        objects = ({name: value for name, value in zip(header, row, strict=True) if value is not None} for row in rows)
        path.write_text("".join(json.dumps(each) + "\n" for each in objects))
    elif kind == "parquet":
        parquet(path, **{name: [row[at] for row in rows] for at, name in enumerate(header)})
    elif kind == "xlsx":
        book = openpyxl.Workbook()
        for row in (header, *rows):
            book.active.append(row)
        book.save(path)
    else:
        separator = {"csv": ",", "csv;": ";", "tsv": "\t"}[kind]
        path.write_text("".join(separator.join(value or "" for value in row) + "\n" for row in (header, *rows)))
    return path


def test_a_column_that_is_there_twice_is_meant_to_the_letter_or_not_at_all(settings: Settings, tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("uri,URI,product_id\na.jpg,b.jpg,1\n")
    assert pairs(read(settings, path)) == [("a.jpg", "1")]
    assert pairs(read(settings, path, uri="URI")) == [("b.jpg", "1")]
    path.write_text("Uri,URI,product_id\na.jpg,b.jpg,1\n")
    assert "names 'Uri' and 'URI' twice" in refusal(read(settings, path))


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (["uri"], "must be NAME=COLUMN"),
        (["uri= "], "must be NAME=COLUMN"),
        (["url=a"], "unknown column 'url'.*choose one of uri, product_id"),
        (["uri=a", "uri=b"], "names uri twice"),
    ],
)
def test_a_pair_that_names_no_column_is_one_sentence(pair: list[str], reason: str):
    with pytest.raises(UserError, match=reason):
        columns.parse(pair, COLUMNS)


def test_a_column_of_another_layout_is_one_sentence():
    assert columns.parse(["uri=a=b"], COLUMNS) == {"uri": "a=b"}
    with pytest.raises(UserError, match="--column with layout 'folder'"):
        registry.find("folder", columns={"uri": "a"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"uri": "b.jpg", "product_id": 1.0}', "row 3 has a number with a fraction in product_id"),
        ('{"uri": "b.jpg", "product_id": 1e3}', "row 3 has a number with a fraction"),
        ('{"uri": "b.jpg", "product_id": true}', "row 3 has true or false"),
        ('{"uri": ["b.jpg"], "product_id": "1"}', "row 3 has a list in uri"),
        ('{"uri": "b.jpg", "product_id": {"a": 1}}', "row 3 has an object"),
        ('{"uri": "b.jpg", "product_id": 00123}', "row 3 is no JSON"),
        ('{"uri": "b.jpg", "uri": "c.jpg", "product_id": 1}', "row 3 has 'uri' twice"),
        ('["b.jpg", 1]', "row 3 is no JSON object"),
        ('{"uri": "b.jpg",', "row 3 is no JSON"),
        ('{"uri": "b\\ud800.jpg", "product_id": 1}', "row 3 has half a character in uri"),
        ('{"product_id": 1}', "have no uri, row 3 first"),
    ],
)
def test_json_lines_are_read_as_they_are_or_refused(settings: Settings, tmp_path: Path, line: str, reason: str):
    path = tmp_path / "t"
    good = '{"uri": "a.jpg", "product_id": "00123", "score": 1.5}\n\n'
    path.write_text(good + line + "\n")
    assert reason in refusal(read(settings, path))
    more = '{"product_id": 123, "uri": "b.jpg", "Category": "mugs"}\n{"uri": "c.jpg", "product_id": null}'
    for data in (good + more, "\ufeff" + good + more):
        for packed in (data.encode(), data.encode("utf-16"), gzip.compress(data.encode())):
            path.write_bytes(packed)
            photos = read(settings, path)
            assert [(photo.product_id, photo.category) for photo in photos] == [
                ("00123", None),
                ("123", "mugs"),
                ("", None),
            ]


def test_ids_of_a_workbook_are_what_the_sheet_shows(settings: Settings, tmp_path: Path):
    book = openpyxl.Workbook()
    book.create_sheet("Notes").append(["what was done"])
    sheet = book.active
    for row in (
        ["uri", "product_id"],
        ["a.jpg", "00123"],
        ["b.jpg", 123],
        ["c.jpg", 123],
        [None, None],
        ["d.jpg", 1.0],
    ):
        sheet.append(row)
    sheet["B4"].number_format = "00000"
    book.save(tmp_path / "t.xlsx")
    photos = read(settings, tmp_path / "t.xlsx")
    assert photos.pop().refusal == (BLANK, "1")
    assert [photo.product_id for photo in photos] == ["00123", "123", "00123", "1"]
    for value in (1.5, datetime(2026, 1, 2), True, 10**15, "#N/A"):
        sheet["B6"] = value
        book.save(tmp_path / "t.xlsx")
        assert "in product_id: it must be text, or a whole number" in refusal(read(settings, tmp_path / "t.xlsx"))
    sheet["B6"] = "1"
    for row in (["URI", "Product_ID"], ["z.jpg", "9"]):
        book.create_sheet("More").append(row) if row[0] == "URI" else book["More"].append(row)
    book.save(tmp_path / "t.xlsx")
    assert "sheets 'Sheet', 'More' all have the columns" in refusal(read(settings, tmp_path / "t.xlsx"))
    book["More"].sheet_state = "hidden"
    book.save(tmp_path / "t.xlsx")
    assert len(read(settings, tmp_path / "t.xlsx")) == 5


HF = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture_table(**more: Any) -> pa.Table:
    return pa.table(
        {
            "image": pa.array([{"bytes": b"one", "path": "a/1.jpg"}, {"bytes": b"two", "path": None}], HF),
            "label": pa.array([7, 8], pa.int64()),
            "mask": pa.array([b"x", b"y"]),
            **more,
        }
    )


def write_arrow(path: Path, table: pa.Table, kind: str) -> Path:
    if kind == "parquet":
        pq.write_table(table, path)
        return path
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with make(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_photos_in_a_column_are_kept_by_their_content(settings: Settings, tmp_path: Path, kind: str):
    path = write_arrow(tmp_path / "train", picture_table(), kind)
    one, two = read(settings, path, product_id="label")
    assert (one.image_id, one.product_id, one.uri) == ("a/1.jpg", "7", f"inside:{path}#a/1.jpg")
    assert (two.image_id, two.product_id, two.uri) == ("train/2", "8", f"inside:{path}#train/2")
    for photo, data in ((one, b"one"), (two, b"two")):
        assert photo.kept_sha256 == hashlib.sha256(data).hexdigest()
        assert Path(photo_store.readable(settings, photo.uri, photo.kept_sha256)).read_bytes() == data
    masks = read(settings, path, product_id="label", image="mask")
    assert [photo.kept_sha256 for photo in masks] == [hashlib.sha256(data).hexdigest() for data in (b"x", b"y")]
    assert "column label is of type int64: photos are binary" in refusal(read(settings, path, image="label"))
    assert "no column product_id in it" in refusal(read(settings, path))
    assert "no column pixels in it" in refusal(read(settings, path, product_id="label", image="pixels"))
    named = write_arrow(tmp_path / "named", picture_table(uri=["a.jpg", "b.jpg"], image_id=["1", "2"]), kind)
    photos = read(settings, named, product_id="label")
    assert [(photo.uri, photo.kept_sha256) for photo in photos] == [
        (str(tmp_path / "a.jpg"), None),
        (str(tmp_path / "b.jpg"), None),
    ], "uris go first"
    photos = read(settings, named, product_id="label", image="image")
    assert [photo.image_id for photo in photos] == ["1", "2"] and all(photo.kept_sha256 for photo in photos)


def test_a_struct_without_bytes_names_a_file_and_an_empty_row_says_nothing(settings: Settings, tmp_path: Path):
    image = pa.array([{"bytes": None, "path": "c.jpg"}, None, {"bytes": b"", "path": None}], HF)
    path = parquet(tmp_path / "t.parquet", image=image, product_id=["1", None, "3"])
    named, empty, blank = read(settings, path)
    assert (named.uri, named.kept_sha256) == (str(tmp_path / "c.jpg"), None)
    assert empty.kept_sha256 == hashlib.sha256(b"").hexdigest(), "its refusal comes when it is decoded"
    assert blank.refusal == (BLANK, "1")


def test_text_has_no_photos_in_a_column(settings: Settings, tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("uri,product_id,image\na.jpg,1,https://shop.example/a.jpg\n")
    assert pairs(read(settings, path)) == [("a.jpg", "1")]
    assert "it has no column of bytes" in refusal(read(settings, path, image="image"))
