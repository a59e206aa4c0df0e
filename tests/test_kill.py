"""``kill -9`` in the middle of a verb: the next run ends where one undisturbed run does.

``scripts/kill_nights.py`` does the same for as many kills as one asks for.
"""

import random
import time
from pathlib import Path

import pytest

from tests.kill_harness import (
    MOMENTS,
    NIGHT,
    Moment,
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

FIRST_NIGHT = {
    "ingest": "lake/catalog/_delta_log/*.json",
    "embed": "staging/*/*/*.parquet",
    "index": "milvus.db/collections/*",
    "features": "feast/online.db-journal",
    "promote": "lake/promotions/_delta_log/*.json",
}
SECONDS = {"ingest": 12.0, "embed": 15.0, "apply_head": 14.0}
"""About what a verb takes with its start; the others about 6."""


@pytest.mark.slow
def test_nights_of_kills(spark: object, tmp_path: Path):
    """The second night's moments are the day's: a failure says where it killed."""
    chance = random.Random(time.strftime("%Y-%m-%d"))
    second = {verb: draw_moment(chance, verb, SECONDS.get(verb, 6.0)) for verb in chance.sample(sorted(MOMENTS), 5)}
    nights = ({verb: Moment(pattern, 0.0) for verb, pattern in FIRST_NIGHT.items()}, second)
    twin, killed = make_project(tmp_path / "twin"), make_project(tmp_path / "killed")
    for night, moments in enumerate(nights):
        lay(tmp_path / "photos", night)
        told = []
        for verb in NIGHT:
            given = arguments(verb, night)
            run(twin, given)
            if verb in moments:
                hit = kill_at(killed, given, moments[verb])
                told.append(f"{verb} {'killed' if hit else 'ended'} {moments[verb]}")
                assert hit or night, told
            run(killed, given)
        assert differences(state(twin), state(killed)) == [], told
        assert (agrees(twin), agrees(killed)) == ([], []), told
