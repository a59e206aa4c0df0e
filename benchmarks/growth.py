"""How a night's cost grows: with the photos, with the cores, and with how many of them changed.

Every catalog is of drawn photos (500 different ones, each file another content) and lives in a home of its own. Seconds
of ``vitrine embed`` as a whole command, with start: all photos new; nothing changed; one photo in a hundred changed
(after an ingest, whose seconds stand beside).

    python benchmarks/growth.py --sizes 500 2000 8000 20000 --cores 1 2

The second table is of a catalog and vectors of so many rows that were generated as data, without photos: nothing
changed, then one row in a hundred relabelled, which needs no photo either.

    python benchmarks/growth.py --sizes --rows 1000000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vitrine import lake
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoders import backbones, identity
from vitrine.settings import load_settings
from vitrine.tables import CATALOG, EMBEDDINGS
from vitrine.vectors import lists

PHOTOS_A_PRODUCT = 10
PICTURES = 500


def vitrine(home: Path, cores: int, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole command on ``cores``, and what it said."""
    available = sorted(os.sched_getaffinity(0))[:cores]
    env = os.environ | {"VITRINE_SPARK__MASTER": f"local[{cores},4]"}
    started = datetime.now()
    done = subprocess.run(
        [sys.executable, "-m", "vitrine", *arguments, "--json"],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, available),
    )
    if done.returncode:
        raise SystemExit(f"vitrine {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout)
    return (datetime.now() - started).total_seconds(), said.get("results", [said])[0]


def draw(number: int, size: int = 256) -> bytes:
    return draw_photo(product(number // PHOTOS_A_PRODUCT), number % PHOTOS_A_PRODUCT, size=size)


def write(folder: Path, number: int, pictures: list[bytes], edition: int = 0) -> None:
    """One of ``pictures`` with a JPEG comment of its own: another content, as costly to read, decode and embed."""
    comment = f"{number} {edition}".encode()
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    picture = pictures[number % len(pictures)]
    (folder / f"{number}.jpg").write_bytes(picture[:2] + segment + picture[2:])


def drawn(folder: Path, pictures: list[bytes], size: int, encoder: str, cores: int) -> str:
    """One row of the first table."""
    home = folder / f"home-{size}-{cores}"
    home.mkdir()
    (home / "vitrine.toml").touch()
    lines = (f"{folder / f'{number}.jpg'},p{number // PHOTOS_A_PRODUCT}" for number in range(size))
    (home / "photos.csv").write_text("\n".join(["uri,product_id", *lines, ""]))
    ingest = ("ingest", "photos.csv", "--dataset", "shop", "--layout", "table")
    embed = ("embed", "--encoder", encoder, "--dataset", "shop")
    vitrine(home, cores, *ingest)
    new, said = vitrine(home, cores, *embed)
    assert said["embedded"] == size, said
    same, said = vitrine(home, cores, *embed)
    assert said["unchanged"] == size and not said["computed"], said
    changed = range(0, size, 100)
    for number in changed:
        write(folder, number, pictures, 10 * size + cores)
    taken, said = vitrine(home, cores, *ingest)
    part, said = vitrine(home, cores, *embed)
    assert said["computed"] == len(changed), said
    return f"| {size} | {cores} | {new:.1f} | {size / new:.1f} | {same:.1f} | {part:.1f} | {taken:.1f} |"


def fill_lake(home: Path, count: int, dim: int, encoder: str) -> None:
    """A home with a data set of ``count`` images, generated as data, each with a vector of ``dim`` numbers."""
    (home / "vitrine.toml").touch()
    settings = load_settings(home)
    version = identity.identify(settings, backbones.resolve(settings, encoder)).encoder_version
    moment, random = datetime.now(UTC), np.random.default_rng(0)
    for first in range(0, count, 100_000):
        n = min(100_000, count - first)
        ids = [f"shop/{number:09d}" for number in range(first, first + n)]
        vectors = random.standard_normal((n, dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        columns = {
            "image_id": pa.array(ids),
            "dataset": pa.array(["shop"] * n),
            "product_id": pa.array([f"shop/p{number // PHOTOS_A_PRODUCT}" for number in range(first, first + n)]),
            "category": pa.array(["old"] * n),
            "split": pa.nulls(n, pa.string()),
            "uri": pa.array(ids),
            "size": pa.array([1000] * n),
            "content_sha256": pa.array([f"{number:064x}" for number in range(first, first + n)]),
            "width": pa.array([100] * n, pa.int32()),
            "height": pa.array([100] * n, pa.int32()),
            "encoder_version": pa.array([version] * n),
            "encoder": pa.array([encoder] * n),
            "embedding": lists(vectors),
            **dict.fromkeys(
                ("modified_at", "content_seen_at", "updated_at", "event_timestamp", "created_timestamp"),
                pa.array([moment] * n, pa.timestamp("us", "UTC")),
            ),
        }
        for table in (CATALOG, EMBEDDINGS):
            known = {each.name: columns.get(each.name, pa.nulls(n, each.type)) for each in table.schema}
            lake.write(settings, table, pa.table(known))


def generated(home: Path, count: int, dim: int, encoder: str) -> list[str]:
    """The rows of the second table."""
    fill_lake(home, count, dim, encoder)
    settings, cores = load_settings(home), os.cpu_count() or 1
    embed = ("embed", "--encoder", encoder, "--dataset", "shop")
    first_time, said = vitrine(home, cores, *embed)
    assert said["unchanged"] == count and said["products"], said
    same, said = vitrine(home, cores, *embed)
    assert said["unchanged"] == count, said
    rows = lake.query(settings, "SELECT * FROM catalog")
    category = ["new" if number % 100 == 0 else "old" for number in range(count)]
    relabelled = rows.set_column(rows.schema.get_field_index("category"), "category", pa.array(category))
    lake.write(settings, CATALOG, relabelled, replacing={"dataset": "shop"})
    part, said = vitrine(home, cores, *embed)
    assert said["updated"] == -(-count // 100) and not said["computed"], said
    return [
        f"| products' vectors for the first time | {first_time:.1f} |",
        f"| nothing changed | {same:.1f} |",
        f"| 1 % relabelled | {part:.1f} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 2000, 8000, 20000], help="photos")
    parser.add_argument("--cores", type=int, nargs="+", default=[os.cpu_count() or 1])
    parser.add_argument("--rows", type=int, default=0, help="of the second table, which 0 leaves out")
    parser.add_argument("--dim", type=int, default=512, help="of its vectors")
    parser.add_argument("--encoder", default="efficientnet_lite0")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        folder = Path(made)
        if given.sizes:
            with Pool() as pool:
                pictures = pool.map(draw, range(min(PICTURES, max(given.sizes))))
            for number in range(max(given.sizes)):
                write(folder, number, pictures)
            print(f"seconds of the whole command, {given.encoder}\n")
            print("| photos | cores | all new | photos/s | nothing changed | 1 % changed | its ingest |")
            print("|---|---|---|---|---|---|---|")
            for size in given.sizes:
                for cores in given.cores:
                    print(drawn(folder, pictures, size, given.encoder, cores), flush=True)
        if given.rows:
            home = folder / "rows"
            home.mkdir()
            print(f"\nseconds of the whole command, {given.rows} rows x {given.dim}\n\n| | seconds |\n|---|---|")
            print("\n".join(generated(home, given.rows, given.dim, given.encoder)))


if __name__ == "__main__":
    main()
