"""A source that suddenly lacks far more photos than a shop drops in a night is taken for a broken one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.consistency.check import state
from spark_jobs.ingest_catalog import ingest
from vitrine import lake
from vitrine.errors import GateRefused, UserError
from vitrine.settings import Settings
from vitrine.tables import TABLES


def versions(settings: Settings) -> dict[str, int]:
    return {name: lake.version(settings, table) for name, table in TABLES.items()}


@pytest.mark.usefixtures("spark")
def test_a_source_that_is_half_away_deletes_nothing(settings: Settings, draw: Callable[..., Path]):
    asked = settings.model_copy(update={"gates": settings.gates.model_copy(update={"removed_from": 8})})
    root = draw(5, 2)
    ingest(asked, str(root), "d")
    before = versions(settings)
    photos = sorted(root.rglob("*.jpg"))
    kept = {path: path.read_bytes() for path in photos}
    for path in photos[:2]:
        path.unlink()
    photos[2].write_bytes(kept[photos[2]][:-300])
    with pytest.raises(GateRefused, match=r"3 of the 10 photos of 'd' .*2 are not listed, 1 cannot.*--allow-removals"):
        ingest(asked, str(root), "d")
    root.rename(root.parent / "elsewhere")
    with pytest.raises(UserError, match="cannot list"):
        ingest(asked, str(root), "d", allow_removals=True)
    root.mkdir()
    with pytest.raises(UserError, match="no photos in"):
        ingest(asked, str(root), "d", allow_removals=True)
    assert versions(settings) == before
    assert state(settings, "d")["differences"] == []
    root.rmdir()
    (root.parent / "elsewhere").rename(root)
    photos[2].write_bytes(kept[photos[2]])
    assert ingest(asked, str(root), "d")["removed"] == 2  # a fifth is not more than a fifth
    photos[2].unlink()
    photos[3].unlink()
    with pytest.raises(GateRefused):
        ingest(asked, str(root), "d")
    assert ingest(asked, str(root), "d", allow_removals=True)["removed"] == 2
    photos[4].unlink()
    photos[5].unlink()
    assert ingest(asked, str(root), "d")["removed"] == 2  # of eight, which is too few to ask
