"""Nights with kills: two projects follow the same photos; in one, verbs are killed at moments inside their work.

What the test and ``scripts/kill_nights.py`` share: the photos of each night, how a verb is started and killed with all
that it started, and what has to be equal afterwards.
"""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.support.verbs_here import vitrine
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import heads, tuned
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
encoders = ["small", "other", "small__top__shop"]
datasets = [{name = "shop", source = "../photos"}]
"""
HEAD = "small__top__shop"
# What differs between two runs of the same: when, and by which run.
CLOCKS = {
    "catalog": ("content_seen_at", "updated_at"),
    "labels": ("valid_from",),
    "quarantine": ("first_seen", "last_seen"),
    "embeddings": ("event_timestamp", "created_timestamp"),
    "product_embeddings": ("event_timestamp", "created_timestamp"),
    "encoders": ("created_at",),
    "promotions": ("promoted_at",),
    "metrics": ("computed_at", "run_id"),
    "query_results": (),
}
FLOATS = {"embedding", "similarities", "value", "low", "high"}
EMBEDDED = (
    "lake/encoders/_delta_log/*.json",
    "lake/embeddings/encoder_version=*/*.parquet",
    "lake/embeddings/_delta_log/*",
    "lake/embeddings/_delta_log/*.json",
    "lake/product_embeddings/_delta_log/*.json",
)
# What the home shows inside a verb's work: a change of the files that match, and the moment has come.
MOMENTS = {
    "ingest": (
        "lake/catalog/dataset=*/*.parquet",
        "lake/catalog/_delta_log/*",
        "lake/catalog/_delta_log/*.json",
        "lake/labels/dataset=*/*.parquet",
        "lake/labels/_delta_log/*.json",
    ),
    "embed": ("staging/*/_temporary/*/*/*/*/*", "staging/*/*/*.parquet", *EMBEDDED),
    "apply_head": EMBEDDED,
    "index": (
        "milvus.db.lock",
        "milvus.db/collections/*",
        "milvus.db/collections/*/wal/*",
        "milvus.db/collections/*/manifest.json*",
        "milvus.db/collections/*/partitions/*/*/*",
        "milvus.db/collections/*/schema.json",
    ),
    "features": ("feast/*", "feast/registry.db*", "feast/online.db-journal", "feast/online.db"),
    "evaluate": ("milvus.db.lock", "lake/query_results/_delta_log/*.json", "lake/metrics/_delta_log/*.json"),
    "promote": (
        "lake/promotions/*.parquet",
        "lake/promotions/_delta_log/*.json",
        "milvus.db/aliases.json",
        "feast/registry.db*",
        "lake/runs/_delta_log/*.json",
    ),
}
NETWORKS = ("--encoder", "small", "--encoder", "other")
NIGHT = {
    "ingest": ("ingest", "../photos", "--dataset", "shop"),
    "embed": ("embed", *NETWORKS, "--dataset", "shop"),
    "apply_head": ("embed", "--encoder", HEAD, "--dataset", "shop"),
    "index": ("index", *NETWORKS, "--encoder", HEAD, "--dataset", "shop"),
    "evaluate": ("evaluate", *NETWORKS, "--dataset", "shop"),
    "features": ("features", "--dataset", "shop"),
    "promote": ("promote", "small", "--dataset", "shop", "--force", "--reason", "test"),
}


def arguments(verb: str, night: int) -> tuple[str, ...]:
    """``vitrine``'s arguments; each night promotes another encoder than the last."""
    given = NIGHT[verb]
    return ("promote", ("small", "other", HEAD)[night % 3], *given[2:]) if verb == "promote" else given


# The photos


def photos(night: int) -> dict[str, bytes]:
    """By path, what the shop has after ``night``: each night some changed, new, deleted, moved, damaged and mended."""
    from vitrine.datasets.drawn.photos import draw_photo, product

    found: dict[str, bytes] = {}

    def put(number: int, name: int, drawn: int) -> str:
        item = product(number)
        path = f"{item.slug}/{name:02d}.jpg"
        found[path] = draw_photo(item, drawn, size=160)
        return path

    for number in range(4):
        for name in range(6):
            put(number, name, name)
    for at in range(1, night + 1):
        for number in (0, 1):
            put(number, 0, 10 * at)
        for number in (2, 3):
            put(number, 5 + at, 5 + at)
        found.pop(put(0, 1 + at % 5, at))
        put(2, 100 + at, 0)  # the photo of another product, moved here
        put(3, (at - 1) % 6, at - 1)
        path = put(3, at % 6, at)
        found[path] = found[path][:-300]
    return found


