"""``vitrine advise --tuning`` on drawn photos: what is probed, where it is told, killed, applied, refused."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.advice import tuning
from tests.support.verbs_here import told, vitrine
from training.ladder import climb
from vitrine import lake, runs
from vitrine.cli import advice
from vitrine.encoders import tuned
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[encoders.other]
backbone = "torchvision/squeezenet1_1"
weights = "random:2"
input_size = 64

[tune.auto]
rungs = ["linear", "top", "from_head"]

[tune.top]
trials = 3
epochs = 3
executions = 1
final_epochs = 4
units = [128, 128]

[tune.from_head]
epochs = 2
batch_size = 16
precision = "fp32"

[prices]
core_hour = 0.5

[gates]
min_value = 0
min_above_chance = 0
max_drop = 1
max_category_drop = 1
"""
ASKED = ("advise", "--dataset", "shop", "--margin", "0.9", "--tuning")
PROBED = {"top", "from_head"}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: object) -> Settings:
    """24 products of 8 photos, a quarter of them in the split test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    monkeypatch.setattr(advice, "SIZES", ((16, 1_000), (None, 1_000)))
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    vitrine("ingest", "24x8", "--dataset", "shop", "--layout", "generated", "--test-share", "0.25")
    return load_settings(tmp_path)


def results(settings: Settings) -> dict[Path, int]:
    """Every process of tuning that came to its end, with the time of it."""
    return {path: path.stat().st_mtime_ns for path in (settings.home / "models").rglob("result.json")}


def climbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is probed is worth it: the weights are random."""
    monkeypatch.setattr(climb, "verdict", lambda predicted, gain: "climb")


@pytest.mark.slow
def test_the_best_two_are_probed_on_the_sample_killed_and_told(shop: Settings, monkeypatch: pytest.MonkeyPatch):
    def killed(*arguments: Any) -> Any:
        raise RuntimeError("killed")

    both = (*ASKED, "--encoder", "small", "--encoder", "other")
    with monkeypatch.context() as patched:
        patched.setattr(tuning, "with_probes", killed)
        with pytest.raises(RuntimeError, match="killed"):
            told(*both)
    before = results(shop)
    found = told(*both)
    assert before and results(shop) == before  # killed, the same command finds what was probed
    probed = {(each["encoder"], each["strategy"]): each for each in found["options"] if each["tuning"]}
    left = {(each["encoder"], each["strategy"]): each["why"] for each in found["left_out"]}
    assert {*probed, *left} == {(encoder, strategy) for encoder in ("small", "other") for strategy in PROBED}
    assert not left, left
    for option in probed.values():
        gain = option["tuning"]
        assert gain["gain_low"] <= gain["gain"] <= gain["gain_high"] and option["measured"] is None
        assert gain["probe_seconds"] > 0 and gain["tuning_seconds"] > 0 and gain["tuning_money"] > 0
    # Twelve photos in a hundred and twenty-eight are no more than the sample's; no encoder was made or named.
    sizes = [run.figures for run in runs.read(shop, lake.matches(verb="training_set", state="done"))]
    assert sizes and all(0 < each["train"] + each["validation"] < 128 for each in sizes)
    assert lake.rows(shop, "SELECT count(*) AS n FROM embeddings")[0]["n"] == 2 * 128
    assert tuned.names(shop) == []
    said = [line for line in Path(found["page"]).read_text().splitlines() if "Probed for" in line]
    assert said

    rows = lake.rows(shop, "SELECT * FROM advice WHERE strategy IN ('top', 'from_head') ORDER BY encoder, strategy")
    assert [(row["encoder"], row["strategy"]) for row in rows] == sorted(probed)
    for row in rows:
        option = probed[row["encoder"], row["strategy"]]
        assert (row["gain"], row["over"]) == (option["tuning"]["gain"], option["tuning"]["over"])
        assert (row["verdict"], row["encoder_version"], row["measured"]) == (option["verdict"], None, None)

    climbs(monkeypatch)
    found = told(*ASKED, "--encoder", "small")
    assert (found["encoder"], found["strategy"], found["state"]) == ("small", "from_head", "decided")
    chosen = found["options"][0]
    assert (chosen["verdict"], chosen["tuning"]["over"]) == ("chosen", "top") and results(shop) == before
    text = vitrine(*ASKED, "--encoder", "small")
    assert "For search in shop: small tuned from a head: the race chose small" in text
    assert "Tune it: vitrine tune full --from-head --dataset shop --encoder small" in text


@pytest.mark.slow
def test_an_advised_network_is_tuned_and_embedded_before_nights_take_it(
    shop: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    climbs(monkeypatch)
    nightly = '[nightly]\nencoders = ["other"]\n[[nightly.datasets]]\nname = "shop"\nsource = "24x8"\n'
    config = CONFIG.replace('["linear", "top", "from_head"]', '["linear", "from_head"]')
    (tmp_path / "vitrine.toml").write_text(config + nightly)
    found = told(*ASKED, "--encoder", "small", "--apply")
    name = "small__from_head__shop"
    assert (found["strategy"], found["applied"]["encoder"], found["applied"]["embedded"]) == ("from_head", name, 192)
    assert load_settings().nightly.encoders == (name, "other")
    made = tuned.find(shop, name)
    assert made and (made.strategy, made.base) == ("from_head", "small")
    counted = lake.rows(shop, "SELECT encoder, count(*) AS n FROM embeddings GROUP BY encoder ORDER BY encoder")
    assert [(row["encoder"], row["n"]) for row in counted] == [("small", 128), (name, 192)]  # the base: a sample alone


@pytest.mark.slow
def test_without_room_in_the_budget_nothing_is_probed_and_it_says_so(shop: Settings, tmp_path: Path):
    (tmp_path / "vitrine.toml").write_text(CONFIG.replace("[tune.auto]", '[tune.auto]\nbudget = "1s"'))
    found = told(*ASKED, "--encoder", "small")
    assert found["state"] == "decided" and not any(each["tuning"] for each in found["options"])
    assert {(each["strategy"], each["why"]) for each in found["left_out"]} == {
        (strategy, "about 30 s for its training set are beyond the budget") for strategy in PROBED
    }
    assert "a larger budget probes small with a perceptron, small tuned from a head" in found["would_change"]
    assert results(shop) == {}


@pytest.mark.slow
def test_what_probes_cannot_tell_is_refused_before_anything_is_measured(shop: Settings):
    with pytest.raises(UserError, match="--tuning with --use tagging: probes tell"):
        told(*ASKED, "--use", "tagging")
    vitrine("ingest", "24x2", "--dataset", "whole", "--layout", "generated")
    with pytest.raises(UserError, match="data set 'whole' has no split 'train'"):
        told("advise", "--dataset", "whole", "--tuning")
    assert not lake.rows(shop, "SELECT 1 FROM embeddings LIMIT 1")
