"""``vitrine advise`` on drawn photos: what it finds, writes and leaves to ``embed``; killed; without budget."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.advice import confirm, race
from tests.support.verbs_here import told, vitrine
from vitrine import lake, runs
from vitrine.cli import advice
from vitrine.errors import GateRefused, UserError
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

[encoders.not_for_shops]
backbone = "torchvision/squeezenet1_1"
weights = "random:3"
licence = "CC-BY-NC-4.0"

[prices]
core_hour = 0.5
currency = "EUR"
"""
BOTH = ("--encoder", "small", "--encoder", "other")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: object) -> Settings:
    """A data set of 30 products with 6 photos each, and a second one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    monkeypatch.setattr(advice, "SIZES", ((12, 1_000), (None, 1_000)))
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    vitrine("ingest", "30x6", "--dataset", "shop", "--layout", "generated")
    return load_settings(tmp_path)


def rows(settings: Settings, sql: str) -> list[dict[str, Any]]:
    return lake.rows(settings, sql)


def embeds(settings: Settings, encoder: str) -> int:
    return len(runs.read(settings, lake.matches(verb="embed", encoder=encoder, state="done")))


@pytest.mark.slow
def test_it_answers_from_a_sample_and_embed_takes_its_vectors_over(shop: Settings):
    found = told("advise", "--dataset", "shop", *BOTH, "--margin", "0.9")
    assert {option["confirmed_by"] for option in found["options"]} == {0}  # thirty products are too few
    assert (found["state"], found["looks"]) == ("decided", 1)  # within so wide a margin, twelve products suffice
    chosen = next(option for option in found["options"] if option["verdict"] == "chosen")
    assert (chosen["encoder"], chosen["products"], chosen["photos"]) == (found["encoder"], 12, 72)
    assert 0 <= chosen["low"] <= chosen["value"] <= chosen["high"] <= 1
    assert chosen["use"]["first_night_seconds"] > 0 and chosen["use"]["first_night_money"] > 0
    assert {option["strategy"] for option in found["options"]} == {"pretrained", "linear"}
    assert Path(found["page"]) == shop.reports / "advice_shop.html"
    assert found["shorter"] is None or found["shorter"]["bytes"] < found["shorter"]["full_bytes"]
    assert "Which encoder for shop?" in Path(found["page"]).read_text()
    written = rows(shop, "SELECT * FROM advice ORDER BY encoder, strategy")
    assert [(row["encoder"], row["strategy"]) for row in written] == [
        *(("other", "linear"), ("other", "pretrained"), ("other+small", "linear")),
        *(("small", "linear"), ("small", "pretrained")),
    ]
    assert {row["verdict"] for row in written} >= {"chosen"}
    assert rows(shop, "SELECT count(*) AS n FROM embeddings")[0]["n"] == 144

    rest = told("embed", "--encoder", "small", "--dataset", "shop")
    assert (rest["embedded"], rest["computed"]) == (108, 108)  # 180 less the sample's 72
    measured = told("evaluate", "--encoder", "small", "--dataset", "shop")
    again = told("advise", "--dataset", "shop", "--encoder", "small", "--margin", "0")
    as_it_is = next(option for option in again["options"] if option["strategy"] == "pretrained")
    assert as_it_is["photos"] == 180 and (again["looks"], again["state"]) == (2, "decided")
    assert "as measured on all of it" in Path(again["page"]).read_text()
    assert as_it_is["measured"] == pytest.approx(measured["metrics"]["mMP@5"], abs=1e-4)
    assert embeds(shop, "small") == 2  # nothing is computed twice


@pytest.mark.slow
def test_every_fifth_product_confirms_and_is_not_raced(shop: Settings, monkeypatch: pytest.MonkeyPatch):
    raced, judge = [], race.judge

    def judged(contenders: Any, products: Any, *arguments: Any) -> Any:
        raced.append(len(products))
        assert {len(each.values) for each in contenders} == {len(products)}
        return judge(contenders, products, *arguments)

    monkeypatch.setattr(confirm, "FROM", 10)
    monkeypatch.setattr(race, "judge", judged)
    found = told("advise", "--dataset", "shop", "--encoder", "small", "--margin", "0.9")
    chosen = found["options"][0]
    assert (chosen["products"], chosen["confirmed_by"], raced) == (12, 2, [60])  # 10 products of 6 photos are asked
    assert chosen["low"] <= chosen["value"] <= chosen["high"]
    assert "confirmed by 2 products that did not choose it" in Path(found["page"]).read_text()
    assert {row["confirmed_by"] for row in rows(shop, "SELECT confirmed_by FROM advice")} == {2}


@pytest.mark.slow
def test_killed_it_goes_on_and_undecided_it_says_so(shop: Settings, monkeypatch: pytest.MonkeyPatch):
    ask, asked = advice.Work.ask, []
    monkeypatch.setattr(advice, "SIZES", ((12, 1_000), (20, 1_000)))  # of the whole catalog, one is chosen

    def killed(work: Any, name: str, drawn: Any) -> None:
        if asked:
            raise RuntimeError("killed")
        asked.append(name)
        ask(work, name, drawn)

    monkeypatch.setattr(advice.Work, "ask", killed)
    with pytest.raises(RuntimeError, match="killed"):
        told("advise", "--dataset", "shop", *BOTH, "--margin", "0")
    monkeypatch.setattr(advice.Work, "ask", ask)
    assert sorted(embeds(shop, name) for name in ("small", "other")) == [0, 1]
    found = told("advise", "--dataset", "shop", *BOTH, "--margin", "0")
    assert (found["state"], found["looks"]) == ("undecided", 2)  # networks of random weights are alike, drawn twice
    assert [embeds(shop, name) for name in ("small", "other")] == [2, 2]  # one of each sample
    text = vitrine("advise", "--dataset", "shop", *BOTH, "--margin", "0")
    assert [embeds(shop, name) for name in ("small", "other")] == [2, 2]
    assert "Undecided between" in text and "all that is measured at once was asked" in text


@pytest.mark.slow
def test_applied_it_passes_its_gates_and_comes_first_in_the_nights_once(shop: Settings, tmp_path: Path):
    config = tmp_path / "vitrine.toml"
    nightly = '[nightly]\nencoders = ["other"]  # what serves\n[[nightly.datasets]]\nname = "shop"\nsource = "30x6"\n'
    asked = ("advise", "--dataset", "shop", "--encoder", "small", "--margin", "0.9", "--apply")
    config.write_text(f"{CONFIG}{nightly}[gates]\nmin_value = 0.99\n")
    with pytest.raises(GateRefused, match="gate metrics refused small"):
        told(*asked)
    assert load_settings().nightly.encoders == ("other",)
    assert rows(shop, "SELECT count(*) AS n FROM embeddings WHERE encoder = 'small'")[0]["n"] == 180

    config.write_text(f"{CONFIG}{nightly}[gates]\nmin_value = 0\nmin_above_chance = 0\n")
    found = told(*asked)
    name = "small" if found["strategy"] == "pretrained" else "small__linear__shop"
    assert found["applied"] == {
        **{"encoder": name, "config": str(config), "changed": True, "datasets": ["shop"]},
        "embedded": found["applied"]["embedded"],
    }
    assert load_settings().nightly.encoders == (name, "other") and "# what serves" in config.read_text()
    gates = {run.gate for run in runs.read(shop, lake.matches(encoder=name, state="done"))}
    assert gates >= {"embeddings", "sync", "metrics"}
    before = config.read_bytes()
    again = told(*asked)["applied"]
    assert (again["changed"], again["embedded"], config.read_bytes()) == (False, 0, before)


@pytest.mark.slow
def test_two_networks_joined_are_asked_named_and_applied(
    shop: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of random networks none is sure to be the best: here the race is won by the pair."""
    both, judge, raced = "other+small with a linear head", race.judge, {}

    def judged(contenders: Any, *arguments: Any) -> race.Standing:
        raced.update({each.name: each for each in contenders})
        return replace(judge(contenders, *arguments), left={}, remaining=[both], chosen=both)

    monkeypatch.setattr(race, "judge", judged)
    vitrine("ingest", "30x6", "--dataset", "shop", "--layout", "generated", "--test-share", "0.3")
    gates = "[gates]\nmin_value = 0\nmin_above_chance = 0\n"
    nightly = '[nightly]\nencoders = ["other"]\n[[nightly.datasets]]\nname = "shop"\nsource = "30x6"\n'
    (tmp_path / "vitrine.toml").write_text(f"{CONFIG}{nightly}{gates}")
    found = told("advise", "--dataset", "shop", *BOTH, "--apply")
    assert (found["encoder"], found["strategy"]) == ("other+small", "linear")
    alone = raced["other with a linear head"].cost + raced["small with a linear head"].cost
    assert raced[both].cost == pytest.approx(alone)
    name = "other_small__linear__shop"
    assert found["applied"]["encoder"] == name and load_settings().nightly.encoders == (name, "other")
    counted = rows(shop, "SELECT encoder, count(*) AS n FROM embeddings GROUP BY encoder ORDER BY encoder")
    assert [(row["encoder"], row["n"]) for row in counted] == [("other", 180), (name, 180), ("small", 180)]


