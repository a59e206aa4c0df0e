"""vitrine.datasets.shards: what img2dataset and WebDataset write, and what a hostile tar file comes to; no Spark."""

import gzip
import hashlib
import io
import json
import re
import struct
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vitrine import photo_store
from vitrine.datasets import registry, shards, tar_files
from vitrine.datasets.photo import REFUSED, Photo
from vitrine.errors import UserError
from vitrine.setting_sections import SourceSettings
from vitrine.settings import Settings


def jpeg(seed: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (seed * 30 % 256, 7, 99)).save(data, "JPEG")
    return data.getvalue()


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(data, bytes):
                info.size = len(data)
            file.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return path


def img2dataset(key: str, **own: Any) -> dict[str, bytes]:
    """The members of a sample of ``--output_format webdataset``, with the keys that img2dataset writes."""
    said = {"caption": f"Photo {key}", "url": f"https://cdn.example/{key}.jpg", "key": key, "status": "success"}
    said |= {"error_message": None, "width": 8, "height": 8, "original_width": 800, "original_height": 600}
    said |= {"exif": "{}", "sha256": hashlib.sha256(jpeg(int(key))).hexdigest(), **own}
    data = json.dumps(said, indent=4).encode()
    return {f"{key}.jpg": jpeg(int(key)), f"{key}.json": data, f"{key}.txt": f"Photo {key}".encode()}


def read(settings: Settings, source: Path, **columns: str) -> list[Photo]:
    layout = registry.find("shards", columns=columns)
    return [photo for unit in layout.units(settings, str(source)) for photo in layout.photos(unit)]


def refusal(photos: list[Photo]) -> str:
    reason = next(photo.refusal[1] for photo in photos if photo.refusal and photo.refusal[0] == REFUSED)
    assert reason.isprintable() and len(reason) < 700, reason
    return reason


def codes(photos: list[Photo]) -> dict[str, str | None]:
    return {photo.image_id: photo.refusal and photo.refusal[0] for photo in photos}


@pytest.mark.parametrize("packed", [False, True])
def test_shards_of_img2dataset(settings: Settings, tmp_path: Path, packed: bool):
    folder = tmp_path / "laion"
    folder.mkdir()
    for shard in range(2):
        keys = [f"{shard:05}{number:04}" for number in range(3)]
        members = {name: data for key in keys for name, data in img2dataset(key, sku=int(key), kind="Mugs").items()}
        path = tar(folder / f"{shard:05}.tar", members)  # type: ignore[arg-type]
        if packed:
            path.with_suffix(".tar.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
            path.unlink()
        (folder / f"{shard:05}_stats.json").write_text("{}")
        pq.write_table(pa.table({"key": keys, "url": keys}), folder / f"{shard:05}.parquet")
    photos = read(settings, folder, product_id="sku", category="KIND")
    ending = ".tar.gz" if packed else ".tar"
    assert codes(photos) == {f"0000{s}{ending}/0000{s}000{n}.jpg": None for s in range(2) for n in range(3)}
    first = photos[3]
    assert (first.product_id, first.category, first.uri) == (
        "10000", "Mugs", f"inside:{folder}/00001{ending}#000010000.jpg",
    )  # fmt: skip
    assert first.kept_sha256 == hashlib.sha256(jpeg(10000)).hexdigest()
    assert Path(photo_store.place(settings.photos, first.kept_sha256)).read_bytes() == jpeg(10000)
    assert "no column product_id in it" in refusal(read(settings, folder))
    assert "it has txt, caption, url, key" in refusal(read(settings, folder))
    assert refusal(read(settings, folder / f"00000{ending}", product_id="skus")).endswith(
        "is it --column product_id=sku?"
    )


def test_shards_of_webdataset(settings: Settings, tmp_path: Path):
    members = {
        "./train/a.jpg": jpeg(1), "./train/a.cls": b"7\n", "./train/a.seg.png": jpeg(2),
        "./train/a.json": b'{"x": 1.5}', "./train/b.PNG": jpeg(3), "./train/b.jpeg": jpeg(4), "./train/b.cls": b"8",
        "./train/b.txt": "caf\u00e9".encode(),
        "__MACOSX/._a.jpg": b"", "._c.jpg": b"", "README": b"", "d.npy": b"",
    }  # fmt: skip
    path = tar(tmp_path / "imagenet.tar", members)  # type: ignore[arg-type]
    photos = read(settings, path, product_id="cls", category="txt")
    assert [(photo.image_id, photo.product_id, photo.category) for photo in photos] == [
        ("imagenet.tar/train/a.jpg", "7", None),
        ("imagenet.tar/train/b.PNG", "8", "caf\u00e9"),
        ("imagenet.tar/train/b.jpeg", "8", "caf\u00e9"),
    ]
    assert {photo.refusal for photo in photos} == {None}


def test_parquet_beside_says_what_a_shard_does_not(settings: Settings, tmp_path: Path):
    path = tar(tmp_path / "0.tar", {"k1.jpg": jpeg(1), "k1.txt": b"cups", "k2.jpg": jpeg(2), "k3.jpg": jpeg(3)})
    rows = {"key": ["k1", "k2"], "SKU": ["001", "002"], "place": [0.5, 1.5], "image_id": ["one", None]}
    pq.write_table(pa.table(rows), tmp_path / "0.parquet")
    photos = read(settings, path, product_id="sku", category="txt")
    assert [(photo.image_id, photo.product_id, photo.category) for photo in photos] == [
        ("one", "001", "cups"), ("0.tar/k2.jpg", "002", None), ("0.tar/k3.jpg", "", None),
    ]  # fmt: skip
    assert codes(photos)["0.tar/k3.jpg"] == "no_product"
    assert "it has key, SKU, place" in refusal(read(settings, path))
    (tmp_path / "0.parquet").unlink()
    assert "no column product_id in it" in refusal(read(settings, path))


def test_a_sample_that_is_not_whole_is_a_row_of_quarantine(settings: Settings, tmp_path: Path):
    link, device, hard = (tarfile.TarInfo() for _ in range(3))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "good.jpg"
    device.type, device.devmajor = tarfile.CHRTYPE, 1
    product = b'{"product_id": "1"}'
    members: dict[str, bytes | tarfile.TarInfo] = {"good.jpg": jpeg(1), "good.json": product}
    members |= {"../../up.jpg": jpeg(2), "../../up.json": product, "/etc/up.jpg": jpeg(3), "/etc/up.json": product}
    members |= {"link.jpg": link, "link.json": product, "hard.jpg": hard, "device.jpg": device, "device.json": product}
    members |= {"large.jpg": bytes(3000), "large.json": product, "alone.jpg": jpeg(4), "nothing.json": product}
    for name, text in {
        "list": b"[1]", "broken": b"{", "float": b'{"product_id": 1.5}', "zero": b'{"product_id": "\\u0000"}',
        "half": b'{"product_id": "\\ud800"}', "long": bytes(2 << 20), "bytes": b"\xff\xfe\xfa",
    }.items():  # fmt: skip
        members |= {f"{name}.jpg": jpeg(5), f"{name}.json": text}
    members |= {"caf\udce9.jpg": jpeg(6), "caf\udce9.json": product}
    small = settings.model_copy(update={"sources": SourceSettings(max_bytes=2000)})
    photos = read(small, tar(tmp_path / "s.tar", members))
    assert {name.removeprefix("s.tar/").removesuffix(".jpg"): code for name, code in codes(photos).items()} == {
        "good": None, "../../up": None, "/etc/up": None, "link": "unreadable", "hard": "unreadable",
        "device": "unreadable", "large": "too_large", "alone": "no_product", "list": "bad_metadata",
        "broken": "bad_metadata", "float": "bad_metadata", "zero": "bad_metadata", "half": "bad_metadata",
        "long": "bad_metadata", "bytes": "bad_metadata", "caf\\xe9": None,
    }  # fmt: skip
    assert not (tmp_path / "etc").exists() and {path.name for path in tmp_path.iterdir()} == {"s.tar", "home"}
    assert all(photo.uri.encode() for photo in photos)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytearray:
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\x80" + size.to_bytes(11) if size >= 0 else b"\xff" * 4 + struct.pack(">q", size)
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}".encode() + b"\0 "
    return block


