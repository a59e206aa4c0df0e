"""``kill -9`` in the middle of a verb: the next run ends where one undisturbed run does.

``scripts/kill_nights.py`` does the same for as many kills as one asks for.
"""

import random
import time
from pathlib import Path

import pytest

from tests.support.kill_harness import (
    NIGHT,
    agrees,
    arguments,
    differences,
    draw_moment,
    kill_at,
    lay,
    make_project,
    run,
    state,
)

SECONDS = {"ingest": 12.0, "embed": 15.0, "apply_head": 14.0}
"""About what a verb takes with its start; the others about 6."""


@pytest.mark.slow
def test_a_night_of_kills(spark: object, tmp_path: Path):
    """Verbs of a night that follows another; which and when are the day's: a failure says where it killed."""
    chance, told, hits = random.Random(time.strftime("%Y-%m-%d")), [], 0
    doomed = chance.sample(sorted(NIGHT), 5)
    twin, killed = make_project(tmp_path / "twin"), make_project(tmp_path / "killed")
    for night in range(2):
        lay(tmp_path / "photos", night)
        for verb in NIGHT:
            given = arguments(verb, night)
            run(twin, given)
            for _ in range(night * doomed.count(verb)):
                moment = draw_moment(chance, verb, SECONDS.get(verb, 6.0))
                hit = kill_at(killed, given, moment)
                told.append(f"{verb} {'killed' if hit else 'ended'} {moment}")
                hits += hit
            run(killed, given)
    assert hits, told
    assert differences(state(twin), state(killed)) == [], told
    assert (agrees(twin), agrees(killed)) == ([], []), told