@pytest.mark.slow
def test_a_budget_of_next_to_nothing_tries_nothing_and_says_what_it_would_take(shop: Settings):
    for budget in ("1s", "0.000001EUR"):
        found = told("advise", "--dataset", "shop", *BOTH, "--budget", budget)
        assert (found["state"], found["encoder"], found["options"], found["looks"]) == ("undecided", None, [], 0)
        assert f"the budget of {budget} has" in found["why"] and "on 72 photos takes about" in found["why"]
        assert {each["encoder"] for each in found["left_out"]} == {"small", "other"}
    assert not rows(shop, "SELECT 1 FROM embeddings LIMIT 1")
    assert "a larger --budget tries" in vitrine("advise", "--dataset", "shop", *BOTH, "--budget", "1s")


@pytest.mark.slow
def test_what_it_refuses(shop: Settings):
    with pytest.raises(UserError, match="give a time as 90s"):
        told("advise", "--dataset", "shop", "--budget", "soon")
    with pytest.raises(UserError, match=r"no encoder is left to try: not_for_shops: the licence, CC-BY-NC-4.0"):
        told("advise", "--dataset", "shop", "--encoder", "not_for_shops")
    with pytest.raises(UserError, match="unknown encoder"):
        told("advise", "--dataset", "shop", "--encoder", "nothing_like_it")
    assert not rows(shop, "SELECT 1 FROM advice LIMIT 1")
