"""``kill -9`` in the middle of a verb: the next run ends where one undisturbed run does.

Two projects follow the same photos through some nights. One is left alone; in the other each verb is first started as
a process of its own and killed at a moment inside its work, Spark's JVM and Python workers too, then run again.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from vitrine import lake
from vitrine.settings import Settings, load_settings
from vitrine.tables import TABLES

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[encoders.other]
backbone = "torchvision/squeezenet1_0"
weights = "random:2"
input_size = 64

[embed]
precision = "fp32"
task_photos = 12

[nightly]
encoders = ["small", "other"]
datasets = [{name = "shop", source = "../photos"}]
"""
CLOCKS = {
    "catalog": ("content_seen_at", "updated_at"),
    "labels": ("valid_from",),
    "quarantine": ("first_seen", "last_seen"),
    "embeddings": ("event_timestamp", "created_timestamp"),
    "encoders": ("created_at",),
    "promotions": ("promoted_at",),
}
# What the home shows inside a verb's work: a change of the files that match, and the moment has come.
MOMENTS = {
    "ingest": (
        "lake/catalog/dataset=*/*.parquet",
        "lake/catalog/_delta_log/*",
        "lake/catalog/_delta_log/*.json",
        "lake/labels/dataset=*/*.parquet",
        "lake/labels/_delta_log/*.json",
    ),
    "embed": (
        "lake/encoders/_delta_log/*.json",
        "staging/*/_temporary/*/*/*/*/*",
        "staging/*/*/*.parquet",
        "lake/embeddings/encoder_version=*/*.parquet",
        "lake/embeddings/_delta_log/*",
        "lake/embeddings/_delta_log/*.json",
    ),
    "index": (
        "milvus.db.lock",
        "milvus.db/collections/*",
        "milvus.db/collections/*/wal/*",
        "milvus.db/collections/*/manifest.json*",
        "milvus.db/collections/*/partitions/*/*/*",
        "milvus.db/collections/*/schema.json",
    ),
    "features": ("feast/*", "feast/registry.db*", "feast/online.db-journal", "feast/online.db"),
    "promote": (
        "lake/promotions/*.parquet",
        "lake/promotions/_delta_log/*.json",
        "milvus.db/aliases.json",
        "feast/registry.db*",
        "lake/runs/_delta_log/*.json",
    ),
}
NIGHT = {
    "ingest": ("ingest", "../photos", "--dataset", "shop"),
    "embed": ("embed", "--encoder", "small", "--encoder", "other", "--dataset", "shop"),
    "index": ("index", "--encoder", "small", "--encoder", "other", "--dataset", "shop"),
    "features": ("features", "--dataset", "shop"),
    "promote": ("promote", "small", "--dataset", "shop", "--force", "--reason", "test"),
}


# The harness: it knows verbs, moments and states, and nothing of the nights below.


def make_project(root: Path) -> Path:
    """A project folder with an empty home."""
    root.mkdir(parents=True)
    (root / "vitrine.toml").write_text(CONFIG)
    return root


