"""``vitrine tune auto`` from photos to a decision, and again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.verbs_here import vitrine
from training.ladder.cut import cut
from training.ladder.judge import Judges
from training.ladder.rungs import NetworkRung
from vitrine import lake, runs
from vitrine.cli.training_sets import training_sets
from vitrine.encoders import tuned
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[tune.auto]
rungs = ["linear", "full"]

[tune.full]
epochs = 3
batch_size = 16
warmup_epochs = 1
precision = "fp32"
"""


def decided(*more: str) -> dict[str, Any]:
    asked = ("tune", "auto", "--encoder", "small", "--dataset", "shop", *more)
    result: dict[str, Any] = json.loads(vitrine(*asked, "--json"))
    return result


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_a_decision_from_photos_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    vitrine("ingest", "16x10", "--dataset", "shop", "--layout", "generated", "--test-share", "0.2")
    settings = load_settings(tmp_path)

    with pytest.raises(UserError, match="--budget '3 weeks': give a time as 90s"):
        decided("--budget", "3 weeks")
    first = decided()
    assert [decision["strategy"] for decision in first["decisions"]] == ["linear", "full"]
    linear, full = first["decisions"]
    assert [(probe["share"], probe["seed"]) for probe in linear["probes"]] == [(0.5, 0), (0.5, 1), (1.0, 0), (1.0, 1)]
    assert full["why"].endswith("cheap beside its probes or the budget") and full["found"] is not None
    outcomes = {decision["strategy"]: decision["outcome"] for decision in first["decisions"]}
    taken = [strategy for strategy, outcome in outcomes.items() if outcome == "climbed"]
    if taken:  # the weights are random: what is better is decided by the photos
        made = tuned.find(settings, first["encoder"])
        assert made and made.strategy == taken[-1] and made.encoder_version == first["encoder_version"]
        assert first["against_base"]["known"]["value"] > 0
    else:
        assert (first["encoder"], first["strategy"], first["encoder_version"]) == ("small", "pretrained", None)
    page = Path(first["page"]).read_text()
    assert "Which tuning of small is worth its cost for shop?" in page and "https://" not in page.split("<script")[0]
    (recorded,) = runs.read(settings, lake.matches(verb="tune auto", state="done"))
    steps = recorded.read(runs.LadderFigures).decisions
    assert [(step.strategy, step.found) for step in steps] == [
        (each["strategy"], each["found"]) for each in first["decisions"]
    ]

    before = {path: path.stat().st_mtime_ns for path in (settings.home / "models").rglob("result.json")}
    again = decided()
    same = ("encoder", "encoder_version", "strategy", "against_base")
    assert {key: again[key] for key in same} == {key: first[key] for key in same}
    assert {path: path.stat().st_mtime_ns for path in (settings.home / "models").rglob("result.json")} == before
    left_out = decided("--budget", "1s")
    assert {each["outcome"] for each in left_out["decisions"]} == {"left out"} and left_out["encoder"] == "small"
    check_a_networks_probe(settings)


def check_a_networks_probe(settings: Settings) -> None:
    """It learns from a quarter of the products, and embeds the judge's photos in the order of the vectors' rows."""
    sets = training_sets(settings, [("shop", "small"), ("shop", None)], "product_id", None)
    whole, photos = sets["shop", "small"], sets["shop", None]
    judges, nothing = Judges(settings, whole), lambda: pytest.fail("nothing is tuned")
    rung = NetworkRung(settings, judges, photos, "small", settings.tune.full, nothing, 0.0)
    products = rung.products_of(0.4)
    seconds, answers = rung.probe(0.4, 0, products)
    judge = judges.of(products, 0)
    assert seconds > 0 and len(answers.known.values) == judge.is_known.sum() and (answers.known.values >= 0).all()
    assert np.isfinite(answers.new.values).any() and len(answers.new.values) == judge.is_new.sum()
    learned = cut(settings, photos, 0.25, 0)
    assert [whole.classes[at] for at in range(len(whole.classes)) if learned.learned[at]] == learned.rows.classes
    assert len(learned.rows.classes) == 4