WHOLE = {"a.jpg": jpeg(1), "a.json": b'{"product_id": "1"}', "b.jpg": jpeg(2), "b.json": b'{"product_id": "2"}'}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[: data.index(b"b.jpg") + 700], "ends within 'b.jpg'|unexpected end"),
        (lambda data: data[: data.index(b"b.jpg")], "ends without the mark of its end"),
        (lambda data: data[: data.index(b"b.jpg") + 100], "ends without the mark of its end"),
        (lambda data: data[: (at := data.index(b"b.jpg"))] + b"x" * 512 + data[at + 512 :], "or is damaged"),
        (lambda data: data.rstrip(b"\0") + bytes(1024 * 10) + data, "something follows after its end"),
        (lambda data: header("a.jpg", 1 << 40) + data, "unexpected end|mark of its end"),
        (lambda data: header("a.jpg", -512) + data, "below zero"),
        (lambda data: header("a.jpg", 1 << 40, tarfile.XHDTYPE) + data, "a header in it is of"),
        (lambda data: header("a.jpg", 1 << 40, tarfile.GNUTYPE_LONGNAME) + data, "a header in it is of"),
        (lambda data: header("a.jpg", -512, tarfile.XHDTYPE) + data, "a header in it is of -512 bytes"),
        (lambda data: b"".join(bytes(header("x", 0, tarfile.XHDTYPE)) for _ in range(2000)) + data, "recursion"),
        (lambda data: b"", "empty file"),
        (lambda data: b"no tar file at all" * 100, "no tar file that can be read"),
        (lambda data: b"\x1f\x8b" + data, "no tar file that can be read"),
        (lambda data: gzip.compress(data, mtime=0)[:-200], "no tar file that can be read"),
    ],
    ids=range(15),
)
def test_a_damaged_or_hostile_tar_file_is_one_sentence(settings: Settings, tmp_path: Path, change: Any, reason: str):
    path = tar(tmp_path / "s.tar", WHOLE)  # type: ignore[arg-type]
    path.write_bytes(change(path.read_bytes()))
    photos = read(settings, path)
    assert re.search(reason, refusal(photos))


def test_a_sample_of_too_many_photos_is_one_sentence(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shards, "_MOST_PHOTOS", 2)
    members = {f"a.{suffix}": jpeg(1) for suffix in ("jpg", "JPG", "png")}
    assert "'a' has over 2 photos" in refusal(read(settings, tar(tmp_path / "s.tar", members)))  # type: ignore[arg-type]


def test_no_more_than_a_chunk_is_in_memory_at_once(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tar_files, "_CHUNK", 1024)
    photos = read(settings, tar(tmp_path / "s.tar", WHOLE | {"c.jpg": bytes(5000)}))  # type: ignore[arg-type]
    assert codes(photos) == {"s.tar/a.jpg": None, "s.tar/b.jpg": None, "s.tar/c.jpg": "no_product"}


def test_what_has_no_shard_is_one_sentence(settings: Settings, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(jpeg(1))
    with pytest.raises(UserError, match=r"no tar file in .*layout shards is"):
        read(settings, tmp_path / "photos")
    with pytest.raises(UserError, match="unknown column 'uri' of --column"):
        registry.find("shards", columns={"uri": "a"})
