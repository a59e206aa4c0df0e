"""Sources as shops have them, through the verbs: what is read, what is quarantined and what is refused."""

import json
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.support.small_shop import CONFIG
from tests.support.verbs_here import vitrine
from vitrine import lake
from vitrine.errors import GateRefused, UserError
from vitrine.settings import load_settings

NAMES = ("a b.jpg", "a#1.jpg", "a%20b.jpg", "what?.jpg", "\u00fc.jpg", "u\u0308.jpg", "[1]{x}*.jpg")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photo(seed: int, form: str = "JPEG") -> bytes:
    out = BytesIO()
    Image.new("RGB", (40, 30), (seed * 9 % 256, seed * 31 % 256, 80)).save(out, form)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def figures(shown: str) -> dict[str, int]:
    counts = json.loads(shown)
    return {name: count for name, count in counts.items() if count and isinstance(count, int)}


def test_a_night_on_a_source_with_every_oddity_at_once(spark: object, project: Path):
    root = project / "feature%2Fnew #1"
    for number, name in enumerate(NAMES):
        put(root / "Train" / "red shoes" / name, photo(number))
        put(root / "TEST" / name.removesuffix(".jpg") / "only here.jpg", photo(number + 20))
    edited = photo(50, "PNG")
    edited = edited[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(5_000_000))) + edited[33:]
    put(root / "Train" / "red shoes" / "edited.png", edited)
    tags = struct.pack("<HHHII", 1, 254, 4, 1, 1)
    put(root / "Train" / "red shoes" / "IMG_1.NEF", b"II*\0" + struct.pack("<I", 8) + tags + bytes(4))
    put(root / "__MACOSX" / "Train" / "red shoes" / "._1.jpg", b"x")
    put(root / "Train" / "red shoes" / "@eaDir" / "thumb.jpg", photo(1))
    put(root / "TEST" / "Thumbs.db", b"x")
    ingest = ("ingest", root.as_uri(), "--dataset", "shop", "--json")
    photos = 2 * len(NAMES) + 1
    assert figures(vitrine(*ingest)) == {"images": photos, "added": photos, "quarantined": 1}
    assert figures(vitrine(*ingest)) == {"images": photos, "unchanged": photos, "quarantined": 1}
    settings = load_settings(project)
    rows = {row["image_id"]: row for row in lake.rows(settings, "SELECT * FROM catalog")}
    for name in NAMES:
        for image_id, product, split in (
            (f"Train/red shoes/{name}", "red shoes", "train"),
            (f"TEST/{name.removesuffix('.jpg')}/only here.jpg", name.removesuffix(".jpg"), "test"),
        ):
            row = rows[f"shop/{image_id}"]
            assert (row["product_id"], row["split"]) == (f"shop/{product}", split)
            assert row["size"] == (root / image_id).stat().st_size
    assert len({row["content_sha256"] for row in rows.values()}) == photos, "each has its own bytes"
    assert lake.rows(settings, "SELECT image_id, code FROM quarantine") == [
        {"image_id": "shop/Train/red shoes/IMG_1.NEF", "code": "unsupported"}
    ]

    table = root / "list.tsv"  # with semicolons, of a Windows spreadsheet
    listed = "".join(f"Train/red shoes/{name};caf\u00e9;;\n" for name in ("a b.jpg", "a#1.jpg", "a%20b.jpg"))
    table.write_bytes(f"uri;product_id;;\n{listed};;;\n;;;\n".encode("cp1252"))
    for source in (str(table), table.as_uri()):
        how = ("ingest", source, "--dataset", f"listed{len(source)}", "--layout", "table", "--json")
        with pytest.raises(UserError, match=r"row 2 has bytes in product_id .*--encoding cp1252"):
            vitrine(*how)
        assert figures(vitrine(*how, "--encoding", "cp1252")) == {"images": 3, "added": 3, "blank_rows": 2}
    sizes = lake.rows(settings, "SELECT uri, size FROM catalog WHERE product_id LIKE '%caf\u00e9'")
    assert len(sizes) == 6 and len({row["uri"] for row in sizes}) == 6

    put(root / "docs" / "cover.jpg", photo(60))
    with pytest.raises(UserError, match="'TEST', 'Train' beside 'docs': say --splits"):
        vitrine(*ingest)
    decided = figures(vitrine(*ingest, "--splits"))
    assert decided == {"images": photos, "unchanged": photos, "quarantined": 2}


def test_a_data_set_of_which_nothing_could_be_read_is_known(spark: object, project: Path):
    for number in range(12):
        put(project / "shop" / "mug" / f"{number}.jpg", b"no picture")
    ingest = ("ingest", "shop", "--dataset", "shop", "--json")
    assert figures(vitrine(*ingest)) == {"quarantined": 12}
    with pytest.raises(GateRefused, match=r"quarantine.*12"):
        vitrine("gate", "catalog", "--dataset", "shop")
    (listed,) = json.loads(vitrine("status", "--json"))["datasets"]
    assert (listed["dataset"], listed["images"], listed["quarantined"]) == ("shop", 0, 12)
    assert json.loads(vitrine("embed", "--encoder", "small", "--dataset", "shop", "--json"))["embedded"] == 0
    for verb in ("features", "check", "report"):
        vitrine(verb)
    with pytest.raises(UserError, match="embed --encoder small"):
        vitrine("evaluate", "--encoder", "small", "--dataset", "shop")
    for path in (project / "shop").rglob("*.jpg"):
        path.write_bytes(photo(int(path.stem)))
    assert figures(vitrine(*ingest)) == {"images": 12, "added": 12, "mended": 12}


def test_what_is_unclear_is_refused_and_nothing_is_written(
    spark: object, project: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    photos = sorted(draw(2, 2).rglob("*.jpg"))
    table = project / "t.csv"
    for text, reason in (
        (f"uri,product_id,split\n{photos[0]},1,all\n", "bad split 'all'.*another name"),
        (f'uri,product_id\n{photos[0]},"12" mug\n{photos[1]},2\n', "row 2 cannot be told"),
        (f"uri,product_id\n{photos[0]},1,2\n", "row 2 has 3 values"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=reason):
            vitrine("ingest", "t.csv", "--dataset", "shop", "--layout", "table")
    for more, reason in (
        (("--layout", "generated", "--splits"), "--splits"),
        (("--encoding", "cp1252"), "--encoding with layout 'folder'"),
        (("--layout", "table", "--encoding", "klingon"), "unknown encoding 'klingon'"),
    ):
        with pytest.raises(UserError, match=reason):
            vitrine("ingest", "t.csv", "--dataset", "shop", *more)
    (project / "inner" / "photos").mkdir(parents=True)
    monkeypatch.chdir(project / "inner")
    with pytest.raises(UserError, match="no photos in 'photos'"):
        vitrine("ingest", "photos", "--dataset", "shop")  # not the folder of that name beside vitrine.toml
    settings = load_settings(project)
    assert lake.rows(settings, "SELECT dataset FROM catalog") == []
    assert json.loads(vitrine("status", "--json"))["datasets"] == []