def lay(folder: Path, night: int) -> None:
    """Make ``folder`` hold the photos of ``night``; those that are there already are left as they are."""
    wanted = photos(night)
    for path in [path for path in folder.rglob("*.jpg") if str(path.relative_to(folder)) not in wanted]:
        path.unlink()
    for name, data in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


# A project and its verbs


def make_project(root: Path) -> Path:
    """A project folder with an empty home, but for a head that was tuned elsewhere; one that is there stays."""
    if root.exists():
        return root
    root.mkdir(parents=True)
    (root / "vitrine.toml").write_text(CONFIG)
    settings = load_settings(root)
    _make_head(settings)
    return root


def _make_head(settings: Settings) -> None:
    from vitrine.encoders import by_name

    random_ = np.random.default_rng(0)
    widths = ((512, 32), (32, 16), (16, 4))
    layers = [(random_.normal(size=shape).astype(np.float32), np.ones(shape[1], np.float32)) for shape in widths]
    head = heads.Head(tuple(layers[:2]), layers[2], ("a", "b", "c", "d"))
    folder = settings.home / "models" / "top" / "key"
    folder.mkdir(parents=True)
    heads.save(head, folder)
    (folder / "result.json").write_text("{}")
    base = by_name.version(settings, "small")
    made = tuned.Tuned(
        **{"name": HEAD, "strategy": "top", "base": "small", "base_version": base, "source_dataset": "shop"},
        **{"encoder_version": heads.version(base, head), "label": "product_id", "training_set": "x", "seed": 0},
        **{"folder": "models/top/key", "dim": head.dim, "backbone": "torchvision/squeezenet1_0"},
        **{"family": "supervised", "licence": "none", "cost": {}},
    )
    tuned.register(settings, made)


def run(project: Path, given: tuple[str, ...]) -> None:
    """The verb, undisturbed, in this process, whose Spark session is there."""
    with contextlib.chdir(project):
        vitrine(*given)


