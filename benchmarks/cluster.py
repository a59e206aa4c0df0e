"""A standalone Spark cluster on this machine: what a second worker brings, what large photos and a lost worker cost.

Workers of one core, each held to a core of its own; the driver takes what they leave. Drawn photos, each file another
content. Seconds are of embedding and commits, without Spark's start (``vitrine embed --json``'s own), and of the stage
that embeds alone: on a small catalog, most of the rest is the start of the executors and Delta's many short stages.
What tasks did is read from Spark's event log.

    python benchmarks/cluster.py --photos 2000 --large 40
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import growth

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.spark_cluster import Cluster, Worker, cluster

LARGE = 4000  # pixels a side


def vitrine(home: Path, master: str, *arguments: str) -> dict[str, Any]:
    """What the whole command said."""
    events = home / "events"
    events.mkdir(exist_ok=True)
    conf = {
        "spark.driver.host": "127.0.0.1",
        "spark.executor.memory": "1g",
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }
    env = os.environ | {"VITRINE_SPARK__MASTER": master, "VITRINE_SPARK__CONF": json.dumps(conf)}
    command = [sys.executable, "-m", "vitrine", *arguments, "--json"]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"vitrine {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout))


@dataclass
class Tasks:
    """The tasks of the stage that took longest."""

    ends: dict[str, float]
    """By executor: when it had nothing more to do, in seconds after the stage's first task began."""
    again: int
    """That did not end well, and ran again."""

    @property
    def seconds(self) -> float:
        """From its first task's begin to its last one's end."""
        return max(self.ends.values())

    @property
    def waited(self) -> float:
        """How long the last one worked while another had nothing left to do, seconds."""
        return max(self.ends.values()) - min(self.ends.values())


def tasks(home: Path) -> Tasks:
    """Of the newest application's event log."""
    log = max((home / "events").iterdir(), key=lambda path: path.stat().st_mtime)
    ended = [json.loads(line) for line in log.open() if line.startswith('{"Event":"SparkListenerTaskEnd"')]
    stages: dict[int, list[dict[str, Any]]] = {}
    for event in ended:
        stages.setdefault(event["Stage ID"], []).append(event)
    longest = max(stages.values(), key=lambda events: sum(_seconds(event["Task Info"]) for event in events))
    infos = [event["Task Info"] for event in longest]
    began = min(info["Launch Time"] for info in infos)
    ends: dict[str, float] = {}
    for info in infos:
        ends[info["Executor ID"]] = max(ends.get(info["Executor ID"], 0.0), (info["Finish Time"] - began) / 1000)
    return Tasks(ends, sum(event["Task End Reason"]["Reason"] != "Success" for event in longest))


def _seconds(info: dict[str, Any]) -> float:
    return float(info["Finish Time"] - info["Launch Time"]) / 1000


def ingested(folder: Path, name: str, files: list[Path], encoder: str) -> Path:
    """A home with ``files`` in its catalog."""
    home = folder / name
    home.mkdir()
    (home / "vitrine.toml").touch()
    lines = (f"{path},p{number // growth.PHOTOS_A_PRODUCT}" for number, path in enumerate(files))
    (home / "photos.csv").write_text("\n".join(["uri,product_id", *lines, ""]))
    vitrine(home, "local[2,4]", "ingest", "photos.csv", "--dataset", "shop", "--layout", "table")
    return home


def embedded(
    folder: Path, name: str, files: list[Path], encoder: str, workers: int, meanwhile: Callable[[Path, Cluster], None]
) -> tuple[float, Tasks]:
    """Seconds and tasks of embedding ``files`` on a fresh cluster; none of them may be missing at the end."""
    home = ingested(folder, name, files, encoder)
    with cluster(home, [Worker("2g", core) for core in sorted(os.sched_getaffinity(0))[:workers]]) as started:
        threading.Thread(target=meanwhile, args=(home, started), daemon=True).start()
        done = vitrine(home, started.master, "embed", "--encoder", encoder, "--dataset", "shop")
    if done["embedded"] != len(files):
        raise SystemExit(f"{len(files)} photos, {done['embedded']} embedded: {done}")
    return float(done["seconds"]), tasks(home)


def nothing(home: Path, started: Cluster) -> None:
    pass


def lose_one(home: Path, started: Cluster) -> None:
    """Kill the last worker, once the first task has left its vectors."""
    while not any((home / ".vitrine" / "staging").glob("*/*/*.parquet")):
        time.sleep(0.05)
    started.lose(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--large", type=int, default=40, help=f"of them, photos of {LARGE} x {LARGE} pixels")
    parser.add_argument("--encoder", default="efficientnet_lite0")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        folder = Path(made)
        with Pool() as pool:
            pictures = pool.map(growth.draw, range(min(growth.PICTURES, given.photos)))
        for number in range(given.photos):
            growth.write(folder, number, pictures)
        files = [folder / f"{number}.jpg" for number in range(given.photos)]
        print(f"{given.photos} photos, {given.encoder}\n")
        print(
            "| | workers | seconds | of them embedding | photos/s there | the last task alone, s | tasks run again |\n"
            "|---|---|---|---|---|---|---|"
        )

        def row(what: str, name: str, workers: int, meanwhile: Callable[[Path, Cluster], None] = nothing) -> None:
            seconds, found = embedded(folder, name, files, given.encoder, workers, meanwhile)
            alone = f"{found.waited:.1f}" if workers > 1 and meanwhile is nothing else ""
            rate = given.photos / found.seconds
            figures = f"{workers} | {seconds:.1f} | {found.seconds:.1f} | {rate:.1f} | {alone} | {found.again}"
            print(f"| {what} | {figures} |", flush=True)

        row("one size", "one", 1)
        row("one size", "two", 2)
        row("one size, a worker killed", "killed", 2, lose_one)
        if given.large:
            large = [growth.draw(number, LARGE) for number in range(min(4, given.large))]
            for number in range(given.large):
                growth.write(folder, number, large, edition=1)
            row(f"{given.large} of them large", "large", 2)


if __name__ == "__main__":
    main()
