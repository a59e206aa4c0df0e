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
rungs = ["linear", "from_head"]

[tune.from_head]
epochs = 1
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


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: object) -> Settings:
    """16 products of 6 photos, a quarter of them in the split test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    monkeypatch.setattr(advice, "SIZES", ((12, 1_000), (None, 1_000)))
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    vitrine("ingest", "16x6", "--dataset", "shop", "--layout", "generated", "--test-share", "0.25")
    return load_settings(tmp_path)


def results(settings: Settings) -> dict[Path, int]:
    """Every process of tuning that came to its end, with the time of it."""
    return {path: path.stat().st_mtime_ns for path in (settings.home / "models").rglob("result.json")}


def climbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is probed is worth it: the weights are random."""
    monkeypatch.setattr(climb, "verdict", lambda predicted, gain: "climb")


@pytest.mark.long
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
    assert {*probed, *left} == {("small", "from_head"), ("other", "from_head")}
    assert not left, left
    for option in probed.values():
        gain = option["tuning"]
        assert gain["gain_low"] <= gain["gain"] <= gain["gain_high"] and option["measured"] is None
        assert gain["probe_seconds"] > 0 and gain["tuning_seconds"] > 0 and gain["tuning_money"] > 0
    # The sample's photos of the split train alone are learned from, and no encoder is made or named.
    sizes = [run.figures for run in runs.read(shop, lake.matches(verb="training_set", state="done"))]
    assert sizes and all(0 < each["train"] + each["validation"] < 72 for each in sizes)
    assert lake.rows(shop, "SELECT count(*) AS n FROM embeddings")[0]["n"] == 2 * 72
    assert tuned.names(shop) == []
    said = [line for line in Path(found["page"]).read_text().splitlines() if "Probed for" in line]
    assert said

    rows = lake.rows(shop, "SELECT * FROM advice WHERE strategy = 'from_head' ORDER BY encoder")
    assert [(row["encoder"], row["strategy"]) for row in rows] == sorted(probed)
    for row in rows:
        option = probed[row["encoder"], row["strategy"]]
        assert (row["gain"], row["over"]) == (option["tuning"]["gain"], option["tuning"]["over"])
        assert (row["verdict"], row["encoder_version"], row["measured"]) == (option["verdict"], None, None)

    climbs(monkeypatch)
    text = vitrine(*ASKED, "--encoder", "small")
    assert results(shop) == before
    assert "For search in shop: small tuned from a head: the race chose small, and by its probes" in text
    assert "Tune it: vitrine tune full --from-head --dataset shop --encoder small" in text


@pytest.mark.long
def test_an_advised_network_is_tuned_and_embedded_before_nights_take_it(
    shop: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    climbs(monkeypatch)
    nightly = '[nightly]\nencoders = ["other"]\n[[nightly.datasets]]\nname = "shop"\nsource = "16x6"\n'
    (tmp_path / "vitrine.toml").write_text(CONFIG + nightly)
    found = told(*ASKED, "--encoder", "small", "--apply")
    name = "small__from_head__shop"
    assert (found["strategy"], found["applied"]["encoder"], found["applied"]["embedded"]) == ("from_head", name, 120)
    assert load_settings().nightly.encoders == (name, "other")
    made = tuned.find(shop, name)
    assert made and (made.strategy, made.base) == ("from_head", "small")
    counted = lake.rows(shop, "SELECT encoder, count(*) AS n FROM embeddings GROUP BY encoder ORDER BY encoder")
    assert [(row["encoder"], row["n"]) for row in counted] == [("small", 96), (name, 96)]


@pytest.mark.slow
def test_what_cannot_be_probed_is_refused_or_left_out_in_a_sentence(shop: Settings, tmp_path: Path):
    with pytest.raises(UserError, match="--tuning with --use tagging: probes tell"):
        told(*ASKED, "--use", "tagging")
    vitrine("ingest", "16x2", "--dataset", "whole", "--layout", "generated")
    with pytest.raises(UserError, match="data set 'whole' has no split 'train'"):
        told("advise", "--dataset", "whole", "--tuning")
    assert not lake.rows(shop, "SELECT 1 FROM embeddings LIMIT 1")

    (tmp_path / "vitrine.toml").write_text(CONFIG.replace("[tune.auto]", '[tune.auto]\nbudget = "1s"'))
    found = told(*ASKED, "--encoder", "small")
    assert found["state"] == "decided" and not any(each["tuning"] for each in found["options"])
    (left,) = found["left_out"]
    assert left == {
        **{"encoder": "small", "strategy": "from_head"},
        "why": "about 30 s for its training set are beyond the budget",
    }
    assert "a larger budget probes small tuned from a head" in found["would_change"]
    assert results(shop) == {}
