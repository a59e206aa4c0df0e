"""Nights of kills, as many as asked for: ``python scripts/kill_nights.py --kills 200 --folder FOLDER``.

Each night the photos change; an undisturbed project goes through its verbs, in another each verb is first killed
(SIGKILL, with all that it started) some times in a row at random moments, then run to its end. After each night both
have to be equal, and ``vitrine check`` has to find nothing. What was done is kept in FOLDER/kills.jsonl: the same
command goes on there, up to ``--kills``; ``--minutes`` ends it before, between two nights.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support import kill_harness as harness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--burst", type=int, default=3, help="at most so many kills of a verb in a row")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    asked.folder = asked.folder.resolve()
    asked.folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * asked.minutes
    start_spark(asked.folder)
    twin, killed = (harness.make_project(asked.folder / name) for name in ("twin", "killed"))
    done = read(asked.folder)
    longest = 0.0
    while sum(night["kills"] for night in done) < asked.kills and time.monotonic() + longest < until:
        started = time.monotonic()
        number = len(done)
        chance = random.Random(f"{asked.seed} {number}")  # noqa: S311
        night = one_night(asked.folder / "photos", twin, killed, number, chance, asked.burst)
        done.append(night)
        with (asked.folder / "kills.jsonl").open("a") as file:
            file.write(json.dumps(night) + "\n")
        if night["differences"]:
            sys.exit(f"night {number} differs: {night}")
        longest = max(longest, time.monotonic() - started)
        print(f"night {number}: {night['kills']} kills in {longest:.0f} s, equal", flush=True)
    report(done)


def start_spark(folder: Path) -> None:
    """The session of this process, for what runs undisturbed."""
    from spark_jobs.session import build_session
    from vitrine.setting_sections import SparkSettings
    from vitrine.settings import Settings

    conf = {"spark.driver.memory": "1g"}
    build_session(Settings(home=folder / "spark", spark=SparkSettings(master="local[2,4]", conf=conf)), "kills")


def read(folder: Path) -> list[dict]:
    path = folder / "kills.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def one_night(photos: Path, twin: Path, killed: Path, number: int, chance: random.Random, burst: int) -> dict:
    harness.lay(photos, number)
    kills, told = 0, []
    for verb in harness.NIGHT:
        given = harness.arguments(verb, number)
        harness.run(twin, given)
        for _ in range(chance.randint(1, burst)):
            seconds = {"ingest": 12.0, "embed": 15.0, "apply_head": 14.0}.get(verb, 6.0)
            moment = harness.draw_moment(chance, verb, seconds)
            hit = harness.kill_at(killed, given, moment, wait=40)
            kills += hit
            told.append(f"{verb} {'killed' if hit else 'ended'} {moment}")
        harness.run(killed, given)
    wrong = harness.differences(harness.state(twin), harness.state(killed))
    wrong += harness.agrees(twin) + harness.agrees(killed)
    return {"night": number, "kills": kills, "told": told, "differences": wrong}


def report(done: list[dict]) -> None:
    by_verb: dict[str, int] = {}
    for line in (line for night in done for line in night["told"]):
        verb, what, _ = line.split(" ", 2)
        by_verb[verb] = by_verb.get(verb, 0) + (what == "killed")
    kills, wrong = sum(night["kills"] for night in done), sum(bool(night["differences"]) for night in done)
    print(f"{kills} kills in {len(done)} nights: {by_verb}; nights that differ: {wrong}")


if __name__ == "__main__":
    main()