def start(project: Path, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """``vitrine ARGUMENTS`` in a session of its own; what it says goes to ``said.log``."""
    env = os.environ | {"SPARK_LOCAL_DIRS": str(project / "spark")}
    with (project / "said.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "vitrine", *arguments],
            cwd=project,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> bool:
    """SIGKILL the process and all below it, whatever group they made for themselves; False where it had ended."""
    if process.poll() is not None:  # its number may be another's by now
        return False
    root = psutil.Process(process.pid)
    root.suspend()  # so that it starts nothing while the others are listed
    for member in [*root.children(recursive=True), root]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    return process.wait(30) == -signal.SIGKILL


def reading(home: Path, pattern: str) -> set[tuple[str, int, int]]:
    """The files that match, with their sizes and times: another reading means that one was written."""
    found = set()
    for path in home.glob(pattern):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.add((str(path), stat.st_size, stat.st_mtime_ns))
    return found


def kill_at(project: Path, arguments: tuple[str, ...], pattern: str, later: float = 0.0, wait: float = 300) -> bool:
    """Start the verb and kill it ``later`` seconds after files that match ``pattern`` were written.

    Returns:
        Was it killed? False where it ended before.
    """
    home = project / ".vitrine"
    before = reading(home, pattern)
    process = start(project, arguments)
    until = time.monotonic() + wait
    while process.poll() is None and reading(home, pattern) <= before and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(later)
    return kill(process)


def state(project: Path) -> dict[str, Any]:
    """All that must be equal: tables without their clocks, Milvus, Feast; vectors as a dict of arrays."""
    settings = load_settings(project)
    found: dict[str, Any] = {}
    for name, clocks in CLOCKS.items():
        order = ", ".join((*TABLES[name].key, *clocks))
        rows = lake.rows(settings, f"SELECT * FROM {name} ORDER BY {order}")
        found[name] = [{column: row[column] for column in row if column not in (*clocks, "embedding")} for row in rows]
    found["milvus"], found["vectors"] = _milvus(settings)
    found["feast"] = _feast(settings, found["vectors"])
    stored = lake.rows(settings, "SELECT image_id, encoder_version, embedding FROM embeddings")
    found["vectors"] |= {
        ("lake", row["image_id"], row["encoder_version"]): np.array(row["embedding"]) for row in stored
    }
    return found


def _milvus(settings: Settings) -> tuple[dict[str, Any], dict[tuple[str, ...], np.ndarray]]:
    from evaluation.milvus_collection import collection_name
    from evaluation.vector_index import VectorIndex

    rows: dict[str, Any] = {}
    vectors = {}
    with VectorIndex(settings) as index:
        rows["alias"] = index.alias_target("shop")
        for row in lake.rows(settings, "SELECT encoder_version FROM encoders"):
            version = row["encoder_version"]
            if not index.count("shop", version):
                continue
            held = index._client.query(collection_name("shop", version), filter='key >= ""', output_fields=["*"])
            assert len(held) == len({row["key"] for row in held}) == index.count("shop", version)
            for item in sorted(held, key=lambda item: item["image_id"]):
                vectors["milvus", item["image_id"], version] = np.array(item.pop("embedding"))
                rows[f"{version} {item['image_id']}"] = item
    return rows, vectors


def _feast(settings: Settings, vectors: dict[tuple[str, ...], np.ndarray]) -> list[dict[str, Any]]:
    from vitrine.online_lookup import OnlineFeatures

    ids = [row["image_id"] for row in lake.rows(settings, "SELECT DISTINCT image_id FROM labels ORDER BY image_id")]
    found = OnlineFeatures(settings).lookup("shop", ids)
    for row in found:
        vector = row.pop("embedding")
        if vector is not None:
            vectors["feast", row["image_id"], row["encoder_version"]] = np.array(vector)
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs between two states; empty where they are equal."""
    said = [f"{name}: {one[name]} != {other[name]}" for name in one if name != "vectors" and one[name] != other[name]]
    mine, theirs = one["vectors"], other["vectors"]
    if mine.keys() != theirs.keys():
        said.append(f"vectors of {sorted(mine.keys() ^ theirs.keys())[:5]}")
    for key in mine.keys() & theirs.keys():
        cosine = mine[key] @ theirs[key] / np.linalg.norm(mine[key]) / np.linalg.norm(theirs[key])
        if not cosine > 0.9999:
            said.append(f"vector of {key}: cosine {cosine}")
    return said


# The nights


def run(project: Path, arguments: tuple[str, ...]) -> None:
    """The verb, undisturbed, in this process, whose Spark session is there."""
    from vitrine.cli import app

    here = Path.cwd()
    os.chdir(project)
    try:
        app(list(arguments), standalone_mode=False)
    finally:
        os.chdir(here)


def agrees(project: Path) -> None:
    from evaluation.consistency import check

    settings = load_settings(project)
    assert check(settings, "shop")["differences"] == []
    assert not list((settings.home / "staging").iterdir())


Draw = Callable[[int, int, int], Path]


@pytest.fixture
def photos(tmp_path: Path) -> Draw:
    """24 photos; ``photos(product, name, drawn)``: photo ``name`` of ``product`` becomes the drawn one ``drawn``."""
    from vitrine.datasets.drawn_photos import draw_photo, product

    def draw(number: int, name: int, drawn: int) -> Path:
        item = product(number)
        path = tmp_path / "photos" / item.slug / f"{name:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_photo(item, drawn, size=160))
        return path

    for number in range(4):
        for name in range(6):
            draw(number, name, name)
    return draw


def change_photos(draw: Draw, night: int) -> None:
    """Two changed, two new, one deleted, one moved to another product, one damaged, last night's damage mended."""
    for number in (0, 1):
        draw(number, 0, 10 * night)
    for number in (2, 3):
        draw(number, 5 + night, 5 + night)
    draw(0, night, night).unlink()
    draw(1, night, night).rename(draw(2, 10 + night, 0))
    draw(3, night - 1, night - 1)
    damaged = draw(3, night, night)
    damaged.write_bytes(damaged.read_bytes()[:-300])


FIRST_NIGHT = {
    "ingest": "lake/catalog/_delta_log/*.json",
    "embed": "staging/*/*/*.parquet",
    "index": "milvus.db/collections/*",
    "features": "feast/online.db-journal",
    "promote": "lake/promotions/_delta_log/*.json",
}


@pytest.mark.slow
def test_nights_of_kills(spark: object, tmp_path: Path, photos: Draw):
    """The second night's moments are the day's: a failure says where it killed."""
    chance = random.Random(time.strftime("%Y-%m-%d"))
    second_night = {verb: chance.choice(patterns) for verb, patterns in MOMENTS.items()}
    twin, killed = make_project(tmp_path / "twin"), make_project(tmp_path / "killed")
    for night, moments in enumerate((FIRST_NIGHT, second_night)):
        if night:
            change_photos(photos, night)
        told = []
        for verb, arguments in NIGHT.items():
            if verb == "promote" and night == 1:
                arguments = ("promote", "other", *arguments[2:])
            run(twin, arguments)
            later = chance.uniform(0, 0.3) if night else 0.0
            hit = kill_at(killed, arguments, moments[verb], later)
            told.append(f"{verb} {'killed' if hit else 'ended'} {later:.3f} s after {moments[verb]}")
            assert hit or night, told
            run(killed, arguments)
        assert differences(state(twin), state(killed)) == [], told
        agrees(twin)
        agrees(killed)
