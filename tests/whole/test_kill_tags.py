"""``vitrine tag``, killed between its two commits: the next run ends as an undisturbed one."""

from pathlib import Path
from typing import Any

import pytest

from tests.spark_jobs.test_tag_catalog import MOMENT, V, classifier, put
from tests.support.kill_harness import Moment, kill_at, run
from vitrine import lake
from vitrine.encoders import classifiers
from vitrine.settings import Settings, load_settings
from vitrine.tables import CLASSIFIERS, PROMOTIONS

TAG = ("tag", "--dataset", "d", "--label", "category")
FIRST: dict[str, tuple[str | None, list[float]]] = {
    f"{product}{photo}": (None, [1.0, 0, 0, 0]) for product in "pqr" for photo in range(4)
}
"""Three products of four photos, none of which has a category."""
SECOND = {name: each for name, each in FIRST.items() if name != "q1"} | {"p1": (None, [0, 1.0, 0, 0])}
"""One photo left, one shows something else."""


def project(root: Path) -> Settings:
    root.mkdir()
    (root / "vitrine.toml").write_text("")
    settings = load_settings(root)
    put(settings, FIRST)
    made = classifier()
    classifiers.save(settings, made)
    row = {"dataset": "d", "promoted_at": MOMENT, "encoder": "e", "encoder_version": V}
    lake.append(settings, PROMOTIONS, [{**row, "catalog_version": "c", "gates": "{}", "forced": False}])
    row |= {"label": "category", "classifier_version": made.version, "kind": "ridge", "training_set": "t"}
    lake.append(settings, CLASSIFIERS, [{**row, "threshold": 0.6, "gate": "{}"}])
    return settings


def tables(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """All rows but for the clock, by key."""
    found = {}
    for name, key in (("tags", "image_id"), ("product_tags", "product_id")):
        rows = lake.rows(settings, f"SELECT * FROM {name} ORDER BY {key}")
        assert len(rows) == len({(row[key], row["label"]) for row in rows})
        found[name] = [{column: value for column, value in row.items() if column != "tagged_at"} for row in rows]
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_tagging_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    undisturbed, killed = project(tmp_path / "undisturbed"), project(tmp_path / "killed")
    for settings in (undisturbed, killed):
        run(settings.root, TAG)
        put(settings, SECOND)
    before = tables(killed)
    assert before == tables(undisturbed) and [len(rows) for rows in before.values()] == [12, 3]
    run(undisturbed.root, TAG)
    after = tables(undisturbed)
    assert before["product_tags"] != after["product_tags"]

    assert kill_at(killed.root, TAG, Moment("lake/tags/_delta_log/*.json", 0))
    assert tables(killed) == {"tags": after["tags"], "product_tags": before["product_tags"]}
    run(killed.root, TAG)
    assert tables(killed) == after
