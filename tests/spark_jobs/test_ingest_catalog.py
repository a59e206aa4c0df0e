"""Ingest: nights on changing sources. Each test is a story of several nights, since a Spark job costs seconds."""

import csv
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spark_jobs import checked_photos, ingest_catalog
from spark_jobs.ingest_catalog import ingest
from tests.support.table_sizes import IN_BOTH_SIZES
from vitrine import facts, lake
from vitrine.errors import UserError
from vitrine.locations import Location
from vitrine.settings import Settings
from vitrine.tables import CATALOG, LABELS, QUARANTINE

pytestmark = pytest.mark.usefixtures("spark")

HOSTILE = ['it\'s "q".jpg', "line\nbreak.jpg", "ünï 💡.jpg", "a..b%20.jpg", "-rf; DROP TABLE.jpg", "{a}[b]*?#.jpg"]


def paint(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = bytes((seed * 37 + at * (7 + seed)) % 256 for at in range(48))
    Image.frombytes("RGB", (4, 4), colours).resize(size).save(path, "JPEG", **options)
    return path


def catalog(settings: Settings, dataset: str = "d") -> dict[str, dict[str, Any]]:
    found = lake.rows(settings, f"SELECT * FROM catalog WHERE dataset = '{dataset}'")
    assert len({row["image_id"] for row in found}) == len(found)
    return {row["image_id"]: row for row in found}


def quarantine(settings: Settings, dataset: str = "d") -> dict[str, str]:
    found = lake.rows(settings, f"SELECT * FROM quarantine WHERE dataset = '{dataset}' AND stage = 'ingest'")
    assert all(row["reason"] and row["encoder"] == "" for row in found)
    return {row["image_id"]: row["code"] for row in found}


def labels(settings: Settings, image_id: str) -> list[tuple[str, str | None]]:
    sql = f"SELECT product_id, category FROM labels WHERE image_id = {lake.quote(image_id)} ORDER BY valid_from"
    return [(row["product_id"], row["category"]) for row in lake.rows(settings, sql)]


def figures(found: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in found.items() if count}


def truncate(path: Path) -> bytes:
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    return data


@IN_BOTH_SIZES
@pytest.mark.usefixtures("taken_as_large")
def test_nights_of_a_folder_with_splits_and_hostile_names(settings: Settings, tmp_path: Path):
    root = tmp_path / "shop"
    for number, name in enumerate(HOSTILE):
        paint(root / "train" / "mug" / name, number)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    paint(root / "validation" / "lamp's" / "side.jpg", 20, exif=rotated)
    paint(root / "validation" / "lamp's" / "same.jpg", 0)  # the content of the first mug
    (root / "train" / "mug" / "empty.jpg").write_bytes(b"")
    (root / "train" / "mug" / "words.jpg").write_text("no picture")
    (root / "train" / "mug" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (root / "train" / "mug" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")

    first = ingest(settings, str(root), "d")
    assert figures(first) == {"images": 8, "added": 8, "quarantined": 4}
    rows = catalog(settings)
    assert set(rows) == {f"d/train/mug/{name}" for name in HOSTILE} | {
        "d/validation/lamp's/side.jpg",
        "d/validation/lamp's/same.jpg",
    }
    for row in rows.values():
        path = Path(row["uri"])
        assert row["content_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row["size"] == path.stat().st_size
        assert round(row["modified_at"].timestamp() * 1e6) == path.stat().st_mtime_ns // 1000
        lamp = "lamp" in row["uri"]
        assert (row["product_id"], row["split"]) == (("d/lamp's", "val") if lamp else ("d/mug", "train"))
        assert row["category"] is None
        assert (row["width"], row["height"]) == ((30, 40) if row["uri"].endswith("side.jpg") else (40, 30))
        assert row["content_seen_at"] == row["updated_at"]
    codes = {
        "d/train/mug/empty.jpg": "empty",
        "d/train/mug/words.jpg": "not_an_image",
        "d/train/mug/gone.jpg": "missing",
        "d/train/mug/\\udcff.jpg#" + hashlib.sha256(b"train/mug/\xed\xb3\xbf.jpg").hexdigest()[:12]: "bad_name",
    }
    assert quarantine(settings) == codes
    assert labels(settings, "d/train/mug/line\nbreak.jpg") == [("d/mug", None)]

    # The second night reads no file: other bytes of the same size and time are not noticed.
    mug = root / "train" / "mug"
    target = mug / HOSTILE[1]
    known = target.stat()
    target.write_bytes(b"x" * known.st_size)
    os.utime(target, ns=(known.st_atime_ns, known.st_mtime_ns))
    before = (lake.version(settings, CATALOG), lake.version(settings, LABELS))
    seen = lake.rows(settings, "SELECT first_seen, last_seen FROM quarantine")
    assert figures(ingest(settings, str(root), "d")) == {"images": 8, "unchanged": 8, "quarantined": 4}
    assert (lake.version(settings, CATALOG), lake.version(settings, LABELS)) == before
    again = lake.rows(settings, "SELECT first_seen, last_seen FROM quarantine")
    assert {row["first_seen"] for row in again} == {row["first_seen"] for row in seen}
    assert min(row["last_seen"] for row in again) > max(row["last_seen"] for row in seen)
    paint(target, 1)

    # A night of changes; another data set of the same photos is left alone.
    assert ingest(settings, str(root / "validation"), "e")["added"] == 2
    other = catalog(settings, "e")
    paint(mug / HOSTILE[0], 50, size=(64, 48))
    os.utime(mug / HOSTILE[2], (1, 1))
    (mug / HOSTILE[3]).unlink()
    cut = truncate(mug / HOSTILE[4])
    paint(mug / "new.jpg", 60)
    paint(mug / "empty.jpg", 61)
    (mug / "words.jpg").unlink()
    night = ingest(settings, str(root), "d")
    assert figures(night) == {
        "images": 8,
        "added": 2,
        "changed": 1,
        "updated": 2,  # touched: this test's own repair of HOSTILE[1] and the new time of HOSTILE[2]
        "unchanged": 3,
        "quarantined": 3,
        "removed": 2,
        "mended": 2,
    }
    after = catalog(settings)
    assert set(rows) - set(after) == {f"d/train/mug/{HOSTILE[3]}", f"d/train/mug/{HOSTILE[4]}"}
    assert set(after) - set(rows) == {"d/train/mug/new.jpg", "d/train/mug/empty.jpg"}
    changed, touched = (f"d/train/mug/{HOSTILE[at]}" for at in (0, 2))
    assert after[changed]["content_sha256"] != rows[changed]["content_sha256"]
    assert (after[changed]["width"], after[changed]["height"]) == (64, 48)
    assert after[changed]["content_seen_at"] > rows[changed]["content_seen_at"]
    assert after[touched]["content_seen_at"] == rows[touched]["content_seen_at"]
    assert after[touched]["updated_at"] > rows[touched]["updated_at"]
    codes = {name: code for name, code in codes.items() if code in ("missing", "bad_name")}
    assert quarantine(settings) == codes | {f"d/train/mug/{HOSTILE[4]}": "truncated"}
    assert labels(settings, changed) == [("d/mug", None)]
    assert catalog(settings, "e") == other

    (mug / HOSTILE[4]).write_bytes(cut)
    assert figures(ingest(settings, str(root), "d")) == {
        "images": 9,
        "added": 1,
        "unchanged": 8,
        "quarantined": 2,
        "mended": 1,
    }
    assert quarantine(settings) == codes
    assert lake.rows(settings, "SELECT count(*) AS n FROM quarantine WHERE dataset <> 'd'") == [{"n": 0}]


def table(path: Path, rows: list[dict[str, Any]], **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, list(rows[0]), **how)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_relabelling_through_a_csv_of_relative_uris(settings: Settings, tmp_path: Path):
    folder = tmp_path / "feed"
    names = ["a.jpg", "sub/b, with comma.jpg", 'c "quoted".jpg', "line\nbreak.jpg"]
    for number, name in enumerate(names):
        paint(folder / name, number)
    paint(tmp_path / "beside.jpg", 9)
    rows: list[dict[str, Any]] = [
        {"uri": name, "product_id": f"00{number}", "category": "cup", "split": "train", "colour": "red"}
        for number, name in enumerate(names)
    ]
    rows[1] |= {"category": "", "split": "validation"}
    rows[2] |= {"uri": str(folder / names[2]), "split": ""}
    rows += [
        {"uri": "../beside.jpg", "product_id": "5", "split": "test"},
        {"uri": "a.jpg?", "product_id": " ", "split": "test"},
        {"uri": "missing.jpg", "product_id": "6", "split": "test"},
    ]
    # Every field quoted, as spreadsheets write it: an empty one says nothing all the same.
    source = table(folder / "photos.csv", rows, quoting=csv.QUOTE_ALL, encoding="utf-8-sig")
    first = ingest(settings, str(source), "d", "table")
    assert figures(first) == {"images": 5, "added": 5, "quarantined": 2}
    found = catalog(settings)
    assert {name: (row["product_id"], row["category"], row["split"]) for name, row in found.items()} == {
        "d/a.jpg": ("d/000", "cup", "train"),
        "d/sub/b, with comma.jpg": ("d/001", None, "val"),
        f"d/{folder / names[2]}": ("d/002", "cup", None),
        "d/line\nbreak.jpg": ("d/003", "cup", "train"),
        "d/../beside.jpg": ("d/5", None, "test"),
    }
    assert quarantine(settings) == {"d/a.jpg?": "no_product", "d/missing.jpg": "missing"}

    rows[0]["product_id"] = "relabelled"
    rows[3]["split"] = "test"
    rows[5]["uri"], rows[5]["product_id"] = "missing.jpg", "now here"
    del rows[6]
    paint(folder / "missing.jpg", 11)
    table(source, rows)
    night = ingest(settings, str(source), "d", "table")
    assert figures(night) == {"images": 6, "added": 1, "updated": 2, "unchanged": 3, "mended": 2}
    assert labels(settings, "d/a.jpg") == [("d/000", "cup"), ("d/relabelled", "cup")]
    assert labels(settings, "d/line\nbreak.jpg") == [("d/003", "cup")]
    after = catalog(settings)["d/a.jpg"]
    assert after["content_seen_at"] == found["d/a.jpg"]["content_seen_at"]
    valid = lake.rows(settings, "SELECT max(valid_from) AS v FROM labels WHERE image_id = 'd/a.jpg'")
    assert valid == [{"v": after["updated_at"]}]


def test_parquet_and_delta_tables(settings: Settings, tmp_path: Path, spark: Any):
    for number in range(3):
        paint(tmp_path / f"{number}.jpg", number)
    rows = [(f"own{n}", n, str(tmp_path / f"{n}.jpg") if n else "0.jpg") for n in range(3)]
    frame = spark.createDataFrame(rows, "image_id string, product_id long, uri string").coalesce(1)
    frame.toPandas().to_parquet(tmp_path / "photos.parquet")
    assert figures(ingest(settings, "photos.parquet", "d", "table")) == {"images": 3, "added": 3}
    assert {name: row["product_id"] for name, row in catalog(settings).items()} == {
        f"d/own{n}": f"d/{n}" for n in range(3)
    }
    paint(tmp_path / "delta" / "0.jpg", 0)
    frame.write.format("delta").save(str(tmp_path / "delta"))
    assert figures(ingest(settings, str(tmp_path / "delta"), "e", "table")) == {"images": 3, "added": 3}
    assert catalog(settings, "e")["e/own0"]["uri"] == f"{tmp_path}/delta/0.jpg"
    frame.toDF("Image_ID", "SKU", "link").write.format("delta").save(str(tmp_path / "delta" / "mapped"))
    paint(tmp_path / "delta" / "mapped" / "0.jpg", 0)
    given = {"uri": "LINK", "product_id": "sku"}
    assert ingest(settings, "delta/mapped", "f", "table", columns=given)["added"] == 3
    assert {name[1:]: row["product_id"][1:] for name, row in catalog(settings, "f").items()} == {
        name[1:]: row["product_id"][1:] for name, row in catalog(settings, "e").items()
    }
    with pytest.raises(
        UserError, match=r"no column uri, product_id in it.*--column uri=link --column product_id=SKU\?"
    ):
        ingest(settings, "delta/mapped", "f", "table")
    frame.write.parquet(str(tmp_path / "folder of (parquet)"))
    with pytest.raises(UserError, match="no such table"):
        ingest(settings, "nowhere.parquet", "e", "table")
    assert figures(ingest(settings, "photos.parquet", "d", "table", test_share=0.5))["updated"] == 3
    # By the SHA-256 of the id: its first 32 bits, as a share of all.
    wanted = {
        name: "test" if int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 < 0.5 else "train"
        for name in ("d/own0", "d/own1", "d/own2")
    }
    assert {name: row["split"] for name, row in catalog(settings).items()} == wanted


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", lines("url,product_id", "a.jpg,1"), "no column uri in .*it has url, product_id"),
        ("t.csv", lines("uri,label", "a.jpg,1"), "no column product_id in"),
        ("t.csv", "", "no column uri, product_id in"),
        ("t.csv", lines("uri,product_id"), "no photos in"),
        ("t.csv", lines("uri,product_id", "a.jpg,1", "a.jpg,2"), "must be unique.*d/a.jpg"),
        ("t.csv", lines("uri,product_id", ",1", "a.jpg,2"), "have no uri"),
        ("t.csv", lines("uri,product_id", '"",1', "a.jpg,2"), "have no uri"),
        ("t.csv", lines("uri,product_id,split", "a.jpg,1,Test/2"), "bad split 'Test/2'.*lower-case"),
        ("t.parquet", "no parquet", "layout table is CSV .*Parquet, Arrow or Delta"),
        ("t.xlsx", "no parquet", "layout table is CSV .*Parquet, Arrow or Delta"),
    ],
)
def test_a_table_that_will_not_do(settings: Settings, tmp_path: Path, name: str, text: str, said: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"(?s){said}") as caught:
        ingest(settings, name, "d", "table")
    assert name in str(caught.value) and len(str(caught.value)) < 500
    for written in (CATALOG, LABELS, QUARANTINE):
        assert lake.rows(settings, f"SELECT * FROM {written.name}") == []


def test_names_that_are_patterns_or_hidden_are_names_of_tables(settings: Settings, tmp_path: Path):
    for number, name in enumerate(("t[1].csv", "_t.csv", "a{b}*?.tsv")):
        paint(tmp_path / f"{number}.jpg", number)
        (tmp_path / name).write_text(lines("uri,product_id", f"{number}.jpg,1"))
        assert figures(ingest(settings, name, f"d{number}", "table")) == {"images": 1, "added": 1}


@pytest.mark.parametrize(
    ("dataset", "layout", "source", "said"),
    [
        ("a/b", "folder", "shop", "bad data set 'a/b'.*lower-case"),
        ("..", "folder", "shop", "bad data set"),
        ("d", "fodler", "shop", "unknown layout 'fodler'.*folder, food2k, generated, google_feed, grocery_store"),
        ("d", "folder", "nowhere", "cannot list 'nowhere' .*No such file"),
        ("d", "folder", "empty", "no photos in 'empty'"),
        ("d", "generated", "many", "bad source 'many'"),
        ("d", "table", "nowhere.csv", "no such table 'nowhere.csv'"),
    ],
)
def test_a_callers_mistake_writes_nothing(
    settings: Settings, tmp_path: Path, dataset: str, layout: str, source: str, said: str
):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said):
        ingest(settings, source, dataset, layout)
    assert not settings.home.exists()


def test_products_without_photos_are_no_catalog(settings: Settings, tmp_path: Path):
    (tmp_path / "shop" / "mug").mkdir(parents=True)
    (tmp_path / "shop" / "mug" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no photos in"):
        ingest(settings, "shop", "d")
    assert catalog(settings) == {}


def test_generated_photos_grow_in_place(settings: Settings):
    assert figures(ingest(settings, "3x4", "d", "generated")) == {"images": 12, "added": 12}
    before = catalog(settings)
    assert figures(ingest(settings, "4x5", "d", "generated")) == {"images": 20, "added": 8, "unchanged": 12}
    after = catalog(settings)
    assert {name: after[name] for name in before} == before
    assert len({row["product_id"] for row in after.values()}) == 4 and all(row["category"] for row in after.values())


def test_a_killed_ingest_ends_as_an_undisturbed_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    good, bad = paint(tmp_path / "shop" / "mug" / "1.jpg"), tmp_path / "shop" / "mug" / "2.jpg"
    bad.write_bytes(b"")
    with monkeypatch.context() as broken:
        broken.setattr(ingest_catalog, "append_labels", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ingest(settings, "shop", "d")
    assert set(catalog(settings)) == {"d/mug/1.jpg"} and quarantine(settings) == {}
    assert figures(ingest(settings, "shop", "d")) == {"images": 1, "unchanged": 1, "quarantined": 1}
    assert labels(settings, "d/mug/1.jpg") == [("d/mug", None)]
    assert quarantine(settings) == {"d/mug/2.jpg": "empty"}
    assert good.is_file()


def test_a_file_that_is_known_is_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = paint(tmp_path / "1.jpg")
    blank = dict.fromkeys(checked_photos.LISTED.names) | {"image_id": "d/1.jpg", "product_id": "d/p", "uri": str(path)}
    first = checked_photos.check_row(blank, 10_000)
    assert first["code"] is None and not first["was_known"] and not first["same_row"]
    known = blank | {f"known_{name}": first[name] for name in checked_photos.KNOWN}
    monkeypatch.setattr(checked_photos.photo_files, "check", lambda *_: pytest.fail("it was read"))
    again = checked_photos.check_row(known, 10_000)
    assert again["was_known"] and again["same_content"] and again["same_row"]
    moved = checked_photos.check_row(known | {"product_id": "d/q"}, 10_000)
    assert moved["same_content"] and not moved["same_row"]
    monkeypatch.undo()
    assert checked_photos.check_row(blank, 10)["code"] == "too_large"


@pytest.mark.parametrize("name", ["a#1.jpg", "a b.jpg", "what?.jpg", "100%.jpg", "ü.jpg"])
def test_a_row_that_spells_its_uri_as_before_is_not_read_again(tmp_path: Path, name: str):
    path = paint(tmp_path / name)
    listed = dict.fromkeys(checked_photos.LISTED.names)
    raw = f"file://{tmp_path}/{name}"
    first = checked_photos.check_row({**listed, "uri": raw}, 1_000_000)
    known = {f"known_{key}": first.get(key) for key in checked_photos.KNOWN}
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = checked_photos.check_row(
        {**listed, **known, "uri": (Location(f"file://{tmp_path}") / name).text}, 1_000_000
    )
    assert again["content_sha256"] == first["content_sha256"] and again["code"] is None
    assert again["same_row"] == (not set(name) & set("%?#"))


def test_what_many_tasks_read_is_written_in_few_files(settings: Settings, spark: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ingest_catalog, "_READ_AT_ONCE", 1)
    assert figures(ingest(settings, "24x2", "d", "generated"))["added"] == 48
    assert len(lake.delta(settings, CATALOG).file_uris()) <= 2 * spark.sparkContext.defaultParallelism < 48


def test_labels_of_a_large_catalog_are_asked_for_in_parts(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """All at once, what labels five million photos lack took ten gigabytes."""
    monkeypatch.setattr(facts, "_JOINED", 1)
    paint(tmp_path / "shop" / "cup" / "1.jpg")
    ingest(settings, str(tmp_path / "shop"), "d")
    before = lake.version(settings, LABELS)
    assert labels(settings, "d/cup/1.jpg") == [("d/cup", None)]
    paint(tmp_path / "shop" / "cup" / "1.jpg", seed=1)  # another picture of the same labels
    assert figures(ingest(settings, str(tmp_path / "shop"), "d")) == {"images": 1, "changed": 1}
    assert lake.version(settings, LABELS) == before, "nothing was written"
    paint(tmp_path / "shop" / "hat" / "2.jpg", seed=2)
    assert figures(ingest(settings, str(tmp_path / "shop"), "d"))["added"] == 1
    assert labels(settings, "d/hat/2.jpg") == [("d/hat", None)] and lake.version(settings, LABELS) == before + 1
