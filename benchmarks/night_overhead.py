"""What Airflow adds to a night: the DAG through its own scheduler, beside the same verbs by hand.

Two homes of drawn photos. In the first, the verbs of the nightly DAG are run by hand, one after the other; in the
second, the DAG is, by ``airflow standalone``, whose own start is not counted. Then the same again on each, with nothing
changed. Overhead is the night's time over that of the verbs, from the run's start to its end.

    python benchmarks/night_overhead.py --photos 500x20 --runs 1
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.airflow_server import AirflowServer
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.settings import load_settings

NIGHT, DATASET = "nightly_reembedding", "shop"


def configure(folder: Path, source: str, encoder: str) -> None:
    folder.mkdir(parents=True)
    (folder / "vitrine.toml").write_text(
        f'home = "home"\n[airflow]\nnightly = ""\n[nightly]\nencoders = ["{encoder}"]\n'
        f'[[nightly.datasets]]\nname = "{DATASET}"\nlayout = "folder"\nsource = "{source}"\n'
    )


def draw(photos: str, root: Path) -> None:
    """PRODUCTSxPHOTOS drawn photos as files: both homes read the same."""
    products, each = map(int, photos.split("x"))
    for number in range(products):
        item = product(number)
        (root / item.slug).mkdir(parents=True)
        for photo in range(each):
            (root / item.slug / f"{photo:03d}.jpg").write_bytes(draw_photo(item, photo, size=348))


def by_hand(folder: Path, source: str, encoder: str) -> dict[str, float]:
    """Seconds of each verb of a night, whole processes; those that a night without change skips are not asked."""
    of, by = ("--dataset", DATASET), ("--encoder", encoder)
    seconds: dict[str, float] = {}

    def verb(*arguments: str) -> dict[str, Any]:
        began = time.monotonic()
        command = [sys.executable, "-m", "vitrine", *arguments, "--json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        seconds[arguments[0]] = time.monotonic() - began
        if done.returncode:
            sys.exit(f"vitrine {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return dict(json.loads(done.stdout))

    verb("ingest", source, *of, "--layout", "folder", "--gate")
    if verb("pending", *of)["pending"]:
        verb("embed", *by, *of, "--gate")
        verb("evaluate", *by, *of, "--relevant", "product_id", "--with-serving", "--gate")
        verb("promote", encoder, *of, "--if-new")
        verb("report")
    return seconds


def by_airflow(server: AirflowServer) -> dict[str, float]:
    """Seconds of each task of a night, and of the run."""
    run_id = server.trigger(NIGHT)
    run = server.wait(NIGHT, run_id, seconds=7200)
    if run["state"] != "success":
        sys.exit(f"the night ended as {run['state']}; its log is {server.log}")
    tasks = server.tasks(NIGHT, run_id)
    seconds = {
        task["task_id"].rsplit(".", 1)[-1]: float(task["duration"] or 0)
        for task in tasks
        if task["state"] == "success" and task["operator"] != "EmptyOperator"
    }
    began, ended = (datetime.fromisoformat(run[name]) for name in ("start_date", "end_date"))
    return seconds | {"whole": (ended - began).total_seconds()}


def once(folder: Path, photos: Path, encoder: str) -> dict[str, dict[str, float]]:
    seconds: dict[str, dict[str, float]] = {}
    for name in ("hand", "airflow"):
        configure(folder / name, str(photos), encoder)
    for night in ("new", "unchanged"):
        by_verb = by_hand(folder / "hand", str(photos), encoder)
        seconds[f"hand, {night}"] = by_verb | {"whole": sum(by_verb.values())}
    os.chdir(folder / "airflow")
    with AirflowServer(load_settings(folder / "airflow")) as server:
        for night in ("new", "unchanged"):
            seconds[f"airflow, {night}"] = by_airflow(server)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", default="500x20", help="PRODUCTSxPHOTOS")
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--runs", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        draw(given.photos, Path(place) / "photos")
        runs = [once(Path(place) / str(run), Path(place) / "photos", given.encoder) for run in range(given.runs)]
    medians = {
        night: {step: statistics.median(run[night].get(step, 0.0) for run in runs) for step in runs[0][night]}
        for night in runs[0]
    }
    steps = ["ingest", "pending", "embed", "evaluate", "promote", "report", "summary", "whole"]
    print(f"| {given.photos}, median of {given.runs}, s | " + " | ".join(medians) + " |")
    print("|---|" + "---:|" * len(medians))
    for step in steps:
        cells = (f"{night[step]:.1f}" if step in night else "-" for night in medians.values())
        print(f"| {step} | " + " | ".join(cells) + " |")
    over = medians["airflow, new"]["whole"] / medians["hand, new"]["whole"] - 1
    print(f"\noverhead of the new night: {over:.1%}")


if __name__ == "__main__":
    main()