def start(project: Path, given: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """``vitrine ARGUMENTS`` in a session of its own; what it says goes to ``said.log``."""
    env = os.environ | {"SPARK_LOCAL_DIRS": str(project / "spark")}
    with (project / "said.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "vitrine", *given],
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
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            found.add((str(path), stat.st_size, stat.st_mtime_ns))
    return found


@dataclass(frozen=True)
class Moment:
    """``later`` seconds after files that match ``pattern`` were written; without a pattern, after the start."""

    pattern: str | None
    later: float

    def __str__(self) -> str:
        return f"{self.later:.3f} s after {self.pattern or 'its start'}"


def draw_moment(chance: random.Random, verb: str, seconds: float) -> Moment:
    """By turns a moment that files show, and any moment of the ``seconds`` that the verb takes."""
    if chance.random() < 0.5:
        return Moment(chance.choice(MOMENTS[verb]), chance.uniform(0, 0.3))
    return Moment(None, chance.uniform(0.2, seconds))


def kill_at(project: Path, given: tuple[str, ...], moment: Moment, wait: float = 120) -> bool:
    """Start the verb and kill it at ``moment``; False where it ended before."""
    home = project / ".vitrine"
    before = reading(home, moment.pattern) if moment.pattern else set()
    process = start(project, given)
    until = time.monotonic() + wait
    while moment.pattern and process.poll() is None and time.monotonic() < until:
        if not reading(home, moment.pattern) <= before:
            break
        time.sleep(0.001)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment.later)
    return kill(process)


# What has to be equal


def state(project: Path) -> dict[str, Any]:
    """By table and store: a checksum of all rows without their clocks and floats, their number, and the floats."""
    settings = load_settings(project)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, clocks in CLOCKS.items():
        order = ", ".join((*TABLES[name].key, *(clock for clock in clocks if clock != "run_id")))
        found = lake.rows(settings, f"SELECT * FROM {name} ORDER BY {order}")
        rows[name] = [{c: _moved(value, project) for c, value in row.items() if c not in clocks} for row in found]
    rows["query_results"] = [_by_neighbour(row) for row in rows["query_results"]]
    rows |= _milvus(settings)
    rows["feast"] = _feast(settings)
    return {name: _summary(found) for name, found in rows.items()}


def _moved(value: Any, project: Path) -> Any:
    """A path inside the project as it is from there: the other project has its own."""
    return value.replace(str(project), ".") if isinstance(value, str) else value


def _by_neighbour(row: dict[str, Any]) -> dict[str, Any]:
    """The neighbours (here: all photos) by id, each with its similarity: those that are alike to the last digits of a
    float change places with the batch that they were embedded in."""
    columns = ("neighbours", "similarities", "relevance")
    ranked = sorted(zip(*(row[name] for name in columns), strict=True))
    return row | {name: [each[at] for each in ranked] for at, name in enumerate(columns)}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    plain = [{column: value for column, value in row.items() if column not in FLOATS} for row in rows]
    digest = hashlib.sha256("\n".join(map(repr, plain)).encode()).hexdigest()
    floats = [np.ravel(row[c] if row[c] is not None else []) for row in rows for c in sorted(FLOATS & row.keys())]
    return {"rows": len(rows), "sha256": digest, "floats": floats, "plain": plain}


def _milvus(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    from evaluation.milvus.collection import collection_name
    from evaluation.milvus.vector_index import VectorIndex

    with VectorIndex(settings) as index:
        found: dict[str, list[dict[str, Any]]] = {"alias": [{"version": index.alias_target("shop")}]}
        for row in lake.rows(settings, "SELECT encoder, encoder_version FROM encoders"):
            encoded, version = EncodedSet.of(row | {"dataset": "shop"}), row["encoder_version"]
            if index.count(encoded):
                held = index._client.query(collection_name("shop", version), filter='key >= ""', output_fields=["*"])
                assert len(held) == len({row["key"] for row in held}) == index.count(encoded)
                found[f"milvus {version}"] = sorted(map(dict, held), key=lambda item: item["image_id"])
    return found


def _feast(settings: Settings) -> list[dict[str, Any]]:
    from vitrine.online.lookup import OnlineFeatures

    ids = [row["image_id"] for row in lake.rows(settings, "SELECT DISTINCT image_id FROM labels ORDER BY image_id")]
    return OnlineFeatures(settings).lookup("shop", ids)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What differs between two states; empty where they are equal. Vectors by cosine > 0.9999, figures by 2e-3."""
    said = [f"only in one: {name}" for name in one.keys() ^ other.keys()]
    for name in one.keys() & other.keys():
        mine, theirs = one[name], other[name]
        if (mine["rows"], mine["sha256"]) != (theirs["rows"], theirs["sha256"]):
            unlike = [pair for pair in zip(mine["plain"], theirs["plain"], strict=False) if pair[0] != pair[1]][:2]
            said.append(f"{name}: {mine['rows']} and {theirs['rows']} rows: {unlike}")
            continue
        for x, y in zip(mine["floats"], theirs["floats"], strict=True):
            if not _alike(x, y):
                said.append(f"{name}: {x[:3]} and {y[:3]} of {len(x)}")
                break
    return said


def _alike(x: Any, y: Any) -> bool:
    if x.shape != y.shape or len(x) <= 10:
        return bool(x.shape == y.shape and np.allclose(x.astype(float), y.astype(float), atol=2e-3, equal_nan=True))
    return bool(x @ y / np.linalg.norm(x) / np.linalg.norm(y) > 0.9999)


def agrees(project: Path) -> list[str]:
    """What ``vitrine check`` finds, and checkpoints that were left."""
    from evaluation.consistency.check import state
    from evaluation.consistency.differences import sentence

    settings = load_settings(project)
    left = [f"left: {path}" for path in (settings.home / "staging").glob("*")]
    return [sentence(found) for found in state(settings, "shop")["differences"]] + left
