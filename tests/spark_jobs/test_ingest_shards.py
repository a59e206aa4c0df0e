"""Tar shards, ingested: their photos are kept once, by content, and the next night reads what is there now."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from spark_jobs.ingest_catalog import ingest
from vitrine import lake, photo_store
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.settings import Settings

pytestmark = pytest.mark.usefixtures("spark")


def shard(path: Path, photos: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as file:
        for key, data in photos.items():
            said = json.dumps({"key": key, "sku": key[:2], "kind": "cups"}).encode()
            for name, content in ((f"{key}.jpg", data), (f"{key}.json", said)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))


def test_nights_of_shards(settings: Settings, tmp_path: Path):
    folder = tmp_path / "shards"
    folder.mkdir()
    photos = {f"0{number}": draw_photo(product(number), 0, size=96) for number in range(6)}
    shard(folder / "0.tar", {key: photos[key] for key in ("00", "01", "02")})
    shard(folder / "1.tar", {**{key: photos[key] for key in ("03", "04")}, "05": b"no picture"})
    columns = {"product_id": "sku", "category": "kind"}

    def night() -> dict[str, int]:
        counts = ingest(settings, str(folder), "d", "shards", columns=columns)
        return {name: count for name, count in counts.items() if count}

    assert night() == {"images": 5, "added": 5, "quarantined": 1}
    rows = {row["image_id"]: row for row in lake.rows(settings, "SELECT * FROM catalog")}
    row = rows["d/1.tar/03.jpg"]
    assert (row["product_id"], row["category"], row["uri"]) == ("d/03", "cups", f"inside:{folder}/1.tar#03.jpg")
    readable = photo_store.readable(settings, row["uri"], row["content_sha256"])
    assert Path(readable).read_bytes() == photos["03"]
    assert night() == {"images": 5, "unchanged": 5, "quarantined": 1}
    shard(folder / "1.tar", {"03": photos["05"], "05": photos["05"]})
    assert night() == {"images": 5, "added": 1, "changed": 1, "unchanged": 3, "removed": 1, "mended": 1}
